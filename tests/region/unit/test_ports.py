"""Errors for a port that is in use."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from alva.errors import RegionFailed
from alva.region.api_server import listen
from alva.region.ports import listener_of, port_in_use


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_port_in_use_names_the_process_that_listens_there(taken: int) -> None:
    with pytest.raises(RegionFailed, match=f"port {taken} is in use") as refused:
        listen(taken)
    assert f"process {os.getpid()} (" in str(refused.value)
    assert f"listens on port {taken}" in str(refused.value)
    assert "choose another port with ALVA_API_PORT" in str(refused.value)


def test_port_without_a_listener_names_no_process() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening
        port = bound.getsockname()[1]
        assert listener_of(port) is None


def test_port_without_permission_is_not_reported_as_in_use() -> None:
    error = OSError(errno.EACCES, "Permission denied")
    failed = port_in_use("start the local region", "127.0.0.1", 80, "ALVA_EDGE_PORT", error)
    assert failed.message == "cannot start the local region: port 80 cannot be used"
