"""One message of a data channel, as bytes.

The form is that of `AgentMessage` in aws/amazon-ssm-agent, agent/session/contracts/agentmessage.go: big-endian, a
header of 116 bytes (its length first), the payload's length, the payload.
"""

from __future__ import annotations

import enum
import hashlib
import json
import struct
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Self

HEADER_BYTES = 116
"""What the header's own length field says: everything before the payload's length."""

_HEADER = struct.Struct(">I32sIQqQ16s32sI")
_LENGTH = struct.Struct(">I")
assert _HEADER.size == HEADER_BYTES  # noqa: S101 - the two lines above agree

INPUT = "input_stream_data"
"""From the client to the task."""
OUTPUT = "output_stream_data"
"""From the task to the client."""
ACKNOWLEDGE = "acknowledge"
CHANNEL_CLOSED = "channel_closed"
"""From the service to the client: the session is over, and in `Output` why, if something went wrong."""
PUBLICATION = ("start_publication", "pause_publication")

SYN = 1
"""Flag of the first message of a stream."""
FIN = 2


class PayloadType(enum.IntEnum):
    """What the payload of a stream's message is."""

    NONE = 0
    OUTPUT = 1
    ERROR = 2
    SIZE = 3
    PARAMETER = 4
    HANDSHAKE_REQUEST = 5
    HANDSHAKE_RESPONSE = 6
    HANDSHAKE_COMPLETE = 7
    ENCRYPTION_CHALLENGE_REQUEST = 8
    ENCRYPTION_CHALLENGE_RESPONSE = 9
    FLAG = 10
    STANDARD_ERROR = 11
    EXIT_CODE = 12


class MalformedMessage(Exception):
    """These bytes are no message of a data channel."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message of either direction."""

    type: str
    payload: bytes = b""
    payload_type: int = PayloadType.NONE
    sequence_number: int = 0
    flags: int = 0
    schema_version: int = 1
    created_at: float = field(default_factory=time.time)
    """Seconds since the epoch; milliseconds on the wire."""
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def to_bytes(self) -> bytes:
        """The message as it is sent."""
        header = _HEADER.pack(
            HEADER_BYTES,
            self.type.encode().ljust(32),
            self.schema_version,
            int(self.created_at * 1000),
            self.sequence_number,
            self.flags,
            # Java's UUID: its least significant half first.
            self.id.bytes[8:] + self.id.bytes[:8],
            hashlib.sha256(self.payload).digest(),
            self.payload_type,
        )
        return header + _LENGTH.pack(len(self.payload)) + self.payload

    @classmethod
    def from_bytes(cls, data: bytes, *, check_digest: bool = True) -> Self:
        """Read a message. Raises MalformedMessage.

        `check_digest`: whether the payload must be the one that was sent; the plugin looks, AWS's agent does not.
        """
        try:
            fields = _HEADER.unpack_from(data)
            (length,) = _LENGTH.unpack_from(data, fields[0])
        except struct.error as error:
            raise MalformedMessage(f"{len(data)} bytes are too few for a message") from error
        payload = data[fields[0] + _LENGTH.size :]
        if len(payload) != length:
            raise MalformedMessage(f"the payload has {len(payload)} bytes and says {length}")
        if check_digest and length and hashlib.sha256(payload).digest() != fields[7]:
            raise MalformedMessage("the payload is not the one that was sent: its digest differs")
        return cls(
            # Padded with blanks by the plugin, with zeros by others.
            type=fields[1].strip(b"\0 ").decode(errors="replace"),
            schema_version=fields[2],
            created_at=fields[3] / 1000,
            sequence_number=fields[4],
            flags=fields[5],
            id=uuid.UUID(bytes=fields[6][8:] + fields[6][:8]),
            payload_type=fields[8],
            payload=payload,
        )

    def as_json(self) -> dict[str, Any]:
        """The payload as a JSON object. Raises MalformedMessage."""
        try:
            content = json.loads(self.payload)
        except ValueError as error:
            raise MalformedMessage(f"{self.type}: the payload is no JSON") from error
        if not isinstance(content, dict):
            raise MalformedMessage(f"{self.type}: the payload is no JSON object")
        return content


def acknowledgement(message: Message) -> Message:
    """What answers a message of a stream."""
    content = {
        "AcknowledgedMessageType": message.type,
        "AcknowledgedMessageId": str(message.id),
        "AcknowledgedMessageSequenceNumber": message.sequence_number,
        "IsSequentialMessage": True,
    }
    return Message(type=ACKNOWLEDGE, payload=json.dumps(content).encode(), flags=SYN | FIN)
