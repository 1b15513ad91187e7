"""The exception for a request that a service refuses: an HTTP status and a sentence for the user."""

from __future__ import annotations


class Refusal(Exception):
    """A refused request. The app returns `status_code` with `{"detail": sentence}`."""

    def __init__(self, status_code: int, sentence: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(sentence)
        self.status_code = status_code
        self.sentence = sentence
        self.retry_after_seconds = retry_after_seconds
