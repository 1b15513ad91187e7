"""`./alva secrets`: which are set, make what can be made, set the rest. A value is never printed."""

from __future__ import annotations

import sys

import click

from alva.cli.invocation import Invocation, verb
from alva.errors import UsageError


@click.group(help="The secrets of an environment. Values are read from standard input and never printed.")
def command() -> None:
    """Holds the four below."""


@verb(summary="The secrets, whether each is set, since when, and who uses it.")
def list_(invocation: Invocation) -> None:
    """Print them without their values."""
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
    width = max(len(s.secret.name) for s in statuses)
    for s in statuses:
        since = s.changed_at.isoformat(timespec="seconds") if s.changed_at else "-"
        invocation.print(
            f"{s.secret.name:<{width}}  {s.problem or s.state.value:<9}  {since:<25}  {', '.join(s.secret.used_by)}"
        )


@verb(summary="Make the unset secrets that can be made: the key pair and the random ones.")
def init(invocation: Invocation) -> None:
    """Make them and name them."""
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
        invocation.print(f"still to be set by you: {name}")


@verb(summary="Set one secret to what standard input holds, or to what is typed (without echo).")
@click.argument("name")
def set_(invocation: Invocation, name: str) -> None:
    """Read the value, judge it, and store it."""
    from alva.release.secrets import Secrets

    secrets = Secrets(invocation.aws, invocation.manifest)
    secret = secrets.find(name)
    if sys.stdin.isatty():
        value = click.prompt(f"value of {secret.name}", hide_input=True, err=True)
    else:
        # A file or `echo` ends with a newline that is no part of the value; a PEM key keeps its own.
        value = sys.stdin.read()
        value = value if value.startswith("-----BEGIN") else value.rstrip("\r\n")
    if not value:
        raise UsageError(f"cannot set {secret.name}: standard input is empty")
    secrets.assign(secret.name, value)
    if invocation.as_json:
        invocation.print_json({"set": secret.name, "used_by": list(secret.used_by)})
    else:
        invocation.print(f"set {secret.name}; tasks read it when they start: {', '.join(secret.used_by)}")


@verb(summary="Check that every secret is set and well-formed. Ends with 3 when one is not.")
def check(invocation: Invocation) -> None:
    """Raise when one is not."""
    from alva.release.secrets import Secrets

    Secrets(invocation.aws, invocation.manifest).require()
    if invocation.as_json:
        invocation.print_json({"ready": True})
    else:
        invocation.print("every secret is set and well-formed")


command.add_command(list_, "list")
command.add_command(init, "init")
command.add_command(set_, "set")
command.add_command(check, "check")
