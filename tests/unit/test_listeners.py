"""The sockets on which the region and the console listen."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

import alva.console.server
import alva.region.api_server
from alva.region.network.namespace import stream_socket


def of_a_stand_in() -> socket.socket:
    listener = stream_socket()
    listener.bind(("127.0.0.1", 0))
    return listener


LISTENERS: dict[str, Callable[[], socket.socket]] = {
    "the API": lambda: alva.region.api_server.listen(0),
    "stand-ins and the metadata of tasks": of_a_stand_in,
    "the console": lambda: alva.console.server.listen(0),
}


@pytest.mark.parametrize("make_listener", LISTENERS.values(), ids=LISTENERS)
def test_no_answer_waits_for_the_acknowledgement_of_its_first_part(make_listener: Callable[[], socket.socket]) -> None:
    """Without TCP_NODELAY, the second part of an answer waits up to 40 ms for the client's acknowledgement (tcp(7))."""

    async def option_of_a_connection() -> int:
        listener = make_listener()
        option: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            option.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(accepted, sock=listener):
            _, client = await asyncio.open_connection(*listener.getsockname())
            client.close()
            return await option

    assert asyncio.run(option_of_a_connection())
