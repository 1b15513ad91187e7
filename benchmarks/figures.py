"""The figures of the README, measured: installation, first and later `up`, a release, memory at rest, `down`.

    .venv/bin/python benchmarks/figures.py [--fresh] [--keep] [--json]

Runs in a clone, with a home and ports of its own, beside a region that may already run. `--fresh` also times its
installation, with this machine's package caches as they are. `--keep` leaves the clone, for runs one after the other:
after its deletion, ext4 makes new files slowly for a minute (recently_deleted in Linux's fs/ext4/ialloc.c).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TARGET_SECONDS = {
    "fresh clone to serving": 25.0,
    "up, everything installed": 15.0,
    "up, nothing to do": 1.5,
    "release of one service": 7.0,
    "down": 5.0,
}
TARGET_RESIDENT_MB = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="also time a fresh clone to serving")
    parser.add_argument("--keep", action="store_true", help="leave the clone in the folder for temporary files")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="alva-figures-"))
    try:
        figures = measure(folder / "alva", fresh=arguments.fresh)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures, indent=2) if arguments.json else as_table(figures))


def measure(project: Path, *, fresh: bool) -> dict[str, dict[str, float]]:
    """Time each step once, in the order of first use, in a clone of HEAD at `project`."""
    clone(project)
    seconds: dict[str, float] = {}
    first = share_installation(project)
    if fresh:
        seconds["fresh clone to serving"] = first
    environment = isolated(project)
    try:
        seconds["up, everything installed"] = timed(lambda: alva(project, environment, "up"))
        seconds["up, nothing to do"] = timed(lambda: alva(project, environment, "up"))
        edit_api(project)
        seconds["release of one service"] = timed(lambda: alva(project, environment, "up"))
        time.sleep(5)  # At rest: the old tasks have stopped and the new ones have finished their start.
        resident = resident_megabytes(Path(environment["ALVA_HOME"]))
    finally:
        seconds["down"] = timed(lambda: alva(project, environment, "down"))
    figures = {name: {"target": TARGET_SECONDS[name], "measured": round(value, 1)} for name, value in seconds.items()}
    figures["resident at rest, MB"] = {"target": TARGET_RESIDENT_MB, "measured": round(resident, 1)}
    return figures


def clone(project: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(project)], check=True)


def share_installation(project: Path) -> float:
    """Install as the launcher does for `up`, the only verb that needs the local region. Return the seconds.

    This `up` has a home of its own, which stays: to delete it would make the next `up` slow.
    """
    home = project.parent / "first"
    environment = {**isolated(project), "ALVA_HOME": str(home)}
    seconds = timed(lambda: alva(project, environment, "up"))
    alva(project, environment, "down")
    shutil.copytree(home / "cdk.out", project / ".alva" / "cdk.out")
    return seconds


def isolated(project: Path) -> dict[str, str]:
    return {
        **os.environ,
        "ALVA_HOME": str(project / ".alva"),
        "ALVA_API_PORT": "14566",
        "ALVA_EDGE_PORT": "18080",
        "ALVA_EDGE_TLS_PORT": "18443",
        "ALVA_INBOX_PORT": "18025",
        "ALVA_LOOPBACK_OCTET": "77",
    }


def alva(project: Path, environment: Mapping[str, str], *arguments: str) -> None:
    run = subprocess.run([project / "alva", *arguments], env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"cannot measure: ./alva {' '.join(arguments)} ended with {run.returncode}\n{run.stderr[-4000:]}")


def timed(step: Callable[[], None]) -> float:
    start = time.monotonic()
    step()
    return time.monotonic() - start


def edit_api(project: Path) -> None:
    module = project / "apps" / "api" / "app.py"
    module.write_text(module.read_text() + "\n# a change that makes a new image\n")


def resident_megabytes(home: Path) -> float:
    """Proportional set size of the region and all its children, in MB: shared pages are counted once."""
    region = int(json.loads((home / "region.json").read_text())["pid"])
    return sum(proportional_set_kilobytes(pid) for pid in [region, *descendants(region)]) / 1024


def descendants(pid: int) -> list[int]:
    children = [
        int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def proportional_set_kilobytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def as_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    width = max(map(len, figures))
    lines = [f"{'':{width}}  {'target':>8}  {'measured':>8}"]
    lines += [f"{name:{width}}  {figure['target']:8.1f}  {figure['measured']:8.1f}" for name, figure in figures.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if shutil.which("git") is None:
        sys.exit("cannot measure: git is not installed")
    main()
