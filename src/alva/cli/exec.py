"""`./alva exec SERVICE [-- COMMAND]`: open a shell or run a command in a running task."""

from __future__ import annotations

import click

from alva.cli.invocation import Invocation, verb


@verb(
    summary="Open a shell or run a command in a running task of a service, with its files, environment and network. "
    "Exits with the command's exit code. ECS Exec must be enabled in the environment (the setting tasks.exec_enabled); "
    "it logs sessions in /alva/ENVIRONMENT/exec and always runs as root. For a command that needs no running task, use "
    "./alva run.",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--task", help="The task, by its id or the beginning of it; default: the newest one.")
@click.option("--container", help="The container of a task with several (api, worker); default: the service's own.")
@click.argument("service")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    invocation: Invocation, service: str, arguments: tuple[str, ...], task: str | None, container: str | None
) -> int:
    """Print the task's output to standard output, and everything else to standard error."""
    import asyncio
    import secrets

    from alva.release import exec as session_in_task
    from alva.sessions import attachment, commands

    aws, manifest = invocation.aws, invocation.manifest
    found = manifest.service(service)
    target = session_in_task.choose(
        aws,
        manifest.cluster,
        found.service,
        environment=manifest.environment,
        container=container or found.name,
        task=task,
    )
    ends = attachment.Ends()
    if ends.is_terminal or invocation.verbose:
        click.echo(f"task {target.task}, container {target.container}", err=True)
    mark = secrets.token_hex(8)
    words = attachment.words(arguments, is_terminal=ends.is_terminal)
    session = session_in_task.start(aws, target, commands.wrapped(words, mark, is_terminal=ends.is_terminal))
    is_over = False
    try:
        exit_code = asyncio.run(attachment.attach(session, session_in_task.signature(aws, session), mark, ends))
        is_over = True
    finally:
        if not is_over:
            session_in_task.end(aws, session)
    return exit_code
