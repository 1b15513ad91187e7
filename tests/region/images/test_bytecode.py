"""The bytecode of images: compiled once per machine, and not changed by the images that share it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alva.region.images.bytecode import compile_python

TAG = sys.implementation.cache_tag


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache" / "alva" / "bytecode"


def bytecode_of(folder: Path, name: str) -> Path:
    return next(folder.rglob(f"{name}.{TAG}.pyc"))


def tree(folder: Path, **sources: str) -> Path:
    folder.mkdir(parents=True)
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return folder


def test_images_share_bytecode_and_do_not_change_each_others(cache: Path, project: Any) -> None:
    dockerfile = "FROM python:3.11-slim\nCOPY {flags} service /app/service\n"
    images = [
        project.build(dockerfile.format(flags=flags))
        for flags in ("--chown=10001", "", "--chmod=600", "--chown=10002 --chmod=644")
    ]
    compiled = [bytecode_of(image.layers[0], "__main__").stat() for image in images]
    assert len({image.digest for image in images}) == 4
    assert [each.st_mode & 0o777 for each in compiled] == [0o644, 0o644, 0o600, 0o644]
    assert {each.st_uid for each in compiled} == {os.geteuid()}
    assert compiled[0].st_ino == compiled[1].st_ino == compiled[3].st_ino != compiled[2].st_ino
    assert compiled[0].st_ino in {file.stat().st_ino for file in cache.rglob("*.pyc")}


def test_bytecode_depends_on_the_content_and_the_path(tmp_path: Path, cache: Path) -> None:
    first = tree(tmp_path / "1", a="x = 1", b="x = 2")
    second = tree(tmp_path / "2", a="x = 2", b="x = 2")
    compile_python(first, cache)
    compile_python(second, cache)
    assert not bytecode_of(first, "a").samefile(bytecode_of(second, "a"))
    assert bytecode_of(first, "b").samefile(bytecode_of(second, "b"))
    assert not bytecode_of(second, "a").samefile(bytecode_of(second, "b"))


def test_unused_bytecode_is_removed_after_a_month(tmp_path: Path, cache: Path) -> None:
    compile_python(tree(tmp_path / "1", a="x = 1", b="x = 2"), cache)
    files = sorted(cache.glob("*/*.pyc"))
    month_ago = time.time() - 31 * 86400
    for file in (*files, cache / "pruned"):
        os.utime(file, (month_ago, month_ago))
    compile_python(tree(tmp_path / "2", a="x = 1"), cache)
    left = list(cache.glob("*/*.pyc"))
    assert len(files) == 2
    assert [file.samefile(bytecode_of(tmp_path / "2", "a")) for file in left] == [True]


def test_files_with_bytecode_and_files_that_do_not_compile_are_left_as_they_are(tmp_path: Path, cache: Path) -> None:
    root = tree(tmp_path / "1", bad="def (", good="x = 1")
    (root / "__pycache__").mkdir()
    own = root / "__pycache__" / f"good.{TAG}.pyc"
    own.write_bytes(b"own")
    compile_python(root, cache)
    assert own.read_bytes() == b"own"
    assert not list(root.rglob("bad.*.pyc"))
    assert not list(cache.rglob("*.pyc"))


def test_two_builds_that_compile_the_same_file_keep_each_others_bytecode(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tree(tmp_path / "1", a="x = 1"), tree(tmp_path / "2", a="x = 1")
    times: list[int] = []
    run = subprocess.run

    def compile_and_let_the_other_finish(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(subprocess, "run", run)
        ended = run(*arguments, **options)
        compile_python(second, cache)
        times.append(bytecode_of(second, "a").stat().st_mtime_ns)
        return ended

    monkeypatch.setattr(subprocess, "run", compile_and_let_the_other_finish)
    compile_python(first, cache)
    assert [bytecode_of(second, "a").stat().st_mtime_ns] == times
    assert [file.suffix for file in cache.glob("*/*")] == [".pyc"]
