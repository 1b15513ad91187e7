"""`./alva why`: cause, evidence and next step of each current failure, and of a failed release."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import Invocation, verb

if TYPE_CHECKING:
    from alva.release.diagnosis import Diagnosis
    from alva.release.why import FailedRelease


@verb(
    summary="Show why a service or a stack fails now, and why a release failed: cause, evidence, next step.\n\n"
    "Without a name it shows current failures and the last failed release. With --release it shows that release, "
    "even after ECS has deleted its stopped tasks."
)
@click.option("--release", "number", type=int, help="A release that failed, by its number in ./alva releases.")
@click.argument("services", nargs=-1)
def command(invocation: Invocation, number: int | None, services: tuple[str, ...]) -> None:
    """Read current failures, then the stored causes of a release."""
    from alva.release import why

    aws, manifest = invocation.aws, invocation.manifest
    names = [manifest.service(name).name for name in services]
    now: list[Diagnosis] = []
    if number is None:
        now = [
            *why.services_causes(aws, manifest, since=None if names else datetime.now(UTC) - why.RECENT, names=names),
            *([] if names else why.stacks_causes(aws, manifest)),
        ]
    stored = why.FailedReleases(aws, manifest).find(number)
    if names and stored is not None:
        stored = stored if any(cause.subject in names for cause in stored.causes) else None
    if invocation.as_json:
        invocation.print_json(
            {
                "now": [cause.as_json() for cause in now],
                "release": stored.as_json() if stored is not None else None,
            }
        )
        return
    for line in in_words(now, stored, number, is_recent=not names):
        invocation.print(line)


def in_words(
    now: Sequence[Diagnosis], stored: FailedRelease | None, number: int | None, *, is_recent: bool = True
) -> list[str]:
    """Format current failures and the stored causes as lines of text."""
    from alva.release.why import RECENT

    lines = []
    for cause in now:
        lines += _cause(cause)
    if stored is not None:
        lines += ([""] if lines else []) + [
            f"release {stored.release} ended with exit code {stored.exit_code}: {stored.message}"
        ]
        known = {(cause.subject, cause.cause) for cause in now}
        for cause in stored.causes:
            lines += _cause(cause) if (cause.subject, cause.cause) not in known else []
    elif number is not None:
        lines.append(
            f"no causes are stored for release {number}: it did not fail, or it failed before they were stored"
        )
    return lines or [
        f"nothing has failed in the last {RECENT.seconds // 60} minutes" if is_recent else "nothing has failed"
    ]


def _cause(cause: Diagnosis) -> list[str]:
    return [
        click.style(f"{cause.subject}: {cause.cause}", bold=True),
        *(f"  {line}" for line in cause.evidence),
        f"  next: {cause.next_step}",
    ]
