"""Who set which secret when: one SSM parameter, whose versions are the history. No value is in it.

AWS's own record is CloudTrail's PutSecretValue; this one is at hand, and names the person behind a shared role.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from alva.aws import Aws, error_code, explained, pages
from alva.release.lock import Holder
from alva.release.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of one secret."""

    secret: str
    by: str
    host: str
    at: str
    """ISO 8601, UTC."""

    @classmethod
    def now(cls, secret: str) -> Self:
        """This person changes `secret` now."""
        holder = Holder.this_process(f"set {secret}")
        return cls(secret=secret, by=holder.user, host=holder.host, at=datetime.now(UTC).isoformat(timespec="seconds"))


class SecretAudit:
    """The changes of one environment's secrets; Parameter Store keeps the last 100."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self.parameter_name = f"/{manifest.prefix}/secrets"

    def record(self, entry: Entry) -> None:
        """Write a change down."""
        with explained("record who set a secret"):
            self._aws.ssm.put_parameter(
                Name=self.parameter_name,
                Value=json.dumps(asdict(entry)),
                Type="String",
                Overwrite=True,
                Description="Who set which secret when: one version each. Written by ./alva",
            )

    def history(self) -> list[Entry]:
        """All changes that AWS still has, newest first."""
        with explained("read who set which secret"):
            try:
                versions = list(pages(self._aws.ssm, "get_parameter_history", "Parameters", Name=self.parameter_name))
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return []
                raise
        return [Entry(**json.loads(version["Value"])) for version in reversed(versions)]
