"""Parsing of Dockerfiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from alva.region.images.context import Ignored
from alva.region.images.dockerfile import DockerfileError, parse, substitute


def test_services_bytecode_is_not_compared_with_its_source() -> None:
    """Files in an image have one timestamp, so Python would compile each module again at every start."""
    for file in (Path(__file__).resolve().parents[2] / "apps").glob("*/Dockerfile"):
        text = file.read_text()
        assert "PYC_INVALIDATION_MODE=UNCHECKED_HASH" in text, file
        assert "--invalidation-mode unchecked-hash" in text, file


def test_stages_and_their_instructions() -> None:
    parsed = parse(
        "# syntax=docker/dockerfile:1\n# a comment\nARG VERSION=3.11\n"
        "FROM python:$VERSION AS Build\nRUN true\nFROM python:3.11\nCOPY --from=build --chown=1:2 /a /b\n"
    )
    assert [instruction.text for instruction in parsed.arguments] == ["VERSION=3.11"]
    assert [(stage.base, stage.name, stage.line) for stage in parsed.stages] == [
        ("python:$VERSION", "build", 4),
        ("python:3.11", "1", 6),
    ]
    (copy,) = parsed.stages[1].instructions
    assert (copy.flag("from"), copy.flag("chown"), copy.words({})) == ("build", "1:2", ["/a", "/b"])


def test_continued_lines_are_one_instruction_at_its_first_line() -> None:
    parsed = parse("FROM a\n\nRUN one && \\\n  # in between\n\n    two \\\n && three\nUSER 1\n")
    run, user = parsed.stages[0].instructions
    assert (run.text, run.line) == ("one && two && three", 3)
    assert user.line == 8


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('["python", "-m", "api"]', ("python", "-m", "api")),
        ("python -m api", ("/bin/sh", "-c", "python -m api")),
        ("[ -f x ] && y", ("/bin/sh", "-c", "[ -f x ] && y")),
    ],
)
def test_exec_and_shell_form(text: str, command: tuple[str, ...]) -> None:
    assert parse(f"FROM a\nCMD {text}\n").stages[0].instructions[0].command() == command


def test_env_takes_several_pairs_with_quotes_and_variables() -> None:
    (env,) = parse("FROM a\nENV A=1 \\\n  B=\"two words\" C=/x:$PATH D='$PATH'\n").stages[0].instructions
    assert env.pairs({"PATH": "/bin"}) == {"A": "1", "B": "two words", "C": "/x:/bin", "D": "$PATH"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("${B:-other}", "other"),
        ("${A:-other}", "1"),
        ("${A:+set}", "set"),
        ("${B:+set}", ""),
        ("\\$A", "\\$A"),
    ],
)
def test_substitution(text: str, result: str) -> None:
    assert substitute(text, {"A": "1"}, 1) == result


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "no FROM"),
        ("RUN x\n", 1, "RUN before the first FROM"),
        ("FROM a\nHEALTHCHECK CMD x\n", 2, "HEALTHCHECK is not supported"),
        ("FROM a\nRUN <<EOF\nx\nEOF\n", 2, "here-document"),
        ("FROM a\nCOPY --parents a b\n", 2, "--parents is not supported"),
        ("FROM --platform=linux/arm64 a\n", 1, "--platform is not supported"),
        ("# escape=`\nFROM a\n", 1, "escape"),
        ("FROM a\nENV A 1\n", 2, "key=value"),
        ("FROM a\nRUN x \\\n", 2, "backslash"),
        ("FROM a b c\n", 1, "expected FROM image"),
        ("FROM a\nENV A='open\n", 2, "No closing quotation"),
    ],
)
def test_malformed_and_unsupported_lines_are_errors(text: str, line: int, problem: str) -> None:
    with pytest.raises(DockerfileError, match=problem) as failure:
        read_all(text)
    assert failure.value.line == line


def read_all(text: str) -> None:
    for stage in parse(text).stages:
        for instruction in stage.instructions:
            if instruction.name == "ENV":
                instruction.pairs({})


@pytest.mark.parametrize(
    ("patterns", "path", "is_out"),
    [
        ("*.log", "a.log", True),
        ("*.log", "deep/a.log", False),
        ("**/*.log", "deep/a.log", True),
        ("**/*.log", "a.log", True),
        ("deep", "deep/er/a", True),
        ("/deep/", "deep/a", True),
        ("de*p/a?", "deep/ab", True),
        ("de*p/a?", "de/ep/ab", False),
        ("*\n!keep", "keep/a", False),
        ("*\n!keep\n**/*.pyc", "keep/a.pyc", True),
        ("*\n!keep", "other", True),
        ("# *\n\n", "a", False),
        ("[ab].txt", "a.txt", True),
        ("[ab].txt", "c.txt", False),
        ("a.b", "axb", False),
    ],
)
def test_dockerignore_patterns(patterns: str, path: str, is_out: bool) -> None:
    assert Ignored(patterns).leaves_out(path) is is_out
