"""`./alva status`: services, tasks, targets, stacks and the last release."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import Invocation, verb

if TYPE_CHECKING:
    from alva.release.status import ServiceStatus, Status

WATCH_SECONDS = 2.0

SUCCEEDED = "succeeded"

COLOURS = {"good": "green", "busy": "cyan", "warning": "yellow", "bad": "red", "asleep": "cyan", "empty": "yellow"}
"""Level of a condition -> colour."""


@verb(summary="Show whether the environment works: services, tasks, targets, stacks and the last release.")
@click.option("--watch", is_flag=True, help="Repeat every 2 seconds, until Ctrl-C.")
def command(invocation: Invocation, watch: bool) -> None:
    """Print the status once, or repeatedly with --watch."""
    if not watch:
        show(invocation)
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if sys.stdout.isatty() and not invocation.as_json:
                click.clear()
            show(invocation)
            invocation.aws.poll.pause(WATCH_SECONDS)


def show(invocation: Invocation) -> None:
    """Read the status once and print it."""
    from alva.release import status
    from alva.release.condition import judge

    region = _region(invocation) if invocation.is_local else None
    found = status.read_status(invocation.aws, invocation.manifest)
    if invocation.as_json:
        invocation.print_json(
            {
                **asdict(found),
                "condition": asdict(judge(found)),
                "drifts": [each.as_json() for each in found.drifts],
                **({"local_region": region} if region else {}),
            }
        )
        return
    invocation.print("\n".join(in_words(found, region, datetime.now(UTC))))


def in_words(found: Status, region: dict[str, object] | None, now: datetime) -> Iterator[str]:
    """Format the status as lines of text."""
    from alva.release.condition import judge

    condition = judge(found)
    yield f"{found.environment} at {found.url or 'no address yet'}"
    yield click.style(condition.summary, fg=COLOURS[condition.level], bold=True) + (
        f" (next: {condition.next_step})" if condition.next_step else ""
    )
    for finding in condition.findings:
        yield click.style(f"  {finding}", fg=COLOURS[finding.level]) + (
            f" (next: {finding.next_step})" if finding.next_step else ""
        )
    if region is not None:
        yield (
            f"local region: process {region['pid']} since {_ago(region['started_at'], now)}, "
            f"{region['endpoint']}, inbox {region['inbox']}"
        )
        yield f"  names in tasks: {region['names']}"
        yield f"  network: {region['network']}"
        yield f"  memory limits: {region['memory_limits']}"
        if region["adverse_conditions"]:
            yield f"  adverse conditions: on, AWS's delays divided by {region['adverse_conditions']:g}"
        yield from _failures(region["failures"])
    if found.release is not None:
        yield (
            f"release {found.release.number} {found.release.outcome_in_words}, commit {found.release.commit}, "
            f"by {found.release.by} at {found.release.started_at}"
        )
        if found.release.outcome != SUCCEEDED:
            yield f"  {found.release.cause}"
    if found.lock is not None:
        yield f"locked by {found.lock}"
    yield ""
    for service in found.services:
        yield from _service(service, now)
    yield ""
    for stack in found.stacks:
        good = stack.status.endswith("_COMPLETE") and "ROLLBACK" not in stack.status
        yield f"  {stack.name:<26} {click.style(stack.status, fg=None if good else 'yellow')}"


def _failures(failures: object) -> Iterator[str]:
    """Format the failures of the region's background tasks."""
    if not isinstance(failures, list):
        yield click.style("  the region does not answer (next: ./alva down, then ./alva up)", fg="red")
        return
    for failure in failures:
        yield click.style(f"  cannot {failure['name']}: {failure['error']}", fg="red")
        yield f"    since {failure['since']}, {failure['count']} times; region.log has the traceback"


def _service(service: ServiceStatus, now: datetime) -> Iterator[str]:
    good = service.running >= service.desired > 0 and service.deployment == "COMPLETED"
    count = click.style(f"{service.running}/{service.desired}", fg="green" if good else "red")
    targets = ", ".join(target.state for target in service.targets) or "none"
    yield (
        f"  {service.name:<7} {count}  {service.deployment:<12} {service.digest[7:19]:<12}  "
        f"since {_ago(service.since, now):<10}  targets {targets}"
    )
    for task in service.tasks:
        yield (
            f"            {task.task[:12]}  {task.status:<12} {task.health.lower():<9} {task.address:<15} "
            f"{task.digest[7:19]}  up {_ago(task.started_at, now)}"
        )


def _region(invocation: Invocation) -> dict[str, object]:
    """Read the state of the local region itself."""
    from alva.region import daemon

    config = invocation.region_config
    region = daemon.status(config)
    return {
        "pid": region.pid,
        "started_at": region.started_at,
        "endpoint": config.endpoint_url,
        "inbox": f"http://127.0.0.1:{config.inbox_port}/",
        "home": str(config.home),
        "names": _name_resolution(region.pid),
        "network": region.network,
        "enforces_security_groups": region.enforces_security_groups,
        "memory_limits": region.memory_limits,
        "adverse_conditions": region.adverse_conditions,
        "failures": daemon.failures(config) if region.is_running else None,
    }


def _name_resolution(pid: int | None) -> str:
    """How tasks resolve each other's names: this depends on the user that runs the region (see region/sandbox)."""
    try:
        owner = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return "unknown"
    how = "a mount namespace (as root)" if owner == 0 else "a user and a mount namespace (without root)"
    return f"each task has its own hosts file, in {how}"


def _ago(time: object, now: datetime) -> str:
    if not isinstance(time, datetime):
        return "-"
    seconds = int((now - time).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"
