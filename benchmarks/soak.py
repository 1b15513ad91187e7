"""Resources of a region over many releases and log lines: whether memory, files or disk grow.

    .venv/bin/python benchmarks/soak.py [--releases 200] [--log-lines 1000000] [--json]

Runs in a clone, with a home and ports of its own. Each release changes web and deploys it by `./alva deploy`; every
fourth one has an image that exits at its start, and must end as "rolled back" (5). The log lines go into one log
group, in equal parts after each release. A column is measured before the first release, halfway and after the last,
each after the tasks of the previous release have stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figures import alva, clone, descendants, isolated, proportional_set_kilobytes, share_installation
from releases import client

ROLLED_BACK = 5
FAILS_EVERY = 4
GROUP, STREAM = "/soak", "lines"
LINES_PER_CALL = 1_000
LINE = "soak line {:>8} that is about as long as the access log's lines are: GET /api/plans HTTP/1.1 200 17 ms"
SETTLE_SECONDS = 20
FAILURE = "\nraise SystemExit('soak: this image ends at its start')\n"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The region's resources at one moment."""

    releases: int
    log_lines: int
    region_resident_mb: float
    """Of the region's own process."""
    all_proportional_mb: float
    """Of it and its children; shared pages are counted once."""
    open_files: int
    """Of the region's own process."""
    processes: int
    control_groups: int
    disk_mb: float
    state_mb: float
    """The control plane's database; part of `disk_mb`."""
    release_seconds: float
    """Of the last good release."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--releases", type=int, default=200)
    parser.add_argument("--log-lines", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alva-soak-", ignore_cleanup_errors=True) as folder:
        samples = list(measure(Path(folder) / "alva", arguments.releases, arguments.log_lines))
    print(json.dumps([asdict(sample) for sample in samples], indent=2) if arguments.json else as_table(samples))


def measure(project: Path, releases: int, log_lines: int) -> Iterator[Sample]:
    """Run the soak in a clone of HEAD at `project`."""
    clone(project)
    share_installation(project)
    environment = isolated(project)
    module = project / "apps" / "web" / "app.py"
    good = module.read_text()
    try:
        alva(project, environment, "up")
        logs = client(environment, "logs")
        logs.create_log_group(logGroupName=GROUP)
        logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
        # One release before the first measurement, so that all code is loaded and a former version exists.
        module.write_text(f"{good}\n# release 0\n")
        seconds = release(project, environment, succeeds=True)
        yield sample(environment, 0, 0, seconds)
        written = 0
        for number in range(1, releases + 1):
            succeeds = number % FAILS_EVERY != 0
            module.write_text(f"{good}\n# release {number}\n" + ("" if succeeds else FAILURE))
            took = release(project, environment, succeeds=succeeds)
            seconds = took if succeeds else seconds
            wanted = log_lines * number // releases
            write_lines(logs, written, wanted)
            written = wanted
            if number in (releases // 2, releases):
                yield sample(environment, number, written, seconds)
    finally:
        alva(project, environment, "down")


def release(project: Path, environment: Mapping[str, str], *, succeeds: bool) -> float:
    """Release web and return the seconds that it took. Exit if the result is not the expected one."""
    started = time.monotonic()
    run = subprocess.run(
        [project / "alva", "deploy", "--service", "web", "--yes"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != (0 if succeeds else ROLLED_BACK):
        sys.exit(f"cannot measure: ./alva deploy ended with {run.returncode}\n{run.stderr[-4000:]}")
    return time.monotonic() - started


def write_lines(logs: Any, start: int, end: int) -> None:
    for first in range(start, end, LINES_PER_CALL):
        now = int(time.time() * 1000)
        numbers = range(first, min(first + LINES_PER_CALL, end))
        events = [{"timestamp": now, "message": LINE.format(number)} for number in numbers]
        logs.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=events)


def sample(environment: Mapping[str, str], releases: int, log_lines: int, release_seconds: float) -> Sample:
    """Measure after the replaced tasks have stopped and expired data has been deleted."""
    time.sleep(SETTLE_SECONDS)
    home = Path(environment["ALVA_HOME"])
    region = int(json.loads((home / "region.json").read_text())["pid"])
    processes = [region, *descendants(region)]
    return Sample(
        releases=releases,
        log_lines=log_lines,
        region_resident_mb=round(resident_megabytes(region), 1),
        all_proportional_mb=round(sum(map(proportional_set_kilobytes, processes)) / 1024, 1),
        open_files=len(list(Path(f"/proc/{region}/fd").iterdir())),
        processes=len(processes),
        control_groups=control_groups(home),
        disk_mb=round(megabytes(home), 1),
        state_mb=round(sum(file.stat().st_size for file in home.glob("state/control-plane.sqlite*")) / 2**20, 1),
        release_seconds=round(release_seconds, 1),
    )


def resident_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) / 1024


def control_groups(home: Path) -> int:
    """Return the number of control groups below the region's own."""
    from alva.region.memory import group_of

    folder = group_of(home).folder
    return sum(1 for each in folder.rglob("*") if each.is_dir()) if folder.exists() else 0


def megabytes(folder: Path) -> float:
    used = subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=False).stdout
    return int(used.split()[0]) / 1024


def as_table(samples: list[Sample]) -> str:
    rows = [asdict(each) for each in samples]
    names = list(rows[0])
    width = max(map(len, names))
    return "\n".join(
        f"{name.replace('_', ' '):{width}}" + "".join(f"{row[name]:>12}" for row in rows) for name in names
    )


if __name__ == "__main__":
    main()
