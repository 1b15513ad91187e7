"""The files of a build's context that COPY selects and .dockerignore does not exclude."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alva.region.images import tree

_BYTECODE = "__pycache__"
"""Never copied: bytecode follows from the sources, and differs from build to build."""


@dataclass(frozen=True)
class _Pattern:
    expression: re.Pattern[str]
    is_exception: bool


class Ignored:
    """The exclusions of a .dockerignore; the last pattern that matches decides.

    https://docs.docker.com/build/concepts/context/#dockerignore-files
    """

    def __init__(self, text: str) -> None:
        self._patterns = [pattern for line in text.splitlines() if (pattern := _pattern(line)) is not None]
        self._has_exceptions = any(pattern.is_exception for pattern in self._patterns)

    @classmethod
    def of(cls, context: Path, dockerfile: Path) -> Ignored:
        """The patterns for `dockerfile`, from `<Dockerfile>.dockerignore` or else from the context's file."""
        for file in (dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"):
            if file.is_file():
                return cls(file.read_text())
        return cls("")

    def leaves_out(self, path: str) -> bool:
        """Whether `path` (relative to the context, with slashes) is excluded."""
        is_out = False
        for pattern in self._patterns:
            if pattern.is_exception is is_out and pattern.expression.match(path):
                is_out = not pattern.is_exception
        return is_out

    def leaves_out_all_below(self, folder: str) -> bool:
        """Whether everything below `folder` is excluded, so that it need not be read."""
        return not self._has_exceptions and self.leaves_out(folder)


class NotInContext(LookupError):
    """A source selects no file."""


_WILDCARD = re.compile(r"[*?\[]")


class Context:
    """The folder that a build copies from."""

    def __init__(self, root: Path, ignored: Ignored) -> None:
        self.root = root
        self._ignored = ignored

    def select(self, sources: Sequence[str], target: str, *, is_folder: bool) -> Iterator[tuple[str, Path]]:
        """The files and links that `COPY sources target` copies, each with its path in the layer.

        A folder has a slash at the end of its path. `is_folder`: whether a file is copied into `target`; otherwise it
        becomes `target`. As in Docker, a source with wildcards may match nothing if another source matches. Raises
        NotInContext.
        """
        found_any = False
        missing: NotInContext | None = None
        for source in sources:
            path = posixpath.normpath(source.lstrip("/")).removeprefix("./")
            if path.startswith(".."):
                raise NotInContext(f"{source}: outside of the context {self.root}")
            try:
                matches = self._matches("" if path == "." else path)
            except NotInContext as error:
                if not _WILDCARD.search(path):
                    raise
                missing = error
                continue
            found_any = True
            for match in matches:
                file = self.root / match
                if not file.resolve().is_relative_to(self.root):
                    raise NotInContext(f"{source}: leads outside of the context {self.root}")
                if file.is_dir():
                    yield from self._folder(source, match, target)
                else:
                    yield posixpath.join(target, posixpath.basename(match)) if is_folder else target, file.resolve()
        if missing is not None and not found_any:
            raise missing

    def _folder(self, source: str, folder: str, target: str) -> Iterator[tuple[str, Path]]:
        below = list(self._below(folder))
        if not below and folder and self._ignored.leaves_out(folder):
            raise NotInContext(f"{source}: left out by .dockerignore")
        yield posixpath.join(target, ""), self.root / folder
        for path in below:
            yield posixpath.join(target, path[len(folder) :].lstrip("/")), self.root / path

    def _below(self, folder: str) -> Iterator[str]:
        """Sorted paths, from the root, of everything below `folder` that is not excluded; folders with a slash."""
        for entry in sorted(os.scandir(self.root / folder), key=lambda entry: entry.name):
            path = posixpath.join(folder, entry.name)
            if entry.name == _BYTECODE or self._ignored.leaves_out_all_below(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not self._ignored.leaves_out(path):
                    yield path + "/"
                yield from self._below(path)
            elif not self._ignored.leaves_out(path):
                yield path

    def _matches(self, path: str) -> list[str]:
        """The paths of a source, with wildcards expanded within names."""
        matches = [""]
        for part in path.split("/") if path else []:
            if not _WILDCARD.search(part):
                matches = [posixpath.join(match, part) for match in matches]
                continue
            matches = [
                posixpath.join(match, name)
                for match in matches
                if (self.root / match).is_dir()
                for name in sorted(entry.name for entry in (self.root / match).iterdir())
                if fnmatch.fnmatchcase(name, part)
            ]
        found = [match for match in matches if (self.root / match).exists() and not self._is_left_out(match)]
        if not found:
            why = "left out by .dockerignore" if any(map(self._is_left_out, matches)) else "not found"
            raise NotInContext(f"{path}: {why} in {self.root}")
        return found

    def _is_left_out(self, path: str) -> bool:
        if not path or not self._ignored.leaves_out(path):
            return False
        return not (self.root / path).is_dir() or self._ignored.leaves_out_all_below(path)


def describe(selected: Iterable[tuple[str, Path]]) -> str:
    """A digest of the selected content and attributes that a layer keeps."""
    total = hashlib.sha256()
    for place, file in sorted(selected):
        mode = None if file.is_symlink() else tree.permissions_of(file)
        total.update(tree.describe(place, file, mode=mode).encode())
    return total.hexdigest()


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
    """A regular expression for the pattern: ** is any number of folders; * and ? match within one name."""
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
