"""What somebody asks a release for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alva.checks.revisions import Revision
from alva.release.approval import Ask
from alva.release.executor import STEP_TIMEOUT_SECONDS
from alva.release.risks import Kind

DEADLINE_SECONDS = 5400.0
"""For all steps of a release and their verification together."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the person asked for."""

    digests: Mapping[str, str | None]
    """Service name -> digest to release, None to build it; services that are not named keep what they run."""
    commit: str
    secret_values: Mapping[str, str] | None = None
    """As in `Executor`."""
    is_forced: bool = False
    revisions: tuple[Revision, ...] | None = None
    """The history of the schema in the migration's new image; None where it is not known."""
    keeps_schema: bool = False
    """As in `Wanted`."""
    keeps_templates: bool = False
    """A rollback: image digests change, every stack keeps the template and the tags that are deployed."""
    rollback_of: int | None = None
    """For a rollback: the release whose digests these are."""
    findings: Callable[[], Mapping[str, Sequence[str]]] | None = None
    """Asks the template rules what they find, by rule; called only when there is something to do."""
    allowed: frozenset[Kind] = frozenset()
    """What may happen without being asked about."""
    step_timeout_seconds: float = STEP_TIMEOUT_SECONDS
    deadline_seconds: float = DEADLINE_SECONDS
    """After this long everything is called off, whichever step it has come to, and taken back."""
    watch_seconds: float = 0.0
    """How long what was released must go on running, after it has verified, before the release counts as good."""
    lock_wait_seconds: float = 0.0
    """How long to wait for a lock that somebody else holds."""
    ask: Ask | None = None
    """How to ask about the rest; None: nobody is there to answer."""
