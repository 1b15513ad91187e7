"""One environment, brought up by `./alva up` as a person would, for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from alva.region import daemon
from tests.conftest import reserved_region_config

PROJECT = Path(__file__).resolve().parents[2]
COPIED = (
    "apps",
    "infrastructure",
    "src",
    "pyproject.toml",
    "uv.lock",
    "package.json",
    "package-lock.json",
    ".dockerignore",
)


@dataclass(frozen=True)
class Rehearsal:
    """A copy of the project that may be edited, with a home and ports of its own."""

    project: Path
    variables: dict[str, str] = field(repr=False)

    def alva(
        self, *arguments: str, timeout_seconds: float = 240, standard_input: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "alva", *arguments],
            env={**os.environ, **self.variables, "PYTHONPATH": str(self.project / "src"), **variables},
            cwd=self.project,
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    @property
    def home(self) -> Path:
        return Path(self.variables["ALVA_HOME"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.variables['ALVA_EDGE_PORT']}"

    @property
    def inbox(self) -> str:
        return f"http://127.0.0.1:{self.variables['ALVA_INBOX_PORT']}"


def copy_of_the_project(folder: Path) -> Path:
    """The files that `./alva` needs, run with this checkout's installation."""
    folder.mkdir()
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cdk.out"))
        elif source.exists():
            shutil.copy2(source, folder / name)
    (folder / "node_modules").symlink_to(PROJECT / "node_modules")
    return folder


@contextmanager
def rehearsal_in(folder: Path) -> Iterator[Rehearsal]:
    """A rehearsal in `folder` whose ports and addresses are its own, not yet up."""
    with reserved_region_config(folder / "alva" / ".alva") as config:
        yield Rehearsal(project=copy_of_the_project(folder / "alva"), variables=daemon.environment_of(config))


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """The environment, up."""
    with rehearsal_in(tmp_path_factory.mktemp("rehearsal")) as rehearsal:
        up = rehearsal.alva("up")
        try:
            assert up.returncode == 0, up.stderr
            yield rehearsal
        finally:
            rehearsal.alva("down", "--wipe")
