"""One release at a time."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from alva.aws import Aws
from alva.cli import build
from alva.cli.progress import PlainProgress
from alva.errors import Locked
from alva.release import lock as lock_module
from alva.release.lock import Holder, Lock
from alva.release.manifest import Manifest
from alva.release.stacks import Stacks


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The state of one machine, outside a pipeline's run."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("GITHUB_RUN_ID", raising=False)
    return tmp_path / "alva" / "locks"


def ignore(_line: str) -> None:
    return None


def of_this_machine(holder: Holder) -> Holder:
    """A holder on this machine."""
    lock_module._remember(holder)
    return holder


def test_second_release_is_refused_with_the_first_ones_holder(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    with lock.held("first", ignore):
        with pytest.raises(Locked) as caught, lock.held("second", ignore):
            pass
        assert "first" in str(caught.value)
        assert caught.value.exit_code == 8
    assert lock.holder() is None


def test_repositories_are_not_created_while_another_user_holds_the_lock(
    aws: Aws, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "synthesise", lambda *_: True)
    invocation: Any = SimpleNamespace(
        progress=PlainProgress(io.StringIO()),
        environment=manifest.environment,
        assembly_folder=tmp_path,
        aws=aws,
        manifest=manifest,
    )
    with Lock(aws, manifest).held("a release", ignore):
        with pytest.raises(Locked, match="somebody else holds the lock"):
            build.make_repositories(invocation, wait_seconds=0)
        (registry,) = manifest.stacks_of("registry")
        assert Stacks(aws).observe(registry.name) is None


def test_lock_is_free_again_after_a_failure(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    with pytest.raises(KeyboardInterrupt), lock.held("interrupted", ignore):
        raise KeyboardInterrupt
    assert lock.holder() is None


def test_lock_of_an_ended_process_is_taken_over(aws: Aws, manifest: Manifest) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone = of_this_machine(replace(Holder.this_process("killed"), pid=int(child.stdout)))
    lock = Lock(aws, manifest)
    aws.ssm.put_parameter(Name=lock.parameter_name, Value=gone.to_text(), Type="String")
    notes: list[str] = []
    with lock.held("next", notes.append):
        holder = lock.holder()
        assert holder is not None
        assert holder.what == "next"
    assert "killed" in notes[0]


def test_reused_process_id_does_not_keep_a_lock() -> None:
    mine = of_this_machine(Holder.this_process("x"))
    assert not mine.is_gone()
    assert replace(mine, process_started="1").is_gone()
    assert replace(mine, boot="the boot before").is_gone()


@pytest.mark.parametrize("changes", [{}, {"boot": "another"}, {"pid": 1, "process_started": "0"}])
def test_holder_on_another_machine_never_counts_as_ended(changes: dict[str, Any]) -> None:
    """Even if that machine is a copy of this one, with its host name, machine id and process ids."""
    assert not replace(Holder.this_process("x"), **changes).is_gone()


def test_freed_lock_leaves_no_file_on_the_machine(aws: Aws, manifest: Manifest, state: Path) -> None:
    with Lock(aws, manifest).held("x", ignore):
        assert len(list(state.iterdir())) == 1
    Lock(aws, manifest).take("by hand")
    assert list(state.iterdir()) == []


def test_earlier_attempt_of_the_same_run_counts_as_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_RUN_ID", "17")
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "1")
    first = Holder.this_process("release")
    assert not first.is_gone()
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "2")
    assert first.is_gone()
    assert "run 17/1" in str(first)
    monkeypatch.setenv("GITHUB_RUN_ID", "18")
    assert not first.is_gone()


def test_run_releases_only_its_own_lock(aws: Aws, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock(aws, manifest)
    monkeypatch.setenv("GITHUB_RUN_ID", "17")
    aws.ssm.put_parameter(Name=lock.parameter_name, Value=Holder.this_process("killed").to_text(), Type="String")
    assert lock.free_of_run("18/1") is None
    assert lock.free_of_run("") is None
    taken = lock.free_of_run("17/1")
    assert taken is not None
    assert lock.holder() is None


def test_release_waits_for_the_lock_for_the_given_time(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    other = lock.take("a release")
    notes: list[str] = []

    def free(text: str) -> None:
        notes.append(text)
        lock.free_by_force(other)

    with lock.held("rollback", free, wait_seconds=30):
        holder = lock.holder()
        assert holder is not None
        assert holder.what == "rollback"
    assert notes == [f"waiting for {other}"]


def test_lock_waits_while_the_deleted_name_is_still_taken(
    aws: Aws, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSM: 30 seconds may pass between deleting a parameter and creating one of the same name."""
    put, calls = aws.ssm.put_parameter, []

    def refuse_twice(**arguments: Any) -> Any:
        calls.append(1)
        if len(calls) <= 2:
            raise aws.ssm.exceptions.ParameterAlreadyExists({"Error": {"Code": "ParameterAlreadyExists"}}, "Put")
        return put(**arguments)

    monkeypatch.setattr(aws.ssm, "put_parameter", refuse_twice)
    with Lock(aws, manifest).held("next", ignore):
        assert len(calls) == 3


def test_forced_unlock_returns_the_holder(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    assert lock.free_by_force() is None
    aws.ssm.put_parameter(Name=lock.parameter_name, Value=Holder.this_process("stuck").to_text(), Type="String")
    taken = lock.free_by_force()
    assert taken is not None
    assert taken.what == "stuck"
    assert lock.holder() is None


def test_lock_taken_by_hand_outlives_the_command_and_is_never_taken_over(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    taken = lock.take("looking at the database")
    assert not taken.is_gone()
    with pytest.raises(Locked, match="somebody else") as caught, lock.held("release", ignore):
        pass
    assert "by hand" in str(caught.value)
    assert "./alva unlock" in str(caught.value)
    assert lock.free_by_force() == taken


def test_unlock_frees_only_the_lock_that_was_shown(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    with lock.held("a release that began meanwhile", ignore):
        assert lock.free_by_force(replace(Holder.this_process("the one before"), pid=1)) is None
        assert lock.holder() is not None


@pytest.mark.parametrize("failures", [1, 2])
def test_lock_is_released_after_a_failed_call(aws: Aws, manifest: Manifest, failures: int) -> None:
    lock, left = Lock(aws, manifest), [failures]
    aws.ssm.meta.events.register("before-call.ssm.DeleteParameter", lambda **_: fail(left))
    with lock.held("x", ignore):
        pass
    assert lock.holder() is None


def test_failed_unlock_hides_no_error_and_the_next_command_takes_the_lock_over(aws: Aws, manifest: Manifest) -> None:
    lock, left, notes = Lock(aws, manifest), [1000], list[str]()
    aws.ssm.meta.events.register("before-call.ssm.DeleteParameter", lambda **_: fail(left))
    with pytest.raises(ZeroDivisionError), lock.held("x", notes.append):
        raise ZeroDivisionError
    assert "cannot free the lock" in notes[0]
    assert "./alva unlock" in notes[0]
    left[0] = 0
    holder = lock.holder()
    assert holder is not None
    assert lock_module._file_of(holder.id).exists(), "a later process of this machine finds that this one has ended"


def fail(left: list[int]) -> None:
    """Refuse the first `left` calls."""
    if left[0]:
        left[0] -= 1
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "DeleteParameter")
