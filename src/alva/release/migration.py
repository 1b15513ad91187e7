"""The database migration: it runs with the new image, before any service changes, one at a time."""

from __future__ import annotations

from alva.aws import Aws, explained
from alva.errors import AlvaError, MigrationFailed, TimedOut
from alva.release import oneoff
from alva.release.manifest import Manifest
from alva.release.oneoff import Line
from alva.release.stacks import Stacks

TIMEOUT_SECONDS = 900.0


def run(
    aws: Aws, manifest: Manifest, line: Line, *, started_by: str = "alva", timeout_seconds: float = TIMEOUT_SECONDS
) -> None:
    """Run the migration task to its end; raises MigrationFailed with its last lines."""
    migration = manifest.migration
    network = _outputs(aws, manifest.stack("network").name)
    ecs = _outputs(aws, migration.stack)
    _wait_for_others(aws, ecs["ClusterName"], migration.family, line, timeout_seconds)
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


def _wait_for_others(aws: Aws, cluster: str, family: str, line: Line, timeout_seconds: float) -> None:
    """Wait for the migration of an interrupted release; raises MigrationFailed at the time limit."""
    running: list[str] = []

    def none_left() -> bool | None:
        nonlocal running
        with explained("find running migrations"):
            now = aws.ecs.list_tasks(cluster=cluster, family=family, desiredStatus="RUNNING")["taskArns"]
        if now and not running:
            line("waiting for another migration to end")
        running = now
        return None if now else True

    try:
        aws.poll.until(none_left, timeout_seconds=timeout_seconds, what="another migration to end")
    except TimedOut as error:
        raise MigrationFailed(
            "cannot migrate: another migration does not end",
            evidence=running,
            next_step=f"./alva logs migrations; to stop it: aws ecs stop-task --cluster {cluster} --task {running[0]}",
        ) from error


def _outputs(aws: Aws, stack: str) -> dict[str, str]:
    observed = Stacks(aws).observe(stack, with_template=False)
    if observed is None:
        raise MigrationFailed(f"cannot migrate: there is no stack {stack} yet", next_step="./alva deploy")
    return dict(observed.outputs)
