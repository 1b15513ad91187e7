"""One release at a time: a lock in the environment itself, that names its holder.

PutParameter without Overwrite is the atomic step: the second one is refused (AWS: ParameterAlreadyExists). A lock whose
holder is provably gone (a process of this machine that no longer exists) is taken over; any other stays until its
holder, or a person, lets it go.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from alva.aws import Aws, error_code, explained
from alva.errors import Locked
from alva.release.manifest import Manifest

BY_HAND = 0
"""The process id of a lock that a person holds: no process, so none can be gone."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock, since when, and as which process."""

    user: str
    host: str
    boot: str
    """The machine's boot, which tells a process of before a restart from one of now."""
    pid: int
    process_started: str
    """The process's start time: process ids are used again."""
    what: str
    since: str

    @classmethod
    def this_process(cls, what: str) -> Self:
        """The running process, about to do `what`."""
        return cls(
            user=_user(),
            host=socket.gethostname(),
            boot=_boot_id(),
            pid=os.getpid(),
            process_started=_process_started(os.getpid()) or "",
            what=what,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the parameter's value."""
        values = json.loads(text)
        return cls(**{key: values.get(key, "") for key in cls.__dataclass_fields__})

    def to_text(self) -> str:
        """The parameter's value."""
        return json.dumps(asdict(self))

    def is_gone(self) -> bool:
        """Whether the holder certainly no longer exists; a holder on another machine never certainly is."""
        if self.host != socket.gethostname() or int(self.pid) == BY_HAND:
            return False
        if self.boot != _boot_id():
            return True
        return _process_started(int(self.pid)) != self.process_started

    def __str__(self) -> str:
        process = "by hand" if int(self.pid) == BY_HAND else f"process {self.pid}"
        return f"{self.user} on {self.host}, {process}, since {self.since}: {self.what}"


class Lock:
    """The lock of one environment."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._environment = manifest.environment
        self.parameter_name = f"/{manifest.prefix}/lock"

    @contextmanager
    def held(self, what: str, note: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock during the block; raises Locked when somebody else does."""
        mine = Holder.this_process(what)
        self._acquire(mine, note)
        try:
            yield
        finally:
            self._release(mine)

    def holder(self) -> Holder | None:
        """Who holds it, or None."""
        with explained("read the lock"):
            try:
                return Holder.from_text(self._aws.ssm.get_parameter(Name=self.parameter_name)["Parameter"]["Value"])
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise

    def take(self, what: str) -> Holder:
        """Hold the lock beyond the end of this process, until somebody unlocks; raises Locked."""
        mine = replace(Holder.this_process(what), pid=BY_HAND, process_started="")
        self._acquire(mine, lambda _: None)
        return mine

    def release_by_force(self, expected: Holder | None = None) -> Holder | None:
        """Take the lock from whoever holds it (only from `expected`, if given); who that was."""
        holder = self.holder()
        if holder is None or (expected is not None and holder != expected):
            return None
        self._delete()
        return holder

    def _acquire(self, mine: Holder, note: Callable[[str], None]) -> None:
        for _ in range(3):
            with explained("lock the environment"):
                try:
                    self._aws.ssm.put_parameter(
                        Name=self.parameter_name, Value=mine.to_text(), Type="String", Overwrite=False
                    )
                    return
                except Exception as error:
                    if error_code(error) != "ParameterAlreadyExists":
                        raise
            holder = self.holder()
            if holder is None:
                continue
            if not holder.is_gone():
                raise Locked(
                    f"cannot lock {self._environment}: somebody else is at work",
                    evidence=[str(holder)],
                    next_step="wait for it to end; ./alva unlock takes the lock away",
                )
            note(f"taking over the lock of a process that is gone ({holder})")
            self._delete()
        raise Locked(f"cannot lock {self._environment}: others keep taking it", next_step="try again")

    def _release(self, mine: Holder) -> None:
        if self.holder() == mine:
            self._delete()

    def _delete(self) -> None:
        with explained("unlock the environment"):
            try:
                self._aws.ssm.delete_parameter(Name=self.parameter_name)
            except Exception as error:
                if error_code(error) != "ParameterNotFound":
                    raise


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return str(os.getuid())


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: process ids and start times must do
        return ""


def _process_started(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; None when there is none."""
    try:
        # The command's name, in parentheses, may hold spaces: fields are counted behind it. proc(5): starttime is 22.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
