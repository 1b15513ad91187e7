"""A third-party linter has no finding about the Dockerfiles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = [*sorted((ROOT / "apps").glob("*/Dockerfile")), ROOT / ".devcontainer" / "Dockerfile"]


def hadolint(*files: Path) -> list[str]:
    finished = subprocess.run(
        [
            *(
                Path(sys.executable).parent / "uv",
                "run",
                "--quiet",
                "--frozen",
                "--project",
                ROOT / "tools" / "pipeline",
            ),
            *("hadolint", "--no-fail", "--format", "json", *files),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [f"{each['file']}:{each['line']}: {each['code']} {each['message']}" for each in json.loads(finished.stdout)]


def test_hadolint_finds_nothing_in_the_services_dockerfiles() -> None:
    assert {"admin", "api", "auth", "web", ".devcontainer"} <= {file.parent.name for file in DOCKERFILES}
    assert hadolint(*DOCKERFILES) == []


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM python\nRUN cd /tmp && sudo apt-get install curl\n")
    assert hadolint(careless)
