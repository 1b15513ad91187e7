"""The format of all times: UTC, to the second, such as 2026-01-31T12:00:00Z."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(time: datetime) -> str:
    """Format an aware datetime in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now() -> str:
    """Format the current time."""
    return utc(datetime.now(UTC))
