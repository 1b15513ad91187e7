"""The mails to the Resend stand-in, stored in the region's state."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import uuid4


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One mail, as sent to Resend."""

    id: str
    created_at: str
    """ISO 8601, UTC."""
    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    subject: str = ""
    html: str = ""
    text: str = ""

    @property
    def links(self) -> tuple[str, ...]:
        """The web addresses in it, in order, without repetition."""
        collector = _Links()
        collector.feed(self.html)
        found = [*collector.links, *re.findall(r"https?://[^\s<>\"')\]]+", self.text)]
        return tuple(dict.fromkeys(found))

    @property
    def recipients(self) -> tuple[str, ...]:
        return (*self.to, *self.cc, *self.bcc)

    def as_json(self) -> dict[str, Any]:
        """The mail in the inbox's API."""
        return {
            "id": self.id,
            "created_at": self.created_at,
            "from": self.sender,
            "to": list(self.to),
            "cc": list(self.cc),
            "bcc": list(self.bcc),
            "reply_to": list(self.reply_to),
            "subject": self.subject,
            "html": self.html,
            "text": self.text,
            "links": list(self.links),
        }


def address_of(mailbox: str) -> str:
    """The bare address in lower case: "Ann <Ann@Example.com>" is "ann@example.com"."""
    inner = re.search(r"<([^<>]*)>\s*$", mailbox)
    return (inner[1] if inner else mailbox).strip().lower()


class Mailbox:
    """All mails of a region, in one SQLite file."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS mails"
            " (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, mail TEXT, key TEXT UNIQUE, request TEXT)"
        )

    def add(self, values: Mapping[str, Any], *, idempotency_key: str | None = None, request: str | None = None) -> Mail:
        """Add a mail with `values` (the fields of Mail except `id` and `created_at`)."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        mail = Mail(id=str(uuid4()), created_at=now, **values)
        self._database.execute(
            "INSERT INTO mails (id, mail, key, request) VALUES (?, ?, ?, ?)",
            (mail.id, json.dumps(mail.__dict__), idempotency_key, request),
        )
        return mail

    def sent_with(self, idempotency_key: str) -> tuple[str, str] | None:
        """The id of the mail that was sent with this idempotency key, and its request."""
        row = self._database.execute("SELECT id, request FROM mails WHERE key = ?", (idempotency_key,)).fetchone()
        return (row[0], row[1]) if row else None

    def mails(self, to: str | None = None) -> list[Mail]:
        """The mails, newest first; with `to`, only those to this address."""
        rows = self._database.execute("SELECT mail FROM mails ORDER BY number DESC")
        mails = [_read(row[0]) for row in rows]
        if to is None:
            return mails
        return [mail for mail in mails if to.strip().lower() in map(address_of, mail.recipients)]

    def mail(self, identifier: str) -> Mail | None:
        """One mail."""
        row = self._database.execute("SELECT mail FROM mails WHERE id = ?", (identifier,)).fetchone()
        return _read(row[0]) if row else None

    def clear(self) -> int:
        """Delete all mails and return how many there were."""
        return self._database.execute("DELETE FROM mails").rowcount

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _read(text: str) -> Mail:
    values = json.loads(text)
    lists = {name: tuple(values[name]) for name in ("to", "cc", "bcc", "reply_to")}
    return Mail(**(values | lists))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if tag == "a" and name == "href" and value and value.startswith(("http://", "https://")):
                self.links.append(value)
