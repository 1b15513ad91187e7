"""The ledger: the history of releases."""

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
    """One release, with its outcome."""

    number: int = 0
    """The version of the SSM parameter. AWS sets it when the release is recorded."""
    commit: str
    """The commit that was released, followed by `+` if the working tree had changes."""
    digests: Mapping[str, str]
    """Service name -> requested digest."""
    migrated_digest: str | None = None
    """The image whose migration succeeded last, in this release or an earlier one."""
    revision: str | None = None
    """The revision of the schema after this release, if known."""
    contractions: Sequence[str] = ()
    """The revisions of this release that removed something: no earlier release can be restored."""
    rollback_of: int | None = None
    """For a rollback: the release whose digests these are."""
    by: str
    run: str = ""
    """The URL of the pipeline's run; empty for a release by hand."""
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    outcome: str = SUCCEEDED
    cause: str = ""
    """Why it failed, in one line."""

    @property
    def outcome_in_words(self) -> str:
        """The outcome, with the version that runs after a rollback."""
        if self.outcome == ROLLED_BACK:
            return f"{self.outcome}; all services run the former version again"
        return self.outcome

    def to_text(self) -> str:
        """Return the parameter's value, shortened to the size of a standard parameter (4 KB)."""
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
        """Parse a parameter's value; fields of later versions of this tool are ignored."""
        values: dict[str, Any] = json.loads(text)
        known = {key: value for key, value in values.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "number": number})


class Ledger:
    """The releases of one environment."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._history = History(
            aws,
            manifest.parameters.releases,
            of="the ledger",
            description="Releases of this environment",
            read=Release.from_text,
        )
        self.parameter_name = self._history.parameter_name

    def record(self, release: Release) -> int:
        """Record the release and return its number."""
        return self._history.add(release.to_text())

    def latest(self) -> Release | None:
        """Return the last release, or None if there is none."""
        return self._history.latest()

    def history(self) -> list[Release]:
        """Return all releases that Parameter Store has, newest first."""
        return self._history.all()
