"""The bytecode of packages, shared between clones."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from alva.cli import shared_bytecode


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two installations of a package, hard-linked as uv installs them, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = tmp_path / "first" / "aws_cdk"
    (first / "aws_ecs").mkdir(parents=True)
    for file in (first / "__init__.py", first / "aws_ecs" / "__init__.py"):
        file.write_text("import sys\nprint(sys._getframe().f_code.co_filename)\n")
    second = tmp_path / "second" / "aws_cdk"
    shutil.copytree(first, second, copy_function=os.link)
    return first, second


def use(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package the one that Python finds."""
    spec = importlib.util.spec_from_file_location("aws_cdk", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.0.0")


def bytecode(package: Path) -> list[Path]:
    return sorted(file.relative_to(package) for file in package.rglob("*.pyc"))


def compiled(package: Path) -> list[str]:
    """Import the package, and return the modules that Python compiled and whose bytecode it wrote."""
    command = [sys.executable, "-v", "-c", "import aws_cdk.aws_ecs"]
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # The bytecode of another clone states that clone's path; Python replaces it.
    assert ended.stdout.splitlines() == [str(package / "__init__.py"), str(package / "aws_ecs" / "__init__.py")]
    created = re.findall(rf"# created '{re.escape(str(package))}/(.*)'", ended.stderr)
    return [Path(name).parent.parent.joinpath(Path(name).name.partition(".")[0]).as_posix() for name in created]


@pytest.fixture
def cached(clones: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The two installations; the bytecode of the first one is cached, and Python finds the second one."""
    first, second = clones
    use(first, monkeypatch)
    with shared_bytecode.of_the_cdk():
        assert compiled(first) == ["__init__", "aws_ecs/__init__"]
    use(second, monkeypatch)
    return clones


def test_another_clone_uses_the_bytecode_of_the_first(cached: tuple[Path, Path]) -> None:
    first, second = cached
    with shared_bytecode.of_the_cdk():
        assert bytecode(second) == bytecode(first) != []
        assert compiled(second) == []


def test_bytecode_that_does_not_fit_is_compiled_again_and_cached(cached: tuple[Path, Path]) -> None:
    _, second = cached
    changed = second / "__init__.py"
    text = changed.read_text()
    changed.unlink()
    changed.write_text(text)
    os.utime(changed, (1, 1))
    with shared_bytecode.of_the_cdk():
        assert compiled(second) == ["__init__"]
    for folder in second.rglob("__pycache__"):
        shutil.rmtree(folder)
    with shared_bytecode.of_the_cdk():
        assert compiled(second) == []


def test_an_unwritable_cache_only_costs_time(clones: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = clones
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-such-folder")
    use(first, monkeypatch)
    with shared_bytecode.of_the_cdk():
        assert compiled(first) == ["__init__", "aws_ecs/__init__"]
    assert bytecode(first)


def test_bytecode_of_all_packages_is_shared(clones: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = clones
    for clone, created in ((first, ["__init__", "aws_ecs/__init__"]), (second, [])):
        monkeypatch.setattr(sysconfig, "get_path", lambda _, clone=clone: str(clone.parent))
        with shared_bytecode.of_all_packages():
            assert compiled(clone) == created
