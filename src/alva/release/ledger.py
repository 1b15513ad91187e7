"""What was released when, by whom, and how it ended: one SSM parameter, whose versions are the history.

Parameter Store keeps the last 100 versions of a parameter (AWS: "Working with parameter versions").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from alva.aws import Aws, error_code, explained, pages
from alva.release.manifest import Manifest

PARAMETER_BYTES = 4096
"""What a standard parameter holds."""

SUCCEEDED = "succeeded"
FAILED = "failed"
ROLLED_BACK = "rolled back"
INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release, whatever came of it."""

    number: int = 0
    """The version of the parameter: given by AWS when it is recorded."""
    commit: str
    """The commit of the sources, with `+` behind it when the working tree differed from it."""
    digests: Mapping[str, str]
    """Service name -> digest that was asked for."""
    migrated_digest: str | None = None
    """The image whose migration succeeded last, in this release or before it."""
    revision: str | None = None
    """The revision that the schema is at afterwards, where it is known."""
    contractions: Sequence[str] = ()
    """The revisions among those of this release that took something away: no release before it can come back."""
    rollback_of: int | None = None
    """For a rollback: the release whose digests these are."""
    by: str
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    outcome: str = SUCCEEDED
    cause: str = ""
    """Why it failed, in one line."""

    def to_text(self) -> str:
        """The parameter's value; shortened to what a standard parameter holds (4 KB)."""
        values = asdict(self)
        del values["number"]
        text = json.dumps(values, separators=(",", ":"))
        if len(text.encode()) > PARAMETER_BYTES:
            values["step_seconds"] = {}
            values["cause"] = self.cause[:500]
            text = json.dumps(values, separators=(",", ":"))
        return text

    @classmethod
    def from_text(cls, text: str, number: int) -> Self:
        """Read a parameter's value; unknown fields of later versions of this tool are left out."""
        values: dict[str, Any] = json.loads(text)
        known = {key: value for key, value in values.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "number": number})


class Ledger:
    """The releases of one environment."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self.parameter_name = f"/{manifest.prefix}/release"

    def record(self, release: Release) -> int:
        """Write the release down and return its number."""
        with explained("record the release"):
            return self._aws.ssm.put_parameter(
                Name=self.parameter_name,
                Value=release.to_text(),
                Type="String",
                Overwrite=True,
                Description="Releases of this environment: one version each. Written by ./alva",
            )["Version"]

    def latest(self) -> Release | None:
        """The last release, or None when there was none."""
        with explained("read the ledger"):
            try:
                parameter = self._aws.ssm.get_parameter(Name=self.parameter_name)["Parameter"]
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise
        return Release.from_text(parameter["Value"], parameter["Version"])

    def history(self) -> list[Release]:
        """All releases that AWS still has, newest first."""
        with explained("read the ledger"):
            try:
                versions = list(pages(self._aws.ssm, "get_parameter_history", "Parameters", Name=self.parameter_name))
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return []
                raise
        return [Release.from_text(v["Value"], v["Version"]) for v in reversed(versions)]
