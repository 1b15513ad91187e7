"""Mails through Resend. They are sent after the response, so that its duration does not reveal whether there is one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

log = logging.getLogger(__name__)

_SECONDS_BEFORE_ATTEMPTS = (0.0, 0.5, 2.0)


@dataclass(frozen=True)
class Mail:
    """A mail with one link. `footnote` states how long the link is valid, or why the mail was sent."""

    to: str
    subject: str
    heading: str
    text: str
    button: str
    url: str
    footnote: str


class Mailer:
    """Renders and sends mails. A failure is logged; the user can request another mail."""

    def __init__(
        self, api_key: str, sender: str, *, seconds_before_attempts: Sequence[float] = _SECONDS_BEFORE_ATTEMPTS
    ) -> None:
        self._api_key = api_key
        self._sender = sender
        self._seconds_before_attempts = seconds_before_attempts
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
        )

    async def send(self, mail: Mail) -> bool:
        """Send the mail, and return whether it was sent. All attempts have one idempotency key, so it cannot arrive
        twice.
        """
        # Imported at first use, because the library is large and most requests send no mail.
        import resend
        from resend.exceptions import ResendError
        from resend.http_client_httpx import HTTPXClient

        resend.api_key = self._api_key
        resend.default_async_http_client = HTTPXClient(timeout=10)
        parameters: resend.Emails.SendParams = {
            "from": self._sender,
            "to": [mail.to],
            "subject": mail.subject,
            "html": self._templates.get_template("link.html").render(mail=mail),
            "text": self._templates.get_template("link.txt").render(mail=mail),
        }
        options: resend.Emails.SendOptions = {"idempotency_key": uuid4().hex}
        for seconds in self._seconds_before_attempts:
            await asyncio.sleep(seconds)
            try:
                await resend.Emails.send_async(parameters, options)
            except ResendError as error:
                log.warning("mail not sent: %s (%s): %s", error.error_type, error.code, error.message)
            else:
                return True
        log.error("cannot send a mail: gave up after %d attempts", len(self._seconds_before_attempts))
        return False
