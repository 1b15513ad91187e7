"""A rollback is a new release of an earlier one's digests: the schema stays, so it must still serve them.

Revisions only add, except for those that somebody allowed to take something away: no release before such a one can come
back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alva.aws import Aws
from alva.errors import PreflightRefused, UsageError
from alva.release.images import is_published
from alva.release.ledger import SUCCEEDED, Ledger, Release
from alva.release.manifest import Manifest
from alva.release.plan import running_digests
from alva.release.stacks import Stacks


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A release that could come back, or why it cannot."""

    release: Release
    obstacle: str = ""


def choices(history: Sequence[Release], running: Mapping[str, str] | None = None) -> list[Choice]:
    """The good releases before what runs now, newest first, with what keeps each from coming back.

    `history` is the ledger, newest first; `running` are the digests that run, None where they are those of the last
    release that succeeded. They are others where a release was killed and CloudFormation finished what it had begun.
    A release with the digests that run now is not a choice.
    """
    good = [release for release in history if release.outcome == SUCCEEDED]
    if not good:
        return []
    if running is None:
        running = good[0].digests
    found = []
    for release in good if runs_something_else(good[0], running) else good[1:]:
        later = [r for r in history if r.number > release.number and r.contractions]
        obstacle = ""
        if later:
            taken = ", ".join(revision for r in reversed(later) for revision in r.contractions)
            obstacle = f"the schema no longer serves it: migration {taken} took something away"
        elif not runs_something_else(release, running):
            obstacle = "it is what runs now"
        found.append(Choice(release=release, obstacle=obstacle))
    return found


def runs_something_else(release: Release, running: Mapping[str, str]) -> bool:
    """Whether a service runs another image than in that release; services that one of them lacks are not compared."""
    return any(running.get(name, digest) != digest for name, digest in release.digests.items())


def choose(history: Sequence[Release], number: int | None, running: Mapping[str, str] | None = None) -> Release:
    """The release to come back: the one asked for, or the newest that can.

    Raises UsageError for one that is not in the ledger or failed, PreflightRefused for one that cannot come back;
    both say which can.
    """
    found = choices(history, running)
    possible = [choice.release.number for choice in found if not choice.obstacle]
    said = f"these can come back: {', '.join(map(str, possible))}" if possible else "no earlier release can come back"
    if number is None:
        if possible:
            return next(choice.release for choice in found if not choice.obstacle)
        raise PreflightRefused(
            "cannot roll back: there is no earlier release to go back to",
            evidence=[f"release {c.release.number}: {c.obstacle}" for c in found[:5]],
            next_step="./alva releases",
        )
    for choice in found:
        if choice.release.number != number:
            continue
        if choice.obstacle:
            raise PreflightRefused(
                f"cannot roll back to release {number}: {choice.obstacle}", evidence=[said], next_step="./alva releases"
            )
        return choice.release
    known = next((release for release in history if release.number == number), None)
    if known is None:
        raise UsageError(f"cannot find release {number} in the ledger", evidence=[said], next_step="./alva releases")
    why = "it is the last release that succeeded" if known.outcome == SUCCEEDED else f"it {_said(known.outcome)}"
    raise UsageError(f"cannot roll back to release {number}: {why}", evidence=[said], next_step="./alva releases")


def find(aws: Aws, manifest: Manifest, number: int | None) -> Release:
    """The release to come back, all of whose images are still in their repositories; raises as `choose` does."""
    stacks = [Stacks(aws).observe(stack.name, with_template=False) for stack in manifest.stacks_of("services")]
    running = {name: digest for stack in stacks for name, digest in running_digests(manifest, stack).items()}
    release = choose(Ledger(aws, manifest).history(), number, running)
    services = {service.name: service for service in manifest.services}
    gone = [
        f"{services[name].repository}@{digest}"
        for name, digest in release.digests.items()
        if name in services and not is_published(aws, services[name].repository, digest)
    ]
    if gone:
        raise PreflightRefused(
            f"cannot roll back to release {release.number}: images of it are no longer in their repositories",
            evidence=gone,
            next_step="./alva deploy from its commit builds them again: " + release.commit,
        )
    return release


def _said(outcome: str) -> str:
    return {"failed": "failed", "rolled back": "was rolled back", "interrupted": "was interrupted"}.get(
        outcome, outcome
    )
