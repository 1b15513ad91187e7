"""`./alva logs`: prints the services' log lines, merged."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import Invocation, verb
from alva.errors import UsageError

if TYPE_CHECKING:
    from alva.release.logs import LogLine

COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan")
LEVEL_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@verb(summary="Show log lines of the named services (and migrations), or of all, oldest first, with UTC times.")
@click.argument("services", nargs=-1)
@click.option("-f", "--follow", "is_following", is_flag=True, help="Follow new lines, until Ctrl-C.")
@click.option(
    "--since", default="10m", show_default=True, help="30s, 10m, 2h, 1d, or a time in UTC such as 2026-01-31T12:00Z."
)
@click.option("--filter", "pattern", default="", help="A CloudWatch Logs filter pattern.")
@click.option("--raw", is_flag=True, help="Print messages unchanged, without time and source.")
def command(
    invocation: Invocation, services: tuple[str, ...], is_following: bool, since: str, pattern: str, raw: bool
) -> None:
    """Print one line each; with --json one object per line."""
    from alva.release import logs

    aws = invocation.aws
    groups = logs.log_groups(invocation.manifest, services)
    start = parse_since(since, datetime.now(UTC))
    lines = (
        logs.follow(aws, groups, since=start, pattern=pattern)
        if is_following
        else iter(logs.read(aws, groups, since=start, pattern=pattern))
    )
    with contextlib.suppress(KeyboardInterrupt) if is_following else contextlib.nullcontext():
        show(invocation, lines, raw=raw)


def show(invocation: Invocation, lines: Iterable[LogLine], *, raw: bool) -> None:
    """Print each line as it comes."""
    colours: dict[str, str] = {}
    for line in lines:
        if invocation.as_json:
            click.echo(json.dumps(line.as_json()))
        elif raw:
            click.echo(line.message)
        else:
            colour = colours.setdefault(line.source, COLOURS[len(colours) % len(COLOURS)])
            time = line.time.strftime("%H:%M:%S.%f")[:-3] + "Z"
            click.echo(
                f"{click.style(time, dim=True)} {click.style(f'{line.source:<12}', fg=colour)} {say(line.message)}"
            )


def say(message: str) -> str:
    """Format a JSON log line: level, message, and the fields that differ between lines."""
    try:
        fields = json.loads(message)
    except ValueError:
        return message
    if not isinstance(fields, dict) or "message" not in fields:
        return message
    level = str(fields.pop("level", "")).upper()
    text = str(fields.pop("message"))
    for ordinary in ("time", "timestamp", "service", "logger", "environment"):
        fields.pop(ordinary, None)
    exception = fields.pop("exception", None)
    rest = " ".join(f"{key}={value}" for key, value in fields.items() if value not in (None, ""))
    said = f"{click.style(f'{level:<7}', fg=LEVEL_COLOURS.get(level))} {text}"
    if rest:
        said += " " + click.style(rest, dim=True)
    return said + (f"\n{exception}" if exception else "")


def parse_since(text: str, now: datetime) -> datetime:
    """Parse a time such as "10m" or "2026-01-31T12:00Z"; raises UsageError if it is invalid."""
    if found := re.fullmatch(r"(\d+)([smhd])", text):
        return now - timedelta(**{UNITS[found[2]]: int(found[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"cannot read the time {text!r}", next_step="write 30s, 10m, 2h, 1d or 2026-01-31T12:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
