"""A rollback is a new release of an earlier release's digests. The schema stays, so it must still serve them.

Revisions only add, except for approved ones that remove something: no release before such a revision can be restored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alva.aws import Aws
from alva.errors import PreflightRefused, UsageError
from alva.release.images import is_published
from alva.release.ledger import SUCCEEDED, Ledger, Release
from alva.release.manifest import Manifest
from alva.release.stack_state import running_digests
from alva.release.stacks import Stacks


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A release that can be restored, or the reason why it cannot."""

    release: Release
    obstacle: str = ""


def choices(history: Sequence[Release], running: Mapping[str, str] | None = None) -> list[Choice]:
    """Return the successful releases before the running one, newest first, with the reason why one cannot be restored.

    `history` is the ledger, newest first. `running` are the running digests; None means those of the last release that
    succeeded. They differ where a release was killed and CloudFormation finished it. A release with the running digests
    is not a choice.
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
            obstacle = f"the schema no longer serves it: migration {taken} removed something that it needs"
        elif not runs_something_else(release, running):
            obstacle = "it runs now"
        found.append(Choice(release=release, obstacle=obstacle))
    return found


def runs_something_else(release: Release, running: Mapping[str, str]) -> bool:
    """Whether a service runs another image than that release's; services that only one of them has are ignored."""
    return any(running.get(name, digest) != digest for name, digest in release.digests.items())


def choose(history: Sequence[Release], number: int | None, running: Mapping[str, str] | None = None) -> Release:
    """Return the release to restore: the requested one, or the newest possible.

    Raises UsageError for a failed or unknown release, PreflightRefused for one that cannot be restored; both name the
    possible ones.
    """
    found = choices(history, running)
    possible = [choice.release.number for choice in found if not choice.obstacle]
    said = (
        f"these can be restored: {', '.join(map(str, possible))}" if possible else "no earlier release can be restored"
    )
    if number is None:
        if possible:
            return next(choice.release for choice in found if not choice.obstacle)
        raise PreflightRefused(
            "cannot roll back: there is no earlier release",
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
    """Return the release to restore, whose images are all in their repositories; raises as `choose` does."""
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
            f"cannot roll back to release {release.number}: some of its images are no longer in their repositories",
            evidence=gone,
            next_step="./alva deploy from its commit builds them again: " + release.commit,
        )
    return release


def _said(outcome: str) -> str:
    return {"failed": "failed", "rolled back": "was rolled back", "interrupted": "was interrupted"}.get(
        outcome, outcome
    )
