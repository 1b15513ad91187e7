"""The request for a release."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alva.checks.revisions import Revision
from alva.release.approval import Ask
from alva.release.executor import STEP_TIMEOUT_SECONDS
from alva.release.risks import Kind

DEADLINE_SECONDS = 5400.0
"""The limit of a release's steps and verification in total."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request for a release."""

    digests: Mapping[str, str | None]
    """Service name -> digest to release, None to build it; other services keep their image."""
    commit: str
    secret_values: Mapping[str, str] | None = None
    """As in `Executor`."""
    checks_account: bool = False
    """Whether to check, before the first change, that the account can create new stacks. A local region always can."""
    is_forced: bool = False
    revisions: tuple[Revision, ...] | None = None
    """The revisions in the migration's new image; None if they are not known."""
    keeps_schema: bool = False
    """As in `Wanted`."""
    keeps_templates: bool = False
    """For a rollback: only image digests change; each stack keeps its deployed template and tags."""
    rollback_of: int | None = None
    """For a rollback: the release whose digests these are."""
    findings: Callable[[], Mapping[str, Sequence[str]]] | None = None
    """Returns the findings of the template rules, by rule; called only if there is something to do."""
    allowed: frozenset[Kind] = frozenset()
    """Kinds of risks that need no approval."""
    step_timeout_seconds: float = STEP_TIMEOUT_SECONDS
    deadline_seconds: float = DEADLINE_SECONDS
    """After this time the release is cancelled and rolled back, whichever step it is in."""
    watch_seconds: float = 0.0
    """How long the new version must keep running after its verification."""
    lock_wait_seconds: float = 0.0
    """How long to wait for a lock that somebody else holds."""
    ask: Ask | None = None
    """Asks a person for approval; None if nobody can answer."""
