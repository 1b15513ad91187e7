"""JSON logs on standard output: one object per line, with the request id and without the values of secrets."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


@dataclass
class RequestContext:
    """The current request or job."""

    request_id: str = ""
    trace_id: str = ""
    user: str = ""
    client: str = ""


current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)


def trace_headers() -> dict[str, str]:
    """Return the headers that pass the current request's id and client address to another service."""
    context = current_request.get()
    if context is None:
        return {}
    headers = {
        "X-Request-Id": context.request_id,
        "X-Amzn-Trace-Id": context.trace_id,
        "X-Forwarded-For": context.client,
    }
    return {name: value for name, value in headers.items() if value}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object. The keys of `extra` become fields."""

    def __init__(self, service: str, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._service = service
        # A short value would also match ordinary text. No secret is this short.
        self._secrets = tuple(json.dumps(secret)[1:-1] for secret in secrets if len(secret) >= 8)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON in which the values of known secrets are replaced."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = current_request.get()
        if context is not None:
            fields |= {"request_id": context.request_id, "trace_id": context.trace_id, "user": context.user}
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        line = json.dumps({name: value for name, value in fields.items() if value != ""}, default=str)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


def configure(service: str, level: str = "INFO", secrets: Sequence[str] = ()) -> None:
    """Send every logger's records to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service, secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    # The HTTP client logs whole URLs, and a URL can contain a token.
    for noisy in ("httpx", "httpcore", "httpx2", "httpcore2", "openai", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
