"""The two streams of a data channel: numbering, acknowledgements, retransmission, order. No sockets, no clock.

The constants are those of AWS's plugin: aws/session-manager-plugin, src/config/config.go and src/datachannel.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from alva.sessions.messages import SYN, Message

MOST_PAYLOAD_BYTES = 1024
"""The maximum payload of a message."""
FIRST_TIMEOUT_SECONDS = 0.2
LONGEST_TIMEOUT_SECONDS = 1.0
MOST_ATTEMPTS = 3000
"""After this many attempts (five minutes), the other side counts as lost."""
MOST_WAITING = 10_000
"""The maximum number of early messages to keep."""


class PeerGone(Exception):
    """A message was never acknowledged, in spite of retransmissions."""


@dataclass
class _Sent:
    message: Message
    sent_at: float
    attempts: int = 1


class Outgoing:
    """Outgoing messages: numbered from 0, kept until they are acknowledged."""

    def __init__(self, message_type: str) -> None:
        self._type = message_type
        self._next = 0
        self._waiting: OrderedDict[int, _Sent] = OrderedDict()
        self._round_trip = 0.1
        self._variation = 0.0
        self.timeout_seconds = FIRST_TIMEOUT_SECONDS
        """How long to wait for an acknowledgement before a retransmission."""

    def __len__(self) -> int:
        """The number of unacknowledged messages."""
        return len(self._waiting)

    @property
    def is_settled(self) -> bool:
        """Whether all messages are acknowledged."""
        return not self._waiting

    def message(self, payload_type: int, payload: bytes, now: float) -> Message:
        """Return the next message of the stream; the caller sends it at once."""
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
        """Remove an acknowledged message, and measure the round trip."""
        sent = self._waiting.pop(sequence_number, None)
        if sent is None or sent.attempts > 1:
            return
        took = now - sent.sent_at
        self._variation = 0.75 * self._variation + 0.25 * abs(self._round_trip - took)
        self._round_trip = 0.875 * self._round_trip + 0.125 * took
        self.timeout_seconds = min(self._round_trip + max(0.01, 4 * self._variation), LONGEST_TIMEOUT_SECONDS)

    def overdue(self, now: float) -> Message | None:
        """Return the oldest message if its acknowledgement is late: send it again. Raises PeerGone."""
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
    """Incoming messages: delivered in order, each once."""

    def __init__(self) -> None:
        self._expected = 0
        self._early: dict[int, Message] = {}

    def take(self, message: Message) -> tuple[bool, Iterator[Message]]:
        """Return whether to acknowledge the message, and the messages that can now be delivered."""
        if message.sequence_number < self._expected:
            return True, iter(())  # a duplicate: its acknowledgement was lost
        if message.sequence_number > self._expected and len(self._early) >= MOST_WAITING:
            return False, iter(())  # the other side sends it again
        self._early[message.sequence_number] = message
        return True, self._in_turn()

    def _in_turn(self) -> Iterator[Message]:
        while (message := self._early.pop(self._expected, None)) is not None:
            self._expected += 1
            yield message
