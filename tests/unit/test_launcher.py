"""The launcher on machines that lack something: a clear error each, before anything is half-installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = (
    *("sh", "awk", "cat", "cksum", "cut", "df", "dirname", "env", "flock", "grep", "mkdir"),
    *("readlink", "rm", "sed", "tac", "tail", "uname"),
)
FAKE_PYTHON = """\
#!/bin/sh
case "$*" in
    *version_info*) echo {version} ;;
    *ensurepip*) exit {ensurepip} ;;
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m pip --version") [ -e "$0" ] ;;
    "-m pip install "*) echo '{pip_says}' >&2; exit 1 ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


class Machine:
    """A copy of the launcher, and a PATH with nothing but what a Debian always has."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "alva"
        self.path = folder / "bin"
        self.path.mkdir()
        for program in (*PROGRAMS, "cp"):
            found = shutil.which(program)
            assert found is not None, program
            (self.path / program).symlink_to(found)
        for file in ("alva", "pyproject.toml", "uv.lock", "package.json", "package-lock.json", ".npmrc"):
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / file, self.root / file)
        for file in ("apps/kit/pyproject.toml", "infrastructure/pyproject.toml"):
            (self.root / file).parent.mkdir(parents=True)
            shutil.copy(REPOSITORY / file, self.root / file)

    def add_python(self, version: str, *, name: str = "python3", ensurepip: int = 0, pip_says: str = "") -> None:
        program = self.path / name
        program.write_text(FAKE_PYTHON.format(version=version, ensurepip=ensurepip, pip_says=pip_says))
        program.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "alva"), *arguments],
            env={"PATH": str(self.path), "HOME": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_python_names_the_package_to_install(machine: Machine) -> None:
    result = machine.run("up")
    assert result.returncode == 1
    assert result.stderr.startswith("cannot run alva: it needs Python 3.11, 3.12 or 3.13\n  found: no Python on PATH\n")
    assert "next: apt-get install python3.11 python3.11-venv" in result.stderr


def test_too_old_python_is_named_with_its_version(machine: Machine) -> None:
    machine.add_python("3.9.2")
    result = machine.run("up")
    assert result.returncode == 1
    assert f"found: {machine.path}/python3 (3.9.2)" in result.stderr


def test_python_3_11_is_taken_before_a_newer_one(machine: Machine) -> None:
    machine.add_python("3.12.4", name="python3", pip_says="x")
    machine.add_python("3.11.2", name="python3.11", pip_says="x")
    assert "making .venv with Python 3.11.2" in machine.run("up").stderr


def test_python_without_venv_names_the_debian_package(machine: Machine) -> None:
    machine.add_python("3.11.2", ensurepip=1)
    result = machine.run("up")
    assert result.returncode == 1
    assert "comes without venv and ensurepip\n  next: apt-get install python3.11-venv" in result.stderr
    assert not (machine.root / ".venv").exists()


@pytest.mark.parametrize(
    ("pip_says", "why"),
    [
        ("ERROR: No matching distribution found for uv", "no package registry answers"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("something else", "exit code 1"),
    ],
)
def test_failed_step_names_cause_log_and_next_step(machine: Machine, pip_says: str, why: str) -> None:
    machine.add_python("3.11.2", pip_says=pip_says)
    for _ in range(2):  # the same again, not worse, when it is run again
        result = machine.run("up")
        assert result.returncode == 1
        assert f'": {why}\n  {pip_says}\n' in result.stderr
        assert f"log: {machine.root}/.alva/install.log" in result.stderr
        assert "next: " in result.stderr
        assert result.stdout == ""
    assert pip_says in (machine.root / ".alva/install.log").read_text()


def test_second_launcher_waits_for_the_first(machine: Machine) -> None:
    machine.add_python("3.11.2", pip_says="x")
    (machine.root / ".alva").mkdir()
    lock = (machine.root / ".alva/install.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = subprocess.Popen(
        [str(machine.root / "alva"), "up"],
        env={"PATH": str(machine.path), "HOME": str(machine.root)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "alva: waiting for another alva that is installing\n"
    assert waiting.poll() is None
    lock.close()
    _, errors = waiting.communicate(timeout=30)
    assert "installing uv" in errors


def test_installed_environment_costs_one_check_and_passes_arguments_on(machine: Machine) -> None:
    bin_folder = machine.root / ".venv/bin"
    bin_folder.mkdir(parents=True)
    program = bin_folder / "python"
    program.write_text('#!/bin/sh\nprintf "%s|" "$PWD" "$@"\nexit 7\n')
    program.chmod(0o755)
    (machine.root / "node_modules").mkdir()
    stamps = f'. /dev/stdin; python_wanted > "{machine.root}/.venv/.alva-installed"; '
    stamps += f'node_wanted > "{machine.root}/node_modules/.alva-installed"'
    script = (machine.root / "alva").read_text()
    functions = script[script.index("python_wanted()") : script.index("is_installed()")]
    subprocess.run(["sh", "-c", stamps], input=f"root={machine.root}\n{functions}", text=True, check=True)

    link = machine.path / "alva-link"
    link.symlink_to(machine.root / "alva")
    result = subprocess.run(
        [str(link), "logs", "two words", ""],
        cwd=machine.path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 7
    assert result.stdout == f"{machine.path}|-P|-m|alva|logs|two words||"
    assert result.stderr == ""

    (machine.root / "uv.lock").write_text("changed")
    machine.add_python("3.11.2", pip_says="x")
    assert "installing" in machine.run("up").stderr
