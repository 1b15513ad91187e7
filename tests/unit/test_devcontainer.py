"""The development container: one definition for the command line and for editors. The tests do not run Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from alva.region.config import RegionConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".devcontainer"
PORTS = {
    getattr(RegionConfig(home=Path("/")), name) for name in ("api_port", "edge_port", "edge_tls_port", "inbox_port")
}
FAKE_DOCKER = """\
#!/bin/sh
echo "$*" >>{calls}
case "$1 $2" in
    "version "*) exit {version} ;;
    "container inspect") [ -e {calls}.running ] && echo true ;;
    "run --detach") touch {calls}.running ;;
esac
"""


def run(folder: Path, *, version: int = 0) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    docker = folder / "docker"
    docker.write_text(FAKE_DOCKER.format(calls=calls, version=version))
    docker.chmod(0o755)
    ended = subprocess.run(
        [FOLDER / "run", "./alva", "up", "two words"],
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended, [line for line in calls.read_text().splitlines() if not line.startswith("version")]


def test_command_runs_in_a_container_that_is_created_once(tmp_path: Path) -> None:
    ended, calls = run(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert [call.split()[0] for call in calls] == ["container", "rm", "build", "run", "exec"]
    assert calls[-1].endswith(" ./alva up two words")
    started = calls[-2]
    assert {int(port) for port in re.findall(r"--publish 127\.0\.0\.1:(\d+):\1", started)} == PORTS
    assert f"--volume {ROOT}:/workspaces/alva " in started
    # Packages for Linux must not replace the machine's own packages.
    assert set(re.findall(r":/workspaces/alva/(\S+)", started)) == {".venv", "node_modules", ".alva"}
    _, again = run(tmp_path)
    assert [call.split()[0] for call in again] == ["container", "exec"]


def test_missing_docker_is_reported_with_a_next_step(tmp_path: Path) -> None:
    ended, calls = run(tmp_path, version=1)
    assert (ended.returncode, calls) == (1, [])
    assert ended.stderr.startswith("cannot start the development container: Docker does not answer\n  next: ")


def test_editors_use_the_same_container() -> None:
    definition = json.loads((FOLDER / "devcontainer.json").read_text())
    assert definition["build"] == {"dockerfile": "Dockerfile"}
    assert "--privileged" in definition["runArgs"]
    assert set(definition["forwardPorts"]) == {int(port) for port in definition["portsAttributes"]} == PORTS
    assert {mount.rpartition("/")[2] for mount in definition["mounts"]} == {
        ".venv",
        "node_modules",
        ".alva",
        ".cache",
    }
    ports = re.search(r"for port in ([\d ]+);", (FOLDER / "ports.sh").read_text())
    assert ports is not None
    assert set(map(int, ports[1].split())) == PORTS


def test_container_has_the_python_of_the_services_images() -> None:
    bases = {
        line.split()[1]
        for file in [FOLDER / "Dockerfile", *(ROOT / "apps").glob("*/Dockerfile")]
        for line in file.read_text().splitlines()
        if line.startswith("FROM python")
    }
    assert len(bases) == 1
