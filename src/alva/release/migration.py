"""The database migration: with the new image, before any service changes, one at a time."""

from __future__ import annotations

from alva.aws import Aws, explained
from alva.errors import AlvaError, MigrationFailed, TimedOut
from alva.release import oneoff
from alva.release.manifest import Manifest
from alva.release.oneoff import Line
from alva.release.stacks import Stacks


def run(aws: Aws, manifest: Manifest, line: Line, *, started_by: str = "alva", timeout_seconds: float = 900) -> None:
    """Run the migration task of the ecs stack to its end; raises MigrationFailed, with its last lines, if it fails."""
    migration = manifest.migration
    network = _outputs(aws, f"{manifest.prefix}-network")
    ecs = _outputs(aws, migration.stack)
    with explained("see whether a migration runs already"):
        running = aws.ecs.list_tasks(cluster=ecs["ClusterName"], family=migration.family, desiredStatus="RUNNING")
    if running["taskArns"]:
        raise MigrationFailed(
            "cannot migrate: another migration runs",
            evidence=running["taskArns"],
            next_step="wait for it to end",
        )
    lines: list[str] = []

    def keep(text: str) -> None:
        lines.append(text)
        line(text)

    one_off = oneoff.OneOff(
        cluster=ecs["ClusterName"],
        task_definition=ecs["MigrationTaskDefinitionArn"],
        container=migration.container,
        subnets=tuple(network["PrivateSubnetIds"].split(",")),
        security_groups=(network["EcsSecurityGroupId"],),
        started_by=started_by,
        timeout_seconds=timeout_seconds,
    )
    try:
        ended = oneoff.run(aws, one_off, output=keep, state=line)
    except TimedOut as error:
        raise MigrationFailed(f"cannot migrate: {error.message}", evidence=error.evidence) from error
    except AlvaError as error:
        raise MigrationFailed(
            f"cannot migrate: {error.message.removeprefix('cannot ')}", evidence=error.evidence
        ) from error
    if not ended.succeeded:
        raise MigrationFailed(
            "cannot migrate: the migration failed; no service was touched",
            evidence=[*ended.reasons, f"ECS: {ended.stopped_reason}", *(f"last log: {text}" for text in lines[-4:])],
            next_step="./alva logs migrations",
        )


def _outputs(aws: Aws, stack: str) -> dict[str, str]:
    observed = Stacks(aws).observe(stack, with_template=False)
    if observed is None:
        raise MigrationFailed(f"cannot migrate: there is no stack {stack} yet", next_step="./alva deploy")
    return dict(observed.outputs)
