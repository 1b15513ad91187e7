"""The files of a build's context: what COPY selects, without what .dockerignore leaves out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BYTECODE = "__pycache__"
"""Never copied: it follows from the sources, and it differs from one build to the next."""


@dataclass(frozen=True)
class _Pattern:
    expression: re.Pattern[str]
    is_exception: bool


class Ignored:
    """What a .dockerignore leaves out; the last pattern that matches decides.

    https://docs.docker.com/build/concepts/context/#dockerignore-files
    """

    def __init__(self, text: str) -> None:
        self._patterns = [pattern for line in text.splitlines() if (pattern := _pattern(line)) is not None]
        self._has_exceptions = any(pattern.is_exception for pattern in self._patterns)

    @classmethod
    def of(cls, context: Path, dockerfile: Path) -> Ignored:
        """The patterns for `dockerfile`: of `<Dockerfile>.dockerignore` if there is one, else of the context's file."""
        for file in (dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"):
            if file.is_file():
                return cls(file.read_text())
        return cls("")

    def leaves_out(self, path: str) -> bool:
        """Whether `path` (relative to the context, with slashes) is left out."""
        is_out = False
        for pattern in self._patterns:
            if pattern.is_exception is is_out and pattern.expression.match(path):
                is_out = not pattern.is_exception
        return is_out

    def leaves_out_all_below(self, folder: str) -> bool:
        """Whether nothing below `folder` can be selected, so that it need not be read."""
        return not self._has_exceptions and self.leaves_out(folder)


def select(root: Path, path: str, ignored: Ignored) -> Iterator[str]:
    """Paths below `root` of the files and links at or below `path`, sorted, relative to `root` with slashes.

    Folders come too, with a slash at their end, so that empty ones are kept.
    """
    start = root / path if path else root
    if not start.is_dir() or start.is_symlink():
        if not ignored.leaves_out(path):
            yield path
        return
    for entry in sorted(os.scandir(start), key=lambda entry: entry.name):
        relative = f"{path}/{entry.name}" if path else entry.name
        if entry.name == _BYTECODE or ignored.leaves_out_all_below(relative):
            continue
        if entry.is_dir(follow_symlinks=False):
            if not ignored.leaves_out(relative):
                yield relative + "/"
            yield from select(root, relative, ignored)
        elif not ignored.leaves_out(relative):
            yield relative


def _pattern(line: str) -> _Pattern | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    is_exception = line.startswith("!")
    path = os.path.normpath(line.removeprefix("!").strip()).strip("/")
    if path == ".":
        return None
    # A pattern that matches a folder matches what is below it.
    return _Pattern(re.compile(_expression(path) + r"(?:/.*)?\Z"), is_exception)


def _expression(pattern: str) -> str:
    """A regular expression for the pattern: ** is any number of folders, * and ? stay within one name."""
    result, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            result += "(?:.*/)?"
            position += 3
        elif pattern.startswith("**", position):
            result += ".*"
            position += 2
        elif pattern[position] == "*":
            result += "[^/]*"
            position += 1
        elif pattern[position] == "?":
            result += "[^/]"
            position += 1
        elif pattern[position] == "[" and (end := pattern.find("]", position)) > 0:
            result += pattern[position : end + 1]
            position = end + 1
        else:
            result += re.escape(pattern[position])
            position += 1
    return result
