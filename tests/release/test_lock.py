"""One release at a time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from alva.aws import Aws
from alva.errors import Locked
from alva.release.lock import Holder, Lock
from alva.release.manifest import Manifest


def ignore(_line: str) -> None:
    return None


def test_second_release_is_refused_with_the_first_ones_holder(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    with lock.held("first", ignore):
        with pytest.raises(Locked) as caught, lock.held("second", ignore):
            pass
        assert "first" in str(caught.value)
        assert caught.value.exit_code == 8
    assert lock.holder() is None


def test_lock_is_free_again_after_a_failure(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    with pytest.raises(KeyboardInterrupt), lock.held("interrupted", ignore):
        raise KeyboardInterrupt
    assert lock.holder() is None


def test_lock_of_a_process_that_is_gone_is_taken_over(aws: Aws, manifest: Manifest) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone = replace(Holder.this_process("killed"), pid=int(child.stdout))
    lock = Lock(aws, manifest)
    aws.ssm.put_parameter(Name=lock.parameter_name, Value=gone.to_text(), Type="String")
    notes: list[str] = []
    with lock.held("next", notes.append):
        holder = lock.holder()
        assert holder is not None
        assert holder.what == "next"
    assert "killed" in notes[0]


def test_reused_process_id_does_not_keep_a_lock() -> None:
    mine = Holder.this_process("x")
    assert not mine.is_gone()
    assert replace(mine, process_started="1").is_gone()


def test_holder_on_another_machine_is_never_taken_for_gone() -> None:
    assert not replace(Holder.this_process("x"), host="elsewhere.example", pid=1, process_started="0").is_gone()


def test_force_takes_the_lock_and_says_from_whom(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    assert lock.release_by_force() is None
    aws.ssm.put_parameter(Name=lock.parameter_name, Value=Holder.this_process("stuck").to_text(), Type="String")
    taken = lock.release_by_force()
    assert taken is not None
    assert taken.what == "stuck"
    assert lock.holder() is None


def test_lock_that_a_person_took_outlives_the_command_and_is_never_taken_over(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    taken = lock.take("looking at the database")
    assert not taken.is_gone()
    with pytest.raises(Locked, match="somebody else") as caught, lock.held("release", ignore):
        pass
    assert "by hand" in str(caught.value)
    assert "./alva unlock" in str(caught.value)
    assert lock.release_by_force() == taken


def test_unlock_takes_only_the_lock_that_was_shown(aws: Aws, manifest: Manifest) -> None:
    lock = Lock(aws, manifest)
    with lock.held("a release that began meanwhile", ignore):
        assert lock.release_by_force(replace(Holder.this_process("the one before"), pid=1)) is None
        assert lock.holder() is not None
