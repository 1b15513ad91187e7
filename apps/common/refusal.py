"""What a service answers instead of doing it: a status and a sentence for people."""

from __future__ import annotations


class Refusal(Exception):
    """The request was understood and is not done; the app answers `status_code` with `{"detail": sentence}`."""

    def __init__(self, status_code: int, sentence: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(sentence)
        self.status_code = status_code
        self.sentence = sentence
        self.retry_after_seconds = retry_after_seconds
