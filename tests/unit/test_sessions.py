"""Session Manager's data channel: its messages, its numbering, its client."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import websockets.asyncio.server

from alva.errors import SessionFailed
from alva.sessions import messages
from alva.sessions.attachment import Ends, attach
from alva.sessions.channel import Session
from alva.sessions.commands import Marks, wrapped
from alva.sessions.messages import MalformedMessage, Message, PayloadType
from alva.sessions.streams import MOST_ATTEMPTS, Incoming, Outgoing, PeerGone

# A message of AWS's console, recorded in the npm package ssm-session (src/ssm.js): the size of a terminal. It pads the
# type on the left, and its digest is the first half of a hexadecimal digest; AWS's agent accepts both.
RECORDED = bytes.fromhex(
    "00000074" + "00" * 15 + b"input_stream_data".hex() + "00000001" + "000000001e5b37e2" + "00" * 8 +
    "0000000000000001" + "730f664914534e2a9f01a37dbffefce1" + b"e44365b951162eda64acefd27572209e".hex() + "00000003" +
    "00000016" + b'{"cols":202,"rows":18}'.hex()
)  # fmt: skip
MARK = "0123456789abcdef"


def test_message_that_aws_console_sent_is_understood() -> None:
    read = Message.from_bytes(RECORDED, check_digest=False)
    assert (read.type, read.payload_type, read.flags) == (messages.INPUT, PayloadType.SIZE, messages.SYN)
    assert read.as_json() == {"cols": 202, "rows": 18}
    # Java's order of a UUID's halves: the second half comes first.
    assert read.id == uuid.UUID("9f01a37d-bffe-fce1-730f-664914534e2a")
    with pytest.raises(MalformedMessage, match="digest"):
        Message.from_bytes(RECORDED)


def test_message_is_read_as_it_was_written() -> None:
    sent = Message(type=messages.OUTPUT, payload=b"\0\xff", payload_type=1, sequence_number=7, created_at=1.5)
    data = sent.to_bytes()
    assert Message.from_bytes(data) == sent
    assert data[4:36] == b"output_stream_data".ljust(32)
    for broken in (data[:50], data[:-1], data + b"x", data[:-1] + b"y"):
        with pytest.raises(MalformedMessage):
            Message.from_bytes(broken)


def test_unacknowledged_message_is_sent_again_up_to_a_limit() -> None:
    outgoing = Outgoing(messages.INPUT)
    first, second = (outgoing.message(1, b"x", now=0.0) for _ in range(2))
    assert [first.sequence_number, second.sequence_number] == [0, 1]
    assert outgoing.overdue(0.1) is None
    assert outgoing.overdue(0.3) == first
    assert outgoing.overdue(0.4) is None, "it was sent again a moment ago"
    outgoing.acknowledge(0, 0.5)
    assert outgoing.overdue(0.6) == second
    for attempt in range(MOST_ATTEMPTS - 2):
        assert outgoing.overdue(10.0 * (attempt + 1)) == second
    with pytest.raises(PeerGone):
        outgoing.overdue(10.0 * MOST_ATTEMPTS)
    outgoing.acknowledge(1, 1.0)
    assert outgoing.is_settled


def test_messages_are_delivered_once_and_in_order_whatever_the_order_of_arrival() -> None:
    incoming = Incoming()
    sent = [Message(type=messages.OUTPUT, sequence_number=number) for number in range(4)]
    given = []
    for number in (1, 0, 0, 3, 1, 2):
        is_taken, in_turn = incoming.take(sent[number])
        assert is_taken, "an earlier message is acknowledged again: its acknowledgement got lost"
        given += [message.sequence_number for message in in_turn]
    assert given == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_markers_are_removed_from_the_output_wherever_it_is_split(size: int) -> None:
    output = f"before {MARK}:begin:{MARK[:9]} no mark, and\n the end{MARK}:42:".encode()
    marks, shown = Marks(MARK), b""
    for start in range(0, len(output), size):
        shown += marks.feed(output[start : start + size])
    assert shown + marks.rest() == f"before {MARK[:9]} no mark, and\n the end".encode()
    assert (marks.has_begun, marks.exit_code) == (True, 42)


def test_wrapped_command_keeps_its_arguments_unchanged() -> None:
    words = ["printf", "%s|", "it's", 'a "quote"', "$HOME", "two  blanks", "%d", "*"]
    ran = subprocess.run(shlex.split(wrapped(words, MARK, is_terminal=True)), capture_output=True, check=True)
    assert ran.stdout == f'{MARK}:begin:it\'s|a "quote"|$HOME|two  blanks|%d|*|{MARK}:0:'.encode()


def talk_to(agent: Callable[[Any], Awaitable[None]]) -> tuple[int, bytes]:
    """Run the client against `agent`; return the exit code and the shown output."""
    output_read, output_write = os.pipe()
    devnull = os.open(os.devnull, os.O_RDONLY)

    async def talk() -> int:
        async with websockets.asyncio.server.serve(agent, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            session = Session(id="s", stream_url=f"ws://127.0.0.1:{port}/", token="t")
            return await attach(session, {"X-Signed": "yes"}, MARK, Ends(input=devnull, output=output_write))

    try:
        code = asyncio.run(asyncio.wait_for(talk(), 60))
    finally:
        os.close(output_write)
        os.close(devnull)
        with os.fdopen(output_read, "rb") as shown:
            output = shown.read()
    return code, output


def closing(output: str = "") -> bytes:
    return Message(type=messages.CHANNEL_CLOSED, payload=json.dumps({"Output": output}).encode()).to_bytes()


async def received(client: Any, payload_type: PayloadType) -> Message:
    """Return the next input of that type; every message is acknowledged."""
    while True:
        message = Message.from_bytes(await client.recv())
        if message.type == messages.INPUT:
            await client.send(messages.acknowledgement(message).to_bytes())
            if message.payload_type == payload_type:
                return message


def test_client_answers_the_agents_handshake_request() -> None:
    said: dict[str, Any] = {}

    async def agent(client: Any) -> None:
        said["header"] = client.request.headers["X-Signed"]
        said["opening"] = json.loads(await client.recv())
        outgoing = Outgoing(messages.OUTPUT)
        action = {"ActionType": "SessionType", "ActionParameters": {"SessionType": "InteractiveCommands"}}
        request = json.dumps({"AgentVersion": "3.3.0.0", "RequestedClientActions": [action]}).encode()
        await client.send(outgoing.message(PayloadType.HANDSHAKE_REQUEST, request, 0).to_bytes())
        said["answer"] = (await received(client, PayloadType.HANDSHAKE_RESPONSE)).as_json()
        await client.send(outgoing.message(PayloadType.HANDSHAKE_COMPLETE, b"{}", 0).to_bytes())
        await client.send(outgoing.message(PayloadType.OUTPUT, f"{MARK}:begin:hi{MARK}:3:".encode(), 0).to_bytes())
        said["typed"] = (await received(client, PayloadType.OUTPUT)).payload
        await client.send(closing())

    assert talk_to(agent) == (3, b"hi")
    assert (said["header"], said["opening"]["TokenValue"]) == ("yes", "t")
    assert said["answer"]["ProcessedClientActions"][0]["ActionStatus"] == 1
    assert said["typed"] == b"\x04", "the end of an empty input"


def test_size_is_sent_again_once_the_agent_shows_output() -> None:
    """An agent that has not yet skipped the handshake acknowledges a size and drops it."""
    sizes: list[dict[str, int]] = []

    async def agent(client: Any) -> None:
        await client.recv()
        dropped = await received(client, PayloadType.SIZE)
        await client.send(
            Outgoing(messages.OUTPUT).message(PayloadType.OUTPUT, f"{MARK}:begin:{MARK}:0:".encode(), 0).to_bytes()
        )
        sizes.extend((dropped.as_json(), (await received(client, PayloadType.SIZE)).as_json()))
        await client.send(closing())

    assert talk_to(agent) == (0, b"")
    assert sizes[0] == sizes[1]


def test_session_that_a_key_encrypts_is_refused_by_name() -> None:
    async def agent(client: Any) -> None:
        await client.recv()
        action = {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "k"}}
        request = json.dumps({"AgentVersion": "3.3.0.0", "RequestedClientActions": [action]}).encode()
        await client.send(Outgoing(messages.OUTPUT).message(PayloadType.HANDSHAKE_REQUEST, request, 0).to_bytes())
        async for _ in client:
            pass

    with pytest.raises(SessionFailed, match="does not encrypt sessions with a KMS key"):
        talk_to(agent)


def test_exit_code_of_the_remote_command_is_used() -> None:
    async def agent(client: Any) -> None:
        await client.recv()
        await client.send(Outgoing(messages.OUTPUT).message(PayloadType.EXIT_CODE, b"9", 0).to_bytes())
        await client.send(closing())

    assert talk_to(agent)[0] == 9


def test_lost_connection_and_session_end_without_a_message_are_errors() -> None:
    async def hangs_up(client: Any) -> None:
        await client.recv()

    async def closes_at_once(client: Any) -> None:
        await client.recv()
        await client.send(closing("Unable to start command: no such file"))

    with pytest.raises(SessionFailed, match="the connection was lost"):
        talk_to(hangs_up)
    with pytest.raises(SessionFailed, match="cannot start the command") as failed:
        talk_to(closes_at_once)
    assert "no such file" in str(failed.value)


def test_refused_connection_is_an_error_with_a_next_step() -> None:
    session = Session(id="s", stream_url="ws://127.0.0.1:1/", token="t")
    with pytest.raises(SessionFailed, match="cannot open session s") as failed:
        asyncio.run(attach(session, {}, MARK, Ends()))
    assert failed.value.next_step
