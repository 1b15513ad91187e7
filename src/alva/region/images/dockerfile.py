"""Parses a Dockerfile into instructions. It only reads the text and executes nothing.

It supports the subset of https://docs.docker.com/reference/dockerfile/ that Alva's services need. Anything else is an
error with its line and is never skipped: the image must be the one that Docker would build.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from alva.errors import BuildFailed

_KNOWN = frozenset(
    {
        "FROM",
        "ARG",
        "ENV",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
        "LABEL",
        "STOPSIGNAL",
        "VOLUME",
    }
)
_FLAGS = {"COPY": {"from", "chown", "chmod", "link"}, "RUN": {"mount"}}
_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(\S+)\s*$", re.IGNORECASE)
_FLAG = re.compile(r"--([a-z]+)(?:=(\S*))?\s+")
_HERE_DOCUMENT = re.compile(r"<<-?\s*[\"']?[A-Za-z_]")
_FROM = re.compile(r"(\S+)(?:\s+AS\s+(\S+))?$", re.IGNORECASE)
_VARIABLE = re.compile(
    r"(?P<literal>'[^']*'|\\.)|\$(?:\{(?P<braced>\w+)(?::(?P<operator>[-+])(?P<word>[^}]*))?\}|(?P<plain>\w+))"
)


@dataclass(frozen=True)
class Instruction:
    """One instruction with its continuation lines joined."""

    name: str
    """In upper case."""
    flags: tuple[tuple[str, str], ...]
    """--name=value, in order; a flag without a value has "true"."""
    text: str
    """The text after the flags, before substitution of variables."""
    line: int
    """Its first line, counted from 1."""

    def flag(self, name: str) -> str | None:
        """The value of the flag `name`, if it was given."""
        return dict(self.flags).get(name)

    def exec_form(self) -> tuple[str, ...] | None:
        """The words of the JSON form `["a", "b"]`; None for the shell form."""
        if not self.text.startswith("["):
            return None
        try:
            words = json.loads(self.text)
        except json.JSONDecodeError:
            return None  # As in Docker, invalid JSON is the shell form.
        return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else None

    def command(self) -> tuple[str, ...]:
        """The program and arguments of RUN, CMD or ENTRYPOINT."""
        return self.exec_form() or ("/bin/sh", "-c", self.text)

    def words(self, variables: Mapping[str, str]) -> list[str]:
        """The words of the text, variables substituted and quotes removed. Raises DockerfileError."""
        form = self.exec_form()
        if form is not None:
            return [substitute(word, variables, self.line) for word in form]
        try:
            return shlex.split(substitute(self.text, variables, self.line))
        except ValueError as error:
            raise DockerfileError(self.line, f"{self.name}: {error}") from error

    def pairs(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The `key=value` pairs of ENV, LABEL and ARG; a bare `key` has the value "". Raises DockerfileError."""
        words = self.words(variables)
        if self.name == "ENV" and words and "=" not in words[0]:
            raise DockerfileError(self.line, "ENV needs key=value; the form with a space is deprecated")
        return {key: value for key, _, value in (word.partition("=") for word in words)}


@dataclass(frozen=True)
class Stage:
    """A FROM and the instructions after it."""

    base: str
    """The image or earlier stage that it starts from, before substitution of variables."""
    name: str
    """After AS, in lower case; else the stage's number."""
    line: int
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class Dockerfile:
    """A whole Dockerfile."""

    arguments: tuple[Instruction, ...]
    """The ARGs before the first FROM, which FROM instructions can use."""
    stages: tuple[Stage, ...]


class DockerfileError(BuildFailed):
    """A line of a Dockerfile that is malformed or unsupported; `line` is its number."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"cannot build line {line}: {problem}")
        self.line = line
        self.problem = problem


class NotSupported(DockerfileError):
    """A line that Docker can build and this builder cannot."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.next_step = "Docker builds it: ALVA_BUILDER=docker ./alva up"


def parse(text: str) -> Dockerfile:
    """Parse a Dockerfile's text. Raises DockerfileError for a malformed or unsupported line."""
    arguments: list[Instruction] = []
    stages: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.name == "FROM":
            match = _FROM.match(instruction.text)
            if match is None:
                raise DockerfileError(instruction.line, f"FROM {instruction.text}: expected FROM image [AS name]")
            name = (match[2] or str(len(stages))).lower()
            stages.append(Stage(match[1], name, instruction.line, ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.base, last.name, last.line, (*last.instructions, instruction))
        elif instruction.name == "ARG":
            arguments.append(instruction)
        else:
            raise DockerfileError(instruction.line, f"{instruction.name} before the first FROM")
    if not stages:
        raise DockerfileError(1, "no FROM")
    return Dockerfile(tuple(arguments), tuple(stages))


def substitute(text: str, variables: Mapping[str, str], line: int) -> str:
    """Replace $name, ${name}, ${name:-default} and ${name:+other}, except inside single quotes.

    An unknown name raises DockerfileError; Docker would replace it with an empty text.
    """

    def value_of(match: re.Match[str]) -> str:
        if match["literal"] is not None:
            return match["literal"]
        name = match["braced"] or match["plain"]
        value = variables.get(name)
        if match["operator"] == "-":
            return value or match["word"]
        if match["operator"] == "+":
            return match["word"] if value else ""
        if value is None:
            raise DockerfileError(line, f"${name} is not set by an ARG or ENV above")
        return value

    return _VARIABLE.sub(value_of, text)


def _instructions(text: str) -> Iterator[Instruction]:
    for number, line in _logical_lines(text):
        name, _, rest = line.partition(" ")
        name, rest = name.upper(), rest.strip()
        if name not in _KNOWN:
            raise NotSupported(number, f"{name} is not supported here; supported: {', '.join(sorted(_KNOWN))}")
        if name in ("RUN", "COPY") and _HERE_DOCUMENT.search(rest):
            raise NotSupported(number, f"{name} with a here-document (<<) is not supported here")
        flags: list[tuple[str, str]] = []
        while match := _FLAG.match(rest):
            if match[1] not in _FLAGS.get(name, set()):
                raise NotSupported(number, f"{name} --{match[1]} is not supported here")
            flags.append((match[1], match[2] if match[2] is not None else "true"))
            rest = rest[match.end() :]
        if not rest:
            raise DockerfileError(number, f"{name} without arguments")
        yield Instruction(name, tuple(flags), rest, number)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations joined, without comments and empty lines, each with its first line's number."""
    parts: list[str] = []
    first = 0
    may_be_directive = True
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        directive = _DIRECTIVE.match(stripped) if may_be_directive else None
        may_be_directive = directive is not None
        if directive is not None and directive[1].lower() == "escape" and directive[2] != "\\":
            raise NotSupported(number, f"escape={directive[2]} is not supported here")
        if not stripped or stripped.startswith("#"):
            continue
        if not parts:
            first = number
        if stripped.endswith("\\"):
            parts.append(stripped[:-1].strip())
            continue
        parts.append(stripped)
        yield first, " ".join(part for part in parts if part)
        parts = []
    if parts:
        raise DockerfileError(first, "the last line ends with a backslash")
