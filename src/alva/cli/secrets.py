"""`./alva secrets`: lists, generates, sets and rotates secrets. Values are never printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import Invocation, verb
from alva.cli.progress import step
from alva.errors import UsageError

if TYPE_CHECKING:
    from alva.release.manifest import Service


@click.group(help="Manage the secrets of an environment. Values are read from standard input and never printed.")
def command() -> None:
    """The group of the commands below."""


@verb(summary="List the secrets: whether each is set, since when, and which services use it.")
def list_(invocation: Invocation) -> None:
    """Print the secrets without their values."""
    from alva.release.secrets import Secrets

    statuses = Secrets(invocation.aws, invocation.manifest).check()
    if invocation.as_json:
        invocation.print_json(
            [
                {
                    "name": s.secret.name,
                    "kind": s.secret.kind,
                    "state": s.state.value,
                    "problem": s.problem,
                    "changed_at": s.changed_at,
                    "used_by": list(s.secret.used_by),
                }
                for s in statuses
            ]
        )
        return
    from alva.release.times import utc

    width = max(len(s.secret.name) for s in statuses)
    for s in statuses:
        since = utc(s.changed_at) if s.changed_at else "-"
        invocation.print(
            f"{s.secret.name:<{width}}  {s.problem or s.state.value:<9}  {since:<25}  {', '.join(s.secret.used_by)}"
        )


@verb(summary="Generate the unset secrets: the key pair and the random ones.")
def init(invocation: Invocation) -> None:
    """Generate the secrets and print their names."""
    from alva.release.secrets import Secrets, State

    secrets = Secrets(invocation.aws, invocation.manifest)
    made = secrets.initialise()
    left = [s.secret.name for s in secrets.check() if s.state is not State.SET]
    if invocation.as_json:
        invocation.print_json({"made": made, "left": left})
        return
    for name in made:
        invocation.print(f"made {name}")
    for name in left:
        invocation.print(f"not set: {name}")


@verb(summary="Set a secret from standard input, or from a prompt without echo.")
@click.option("--restart/--no-restart", default=None, help="Restart the services that use it; default: ask.")
@click.argument("name")
def set_(invocation: Invocation, name: str, restart: bool | None) -> None:
    """Read, check and store the value, then offer the restart that makes tasks read it."""
    from alva.release.secrets import Secrets

    secrets = Secrets(invocation.aws, invocation.manifest)
    secret = secrets.find(name)
    if sys.stdin.isatty():
        value = click.prompt(f"value of {secret.name}", hide_input=True, err=True)
    else:
        # Files and `echo` end with a newline that is not part of the value; a PEM key keeps it.
        value = sys.stdin.read()
        value = value if value.startswith("-----BEGIN") else value.rstrip("\r\n")
    if not value:
        raise UsageError(
            f"cannot set {secret.name}: standard input is empty",
            next_step=f"./alva secrets set {secret.name} < FILE, or run it at a terminal, which prompts without echo",
        )
    secrets.assign(secret.name, value)
    users = [invocation.manifest.service(service) for service in secret.used_by]
    said = f"set {secret.name}; tasks read it when they start: {', '.join(secret.used_by) or 'none'}"
    if restart is None and users and sys.stdin.isatty() and not invocation.as_json:
        restart = click.confirm(f"{said}. Restart them now, one task after another?", err=True)
    if restart and users:
        restart_services(invocation, users)
    if invocation.as_json:
        invocation.print_json(
            {"set": secret.name, "used_by": list(secret.used_by), "restarted": bool(restart and users)}
        )
    elif restart and users:
        invocation.print(f"set {secret.name}, and restarted {', '.join(secret.used_by)}")
    else:
        invocation.print(f"{said}; restart them with ./alva secrets restart {secret.name}" if users else said)


def restart_services(invocation: Invocation, services: Sequence[Service]) -> None:
    """Restart under the environment's lock: a concurrent release would check the wrong deployment."""
    from alva.release.lock import Lock
    from alva.release.restart import restart

    names = ", ".join(service.name for service in services)
    aws, manifest = invocation.aws, invocation.manifest
    with (
        invocation.progress as progress,
        Lock(aws, manifest).held(f"restart of {names}", progress.note),
        step(progress, "restart", f"restart {names}"),
    ):
        restart(aws, manifest, services, lambda text: progress.step_line("restart", text))


@verb(summary="Restart the services that use a secret, one task after another, so that they read it again.")
@click.argument("name")
def restart(invocation: Invocation, name: str) -> None:
    """Find the services and restart them."""
    from alva.release.secrets import Secrets

    secret = Secrets(invocation.aws, invocation.manifest).find(name)
    services = [invocation.manifest.service(service) for service in secret.used_by]
    if services:
        restart_services(invocation, services)
    if invocation.as_json:
        invocation.print_json({"restarted": list(secret.used_by)})
    else:
        invocation.print(f"restarted {', '.join(secret.used_by)}" if services else f"nothing uses {secret.name}")


@verb(summary="Rotate the generated password of database and cache, and restart the services that use it.")
@click.argument("name")
def rotate(invocation: Invocation, name: str) -> None:
    """Rotate under the environment's lock, because this changes stacks."""
    from alva.release.lock import Lock
    from alva.release.rotation import rotate
    from alva.release.secrets import Secrets

    aws, manifest = invocation.aws, invocation.manifest
    secret = Secrets(aws, manifest).find(name)
    with (
        invocation.progress as progress,
        Lock(aws, manifest).held(f"rotation of {secret.name}", progress.note),
        step(progress, "rotate", f"rotate {secret.name}"),
    ):
        stacks = rotate(aws, manifest, secret, lambda text: progress.step_line("rotate", text))
    if invocation.as_json:
        invocation.print_json({"rotated": secret.name, "stacks": list(stacks), "restarted": list(secret.used_by)})
    else:
        invocation.print(f"rotated {secret.name}: {', '.join(stacks)}; restarted {', '.join(secret.used_by)}")


@verb(summary="Show who set which secret, and when, newest first. Values are not recorded.")
def audit(invocation: Invocation) -> None:
    """Print the changes that Parameter Store has, at most 100."""
    from alva.release.secret_audit import SecretAudit

    history = SecretAudit(invocation.aws, invocation.manifest).history()
    if invocation.as_json:
        invocation.print_json([asdict(entry) for entry in history])
        return
    for entry in history:
        invocation.print(f"{entry.at}  {entry.secret}  by {entry.by} on {entry.host}")
    if not history:
        invocation.print("no secret was set yet")


@verb(summary="Check that every secret is set and well-formed. Exits with 3 if one is not.")
def check(invocation: Invocation) -> None:
    """Raise PreflightRefused if one is not."""
    from alva.release.secrets import Secrets

    Secrets(invocation.aws, invocation.manifest).require()
    if invocation.as_json:
        invocation.print_json({"ready": True})
    else:
        invocation.print("every secret is set and well-formed")


command.add_command(list_, "list")
command.add_command(init, "init")
command.add_command(set_, "set")
command.add_command(restart, "restart")
command.add_command(rotate, "rotate")
command.add_command(audit, "audit")
command.add_command(check, "check")
