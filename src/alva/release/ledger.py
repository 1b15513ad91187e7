"""What was released when, by whom, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from alva.aws import Aws
from alva.release.history import PARAMETER_BYTES, History
from alva.release.manifest import Manifest

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
    run: str = ""
    """The address of the pipeline's run; empty for a release by hand."""
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    outcome: str = SUCCEEDED
    cause: str = ""
    """Why it failed, in one line."""

    @property
    def outcome_in_words(self) -> str:
        """The outcome, and what it means for what runs."""
        return f"{self.outcome}; what ran before it runs again" if self.outcome == ROLLED_BACK else self.outcome

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
        self._history = History(
            aws,
            f"/{manifest.prefix}/release",
            of="the ledger",
            description="Releases of this environment",
            read=Release.from_text,
        )
        self.parameter_name = self._history.parameter_name

    def record(self, release: Release) -> int:
        """Write the release down and return its number."""
        return self._history.add(release.to_text())

    def latest(self) -> Release | None:
        """The last release, or None when there was none."""
        return self._history.latest()

    def history(self) -> list[Release]:
        """All releases that AWS still has, newest first."""
        return self._history.all()
