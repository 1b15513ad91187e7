"""Looks up an image's USER, a name or a number, in the image's /etc."""

from __future__ import annotations

from pathlib import Path

User = tuple[int, int] | None
"""uid and gid; None is root."""


def find_user(text: str, root: Path) -> User:
    """The user of `NAME[:GROUP]`, in names or numbers, in the image with its files in `root`.

    A user without a group has the primary group of its entry in /etc/passwd, or group 0 without an entry, as in Docker
    (https://docs.docker.com/reference/dockerfile/#user). Raises LookupError in Docker's words.
    """
    name, _, group = text.partition(":")
    if not name:
        return None
    entry = next((line for line in _lines(root / "etc/passwd", 4) if name in (line[0], line[2])), None)
    if entry is None and not name.isdigit():
        raise LookupError(f"unable to find user {name}: no matching entries in passwd file")
    uid = int(entry[2]) if entry is not None else int(name)
    gid = int(entry[3]) if entry is not None else 0
    if group:
        found = next((line for line in _lines(root / "etc/group", 3) if group in (line[0], line[2])), None)
        if found is None and not group.isdigit():
            raise LookupError(f"unable to find group {group}: no matching entries in group file")
        gid = int(found[2]) if found is not None else int(group)
    return (uid, gid) if (uid, gid) != (0, 0) else None


def _lines(file: Path, least_fields: int) -> list[list[str]]:
    # Not followed: a link could lead out of the image.
    if file.is_symlink() or file.parent.is_symlink() or not file.is_file():
        return []
    lines = (line.split(":") for line in file.read_text(errors="replace").splitlines())
    return [line for line in lines if len(line) >= least_fields and line[2].isdigit()]
