"""The two directions of a data channel: numbered, acknowledged, sent again, put in order. No sockets, no clock.

The numbers are those of AWS's plugin: aws/session-manager-plugin, src/config/config.go and src/datachannel.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from alva.sessions.messages import SYN, Message

MOST_PAYLOAD_BYTES = 1024
"""What one message of a stream carries at most."""
FIRST_TIMEOUT_SECONDS = 0.2
LONGEST_TIMEOUT_SECONDS = 1.0
MOST_ATTEMPTS = 3000
"""After so many the other side is gone: five minutes."""
MOST_WAITING = 10_000
"""Messages that came too early and are kept, at most."""


class PeerGone(Exception):
    """A message was sent again and again, and nobody acknowledged it."""


@dataclass
class _Sent:
    message: Message
    sent_at: float
    attempts: int = 1


class Outgoing:
    """What is sent: numbered from 0, kept until it is acknowledged."""

    def __init__(self, message_type: str) -> None:
        self._type = message_type
        self._next = 0
        self._waiting: OrderedDict[int, _Sent] = OrderedDict()
        self._round_trip = 0.1
        self._variation = 0.0
        self.timeout_seconds = FIRST_TIMEOUT_SECONDS
        """How long an acknowledgement may take before the message is sent again."""

    def __len__(self) -> int:
        """How many messages wait for their acknowledgement."""
        return len(self._waiting)

    @property
    def is_settled(self) -> bool:
        """Whether everything that was sent has been acknowledged."""
        return not self._waiting

    def message(self, payload_type: int, payload: bytes, now: float) -> Message:
        """The next message of the stream; the caller sends it at once."""
        message = Message(
            type=self._type,
            payload_type=payload_type,
            payload=payload,
            sequence_number=self._next,
            flags=SYN if self._next == 0 else 0,
        )
        self._waiting[self._next] = _Sent(message, now)
        self._next += 1
        return message

    def acknowledge(self, sequence_number: int, now: float) -> None:
        """Forget a message that has arrived, and learn how long that takes."""
        sent = self._waiting.pop(sequence_number, None)
        if sent is None or sent.attempts > 1:
            return
        took = now - sent.sent_at
        self._variation = 0.75 * self._variation + 0.25 * abs(self._round_trip - took)
        self._round_trip = 0.875 * self._round_trip + 0.125 * took
        self.timeout_seconds = min(self._round_trip + max(0.01, 4 * self._variation), LONGEST_TIMEOUT_SECONDS)

    def overdue(self, now: float) -> Message | None:
        """The oldest message, when its acknowledgement is late: to be sent again. Raises PeerGone."""
        for sent in self._waiting.values():
            if now - sent.sent_at <= self.timeout_seconds:
                return None
            if sent.attempts >= MOST_ATTEMPTS:
                raise PeerGone
            sent.attempts += 1
            sent.sent_at = now
            return sent.message
        return None


class Incoming:
    """What is received: given out in order, each message once."""

    def __init__(self) -> None:
        self._expected = 0
        self._early: dict[int, Message] = {}

    def take(self, message: Message) -> tuple[bool, Iterator[Message]]:
        """Whether to acknowledge a message that has come, and those whose turn it is now."""
        if message.sequence_number < self._expected:
            return True, iter(())  # seen: its acknowledgement was lost
        if message.sequence_number > self._expected and len(self._early) >= MOST_WAITING:
            return False, iter(())  # it will come again
        self._early[message.sequence_number] = message
        return True, self._in_turn()

    def _in_turn(self) -> Iterator[Message]:
        while (message := self._early.pop(self._expected, None)) is not None:
            self._expected += 1
            yield message
