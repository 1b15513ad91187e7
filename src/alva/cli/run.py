"""`./alva run SERVICE -- COMMAND`: runs a one-off task with a service's image, environment and secrets."""

from __future__ import annotations

import click

from alva.cli.invocation import Invocation, verb
from alva.errors import UsageError


@verb(
    summary="Run a one-off task with a service's environment. Shows its output, and exits with its exit code.\n\n"
    "Example: ./alva run auth -- python -m auth.promote me@example.com",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--timeout", "timeout_seconds", default=900, show_default=True, help="Time limit in seconds.")
@click.argument("service")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
def command(invocation: Invocation, service: str, arguments: tuple[str, ...], timeout_seconds: int) -> int:
    """Print the output to standard output, everything else to standard error."""
    from alva.release import oneoff

    aws, manifest = invocation.aws, invocation.manifest
    found = manifest.service(service)
    if not arguments:
        raise UsageError("cannot run a task without a command", next_step=f"./alva run {service} -- COMMAND")
    task_definition, subnets, security_groups = oneoff.network_of_service(aws, manifest.cluster, found.service)

    def state(text: str) -> None:
        if invocation.verbose:
            click.echo(text, err=True)

    ended = oneoff.run(
        aws,
        oneoff.OneOff(
            cluster=manifest.cluster,
            task_definition=task_definition,
            container=found.name,
            subnets=subnets,
            security_groups=security_groups,
            command=arguments,
            idle_commands=found.idle_commands,
            started_by="alva-run",
            timeout_seconds=timeout_seconds,
        ),
        output=invocation.print,
        state=state,
    )
    for reason in ended.reasons:
        click.echo(f"{reason} ({ended.stopped_reason})", err=True)
    if ended.exit_code is None:
        return 1
    return ended.exit_code or (1 if ended.reasons else 0)
