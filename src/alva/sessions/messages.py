"""The binary format of a data channel's messages.

It is that of `AgentMessage` in aws/amazon-ssm-agent, agent/session/contracts/agentmessage.go: big-endian, a header of
116 bytes (its length first), the payload's length, the payload.
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
"""The value of the header's length field: all bytes before the payload's length."""

_HEADER = struct.Struct(">I32sIQqQ16s32sI")
_LENGTH = struct.Struct(">I")
assert _HEADER.size == HEADER_BYTES  # noqa: S101 - the two lines above agree

INPUT = "input_stream_data"
"""From the client to the task."""
OUTPUT = "output_stream_data"
"""From the task to the client."""
ACKNOWLEDGE = "acknowledge"
CHANNEL_CLOSED = "channel_closed"
"""From the service to the client: the session has ended; `Output` has the reason if there is one."""

SYN = 1
"""The flag of a stream's first message."""
FIN = 2


class PayloadType(enum.IntEnum):
    """The type of a stream message's payload."""

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
    """The bytes are not a valid message."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message in either direction."""

    type: str
    payload: bytes = b""
    payload_type: int = PayloadType.NONE
    sequence_number: int = 0
    flags: int = 0
    schema_version: int = 1
    created_at: float = field(default_factory=time.time)
    """Seconds since the epoch; milliseconds in the binary format."""
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def to_bytes(self) -> bytes:
        """Return the binary message."""
        header = _HEADER.pack(
            HEADER_BYTES,
            self.type.encode().ljust(32),
            self.schema_version,
            int(self.created_at * 1000),
            self.sequence_number,
            self.flags,
            # Java's UUID: the least significant half first.
            self.id.bytes[8:] + self.id.bytes[:8],
            hashlib.sha256(self.payload).digest(),
            self.payload_type,
        )
        return header + _LENGTH.pack(len(self.payload)) + self.payload

    @classmethod
    def from_bytes(cls, data: bytes, *, check_digest: bool = True) -> Self:
        """Parse a message. Raises MalformedMessage.

        `check_digest`: whether to compare the payload with its digest; the plugin does, AWS's agent does not.
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
            raise MalformedMessage("the payload does not match its digest")
        return cls(
            # The plugin pads with blanks, others with zeros.
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
        """Return the payload as a JSON object. Raises MalformedMessage."""
        try:
            content = json.loads(self.payload)
        except ValueError as error:
            raise MalformedMessage(f"{self.type}: the payload is not JSON") from error
        if not isinstance(content, dict):
            raise MalformedMessage(f"{self.type}: the payload is not a JSON object")
        return content


def acknowledgement(message: Message) -> Message:
    """Return the acknowledgement of a stream's message."""
    content = {
        "AcknowledgedMessageType": message.type,
        "AcknowledgedMessageId": str(message.id),
        "AcknowledgedMessageSequenceNumber": message.sequence_number,
        "IsSequentialMessage": True,
    }
    return Message(type=ACKNOWLEDGE, payload=json.dumps(content).encode(), flags=SYN | FIN)
