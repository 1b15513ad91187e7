"""Garbage collection is off during a start only."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from common import startup


@pytest.fixture(autouse=True)
def unfrozen_again() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_exists_after_the_start_is_not_searched_for_garbage() -> None:
    gc.unfreeze()
    with startup.without_garbage_collection():
        assert not gc.isenabled()
        route: list[object] = []
        route.append(route)
    assert gc.isenabled()
    assert not any(each is route for each in gc.get_objects())


def test_garbage_is_collected_after_a_start_that_failed() -> None:
    with pytest.raises(RuntimeError), startup.without_garbage_collection():
        raise RuntimeError
    assert gc.isenabled()
