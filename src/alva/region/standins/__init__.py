"""Stand-ins for the two outside APIs, OpenAI and Resend, as tasks of the local region see them, and the inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alva.region.server import Region


class StandIns:
    """Serves `api.openai.com`, `api.resend.com` and the inbox page on 127.0.0.1:<inbox_port>."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def install(self) -> None:
        """Nothing: the stand-ins are no part of AWS's API."""

    async def start(self) -> None:
        """Serve the stand-ins and publish their names."""

    async def stop(self) -> None:
        """Stop serving; the mails stay."""
