"""Runs the `sh` blocks of every runbook, unchanged and in order, in the environment of the rehearsal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PROJECT, Rehearsal

FOLDER = PROJECT / "docs" / "runbooks"

LAST = ("restore-from-snapshot.md",)
"""Changes the environment's settings permanently."""

ELSEWHERE = ("add-a-service.md", "remove-a-service.md")
"""Run one after the other, with a release that fails between them: `tests/faults/test_any_service.py`."""

RUNBOOKS = sorted((f for f in FOLDER.glob("*.md") if f.name != "README.md"), key=lambda f: (f.name in LAST, f.name))

ON_EVERY_PUSH = ("roll-back.md", "stuck-release.md")
"""The runbooks that are run on every push; all are run every night."""

TYPED = "sk-typed-by-the-runbook\n"
"""The answers to a runbook's placeholders and questions."""


def blocks(file: Path) -> list[str]:
    """The shell blocks of a runbook. Indented blocks are not run: they apply to AWS only, or to one case."""
    return re.findall(r"^```sh\n(.*?)^```$", file.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shell(rehearsal: Rehearsal) -> dict[str, str]:
    """An operator's shell at the rehearsal."""
    return shell_at(rehearsal)


def shell_at(rehearsal: Rehearsal) -> dict[str, str]:
    """A shell's environment at a rehearsal: `./alva` in the working folder, `aws` on PATH."""
    launcher = rehearsal.project / "alva"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m alva "$@"\n')
    launcher.chmod(0o755)
    # Version 1 of the AWS CLI ignores AWS_ENDPOINT_URL for RDS; the option applies to all services.
    aws = rehearsal.project / "bin" / "aws"
    aws.parent.mkdir(exist_ok=True)
    aws.write_text(f'#!/bin/sh\nexec {PROJECT}/tools/pipeline/.venv/bin/aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"\n')
    aws.chmod(0o755)
    tools = PROJECT / "tools" / "pipeline"
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "sync", "--quiet", "--frozen", "--project", tools], check=True)
    return {
        **os.environ,
        **rehearsal.variables,
        "PYTHONPATH": str(rehearsal.project / "src"),
        "PATH": f"{aws.parent}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{rehearsal.variables['ALVA_API_PORT']}",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
    }


def test_every_runbook_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (FOLDER / "README.md").read_text()))
    assert listed == {file.name for file in RUNBOOKS}


def follow(file: Path, rehearsal: Rehearsal, shell: dict[str, str]) -> None:
    """Run the blocks of a runbook."""
    found = blocks(file)
    assert found, "a runbook has shell blocks"
    run_blocks(found, rehearsal, shell)


def run_blocks(found: list[str], rehearsal: Rehearsal, shell: dict[str, str], *, timeout_seconds: float = 400) -> None:
    """Run these shell blocks."""
    for block in found:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=rehearsal.project,
            env=shell,
            input=TYPED,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(f, id=f.stem, marks=[] if f.name in ON_EVERY_PUSH else pytest.mark.nightly)
        for f in RUNBOOKS
        if f.name not in ELSEWHERE
    ],
)
def test_runbook_works_as_it_is_written(file: Path, rehearsal: Rehearsal, shell: dict[str, str]) -> None:
    follow(file, rehearsal, shell)
