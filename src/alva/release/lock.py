"""The lock of an environment: one release at a time. The lock names its holder.

PutParameter without Overwrite is atomic: a second call is refused (AWS: ParameterAlreadyExists). A lock is taken over
only if its holder has provably ended: a process of this machine that no longer runs, or an earlier attempt of the same
pipeline run. Any other lock stays until its holder or a person frees it.

Host names, machine ids and boot ids do not prove that a holder belongs to this machine, because cloned machines share
them. So each holder has a random id, and its machine keeps a file of that name while it holds the lock.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from alva.aws import Aws, error_code, explained
from alva.errors import AlvaError, Locked
from alva.release.manifest import Manifest
from alva.release.times import utc_now

NAME_IS_TAKEN_SECONDS = 60.0
"""How long to retry while there is no lock and its name is still taken.

AWS asks to wait 30 seconds between deleting a parameter and creating one of the same name:
https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DeleteParameter.html
"""

FREE_ATTEMPTS = 3
"""The number of attempts to free a lock, in addition to botocore's retries."""

BY_HAND = 0
"""The process id of a lock that a person holds."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The holder of a lock."""

    user: str
    host: str
    boot: str
    """The id of the machine's boot, which distinguishes processes from before and after a restart."""
    pid: int
    process_started: str
    """The process's start time, because process ids are reused."""
    what: str
    since: str
    id: str = ""
    """A random id."""
    run: str = ""
    """The pipeline's run and attempt, such as `1234/1`; empty outside of one."""

    @classmethod
    def this_process(cls, what: str) -> Self:
        """Return the current process as a holder that does `what`."""
        return cls(
            user=user_name(),
            host=socket.gethostname(),
            boot=_boot_id(),
            pid=os.getpid(),
            process_started=_process_started(os.getpid()) or "",
            what=what,
            since=utc_now(),
            id=uuid.uuid4().hex,
            run=current_run(),
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the parameter's value."""
        values = json.loads(text)
        return cls(**{key: values.get(key, "") for key in cls.__dataclass_fields__})

    def to_text(self) -> str:
        """Return the parameter's value."""
        return json.dumps(asdict(self))

    def is_gone(self) -> bool:
        """Whether the holder has certainly ended; False for a holder on another machine."""
        if int(self.pid) == BY_HAND:
            return False
        if self.run:
            # A pipeline run starts another attempt only after the former one has ended.
            run, _, attempt = self.run.partition("/")
            mine, _, my_attempt = current_run().partition("/")
            return run == mine and attempt.isdecimal() and my_attempt.isdecimal() and int(attempt) < int(my_attempt)
        if not self.id or not _file_of(self.id).exists():
            return False
        return self.boot != _boot_id() or _process_started(int(self.pid)) != self.process_started

    def __str__(self) -> str:
        process = "by hand" if int(self.pid) == BY_HAND else f"run {self.run}" if self.run else f"process {self.pid}"
        return f"{self.user} on {self.host}, {process}, since {self.since}: {self.what}"


class Lock:
    """The lock of one environment."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._environment = manifest.environment
        self.parameter_name = manifest.parameters.lock

    @contextmanager
    def held(self, what: str, note: Callable[[str], None], *, wait_seconds: float = 0.0) -> Iterator[Holder | None]:
        """Hold the lock during the block; yields the former holder if it had ended without freeing the lock.

        Raises Locked if another holder keeps the lock beyond the wait.
        """
        mine = Holder.this_process(what)
        gone = self._acquire(mine, note, wait_seconds=wait_seconds)
        try:
            yield gone
        finally:
            self._free(mine, note)

    def holder(self) -> Holder | None:
        """Return the holder, or None."""
        with explained("read the lock"):
            try:
                return Holder.from_text(self._aws.ssm.get_parameter(Name=self.parameter_name)["Parameter"]["Value"])
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise

    def take(self, what: str) -> Holder:
        """Hold the lock until somebody frees it, beyond the end of this process; raises Locked."""
        mine = replace(Holder.this_process(what), pid=BY_HAND, process_started="")
        self._acquire(mine, lambda _: None)
        _forget(mine)
        return mine

    def free_of_run(self, run: str) -> Holder | None:
        """Free the lock if this pipeline run holds it, in this or an earlier attempt; return the holder."""
        holder = self.holder()
        if holder is None or not run or holder.run.partition("/")[0] != run.partition("/")[0]:
            return None
        return self.free_by_force(holder)

    def free_by_force(self, expected: Holder | None = None) -> Holder | None:
        """Free the lock of another holder (only of `expected`, if given); return the holder."""
        holder = self.holder()
        if holder is None or (expected is not None and holder != expected):
            return None
        self._delete()
        _forget(holder)
        return holder

    def _acquire(self, mine: Holder, note: Callable[[str], None], *, wait_seconds: float = 0.0) -> Holder | None:
        free_until = time.monotonic() + NAME_IS_TAKEN_SECONDS
        wait_until = time.monotonic() + wait_seconds
        has_told = False
        gone: Holder | None = None
        _remember(mine)
        while True:
            with explained("lock the environment"):
                try:
                    self._aws.ssm.put_parameter(
                        Name=self.parameter_name, Value=mine.to_text(), Type="String", Overwrite=False
                    )
                    return gone
                except Exception as error:
                    if error_code(error) != "ParameterAlreadyExists":
                        raise
            holder = self.holder()
            if holder is not None and holder.is_gone():
                note(f"taking over the lock of a process that has ended ({holder})")
                self._delete()
                _forget(holder)
                gone = holder
                continue
            if holder is None and time.monotonic() < free_until:
                self._aws.poll.pause(0.5)
                continue
            if holder is not None and time.monotonic() < wait_until:
                if not has_told:
                    note(f"waiting for {holder}")
                has_told = True
                free_until = time.monotonic() + NAME_IS_TAKEN_SECONDS
                self._aws.poll.pause(2.0)
                continue
            _forget(mine)
            if holder is None:
                raise Locked(
                    f"cannot lock {self._environment}: Parameter Store does not accept the name of a deleted "
                    "parameter yet",
                    next_step="run the same command again in 30 seconds",
                )
            raise Locked(
                f"cannot lock {self._environment}: somebody else holds the lock",
                evidence=[str(holder)],
                next_step="wait for it to end; ./alva unlock frees it",
            )

    def _free(self, mine: Holder, note: Callable[[str], None]) -> None:
        """Free the lock. A failure is noted, not raised: it must not hide the result of the work.

        The file of the holder's id then stays, so that the next command on this machine takes the lock over.
        """
        for attempt in range(FREE_ATTEMPTS):
            try:
                if self.holder() == mine:
                    self._delete()
            except AlvaError as error:
                if attempt == FREE_ATTEMPTS - 1:
                    said = "; ".join((error.message, *error.evidence))
                    note(f"cannot free the lock: {said}; ./alva unlock frees it")
            else:
                _forget(mine)
                return

    def _delete(self) -> None:
        with explained("free the lock"):
            try:
                self._aws.ssm.delete_parameter(Name=self.parameter_name)
            except Exception as error:
                if error_code(error) != "ParameterNotFound":
                    raise


def current_run() -> str:
    """Return this pipeline run and its attempt, such as `1234/1`; empty outside of GitHub Actions.

    https://docs.github.com/actions/reference/workflows-and-actions/variables
    """
    run = os.environ.get("GITHUB_RUN_ID", "")
    return f"{run}/{os.environ.get('GITHUB_RUN_ATTEMPT', '1')}" if run else ""


def _file_of(holder_id: str) -> Path:
    """Return the file that proves that a holder belongs to this machine."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "alva" / "locks" / "".join(c for c in holder_id if c.isalnum())


def _remember(mine: Holder) -> None:
    with contextlib.suppress(
        OSError, RuntimeError
    ):  # without a home folder there is no proof: the lock stays if this process is killed
        file = _file_of(mine.id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def _forget(holder: Holder) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        _file_of(holder.id).unlink(missing_ok=True)


def user_name() -> str:
    """Return the user: on GitHub the account that started the run, elsewhere the user of this machine."""
    if actor := os.environ.get("GITHUB_ACTOR"):
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return str(os.getuid())


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: process ids and start times decide
        return ""


def _process_started(pid: int) -> str | None:
    """Return the start time of a process in the kernel's ticks; None if there is no such process."""
    try:
        # The command's name, in parentheses, can contain spaces: count the fields after it. proc(5): starttime is 22.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
