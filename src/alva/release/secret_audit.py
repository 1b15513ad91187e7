"""The audit of secrets: who set which secret, and when. It contains no values.

AWS's own record is PutSecretValue in CloudTrail; this one needs no query, and names the person behind a shared role.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from alva.aws import Aws
from alva.release.history import History
from alva.release.lock import Holder
from alva.release.manifest import Manifest
from alva.release.times import utc_now


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of a secret."""

    secret: str
    by: str
    host: str
    at: str
    """ISO 8601, UTC."""

    @classmethod
    def now(cls, secret: str) -> Self:
        """Return an entry for a change by the current user, now."""
        holder = Holder.this_process(f"set {secret}")
        return cls(secret=secret, by=holder.user, host=holder.host, at=utc_now())


class SecretAudit:
    """The audit of one environment."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._history = History(
            aws,
            manifest.parameters.secrets,
            of="the record of who set which secret",
            description="Who set which secret when",
            read=lambda text, _: Entry(**json.loads(text)),
        )
        self.parameter_name = self._history.parameter_name

    def record(self, entry: Entry) -> None:
        """Record a change."""
        self._history.add(json.dumps(asdict(entry)))

    def history(self) -> list[Entry]:
        """Return all changes that Parameter Store has, newest first."""
        return self._history.all()
