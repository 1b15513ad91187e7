"""`./alva destroy`: deletes an environment, after listing what is deleted, what stays, and the costs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import synth_step
from alva.errors import UsageError

if TYPE_CHECKING:
    from alva.release.teardown import Resource, Teardown

FORGETTABLE = ("images", "secrets", "snapshots", "logs")


@verb(summary="Delete an environment. Lists what is deleted, what stays, and the costs, then asks for its name.")
@click.option("--confirm", metavar="NAME", help="The environment's name. Answers the question.")
@click.option(
    "--forget",
    "forgotten",
    multiple=True,
    type=click.Choice(FORGETTABLE),
    help="Also delete what otherwise stays, of this kind; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only list.")
def command(invocation: Invocation, confirm: str | None, forgotten: tuple[str, ...], dry_run: bool) -> None:
    """List, ask, delete."""
    from alva.checks.assembly import Assembly
    from alva.checks.cost import Prices, bill, total
    from alva.release.hibernation import Hibernation
    from alva.release.lock import Lock
    from alva.release.teardown import Kind, forget, read_teardown, take_down

    with invocation.progress:
        synth_step(invocation)
    aws, manifest = invocation.aws, invocation.manifest
    teardown = read_teardown(aws, manifest)
    prices = Prices.read()
    month = total(bill(Assembly.read(invocation.assembly_folder), prices)) if teardown.waves else 0.0
    kinds = frozenset(map(Kind, forgotten))
    kept = [resource for resource in teardown.stays if _kind(resource) not in kinds]
    if not invocation.as_json:
        for line in _lines(teardown, kept, month, _kept_usd(kept, prices.of("secret_month"))):
            click.echo(line, err=True)
    if dry_run or not teardown.waves:
        if invocation.as_json:
            invocation.print_json(_json(teardown, kept, month, done=False))
        return
    _require_name(manifest.environment, confirm)
    with invocation.progress as progress, Lock(aws, manifest).held("destroy", progress.note):
        with step(progress, "destroy", f"destroy {manifest.environment}"):
            take_down(aws, teardown, lambda stack, text: progress.step_line("destroy", f"{stack}: {text}"))
            Hibernation(aws, manifest).forget()
        if kinds:
            with step(progress, "forget", f"forget {', '.join(forgotten)}"):
                forget(aws, teardown.stays, kinds, lambda text: progress.step_line("forget", text))
    if invocation.as_json:
        invocation.print_json(_json(teardown, kept, month, done=True))
        return
    invocation.print(f"{manifest.environment} is deleted; ./alva deploy creates it again with what stayed")


def _kind(resource: Resource) -> object:
    from alva.release.teardown import KIND_OF_TYPE, Kind

    return KIND_OF_TYPE.get(resource.type, Kind.OTHER)


def _kept_usd(kept: Iterable[Resource], secret_month: float) -> float:
    """Return the monthly price of what stays, without its storage."""
    return sum(secret_month for resource in kept if resource.type == "AWS::SecretsManager::Secret")


def _lines(teardown: Teardown, kept: Sequence[Resource], month: float, kept_usd: float) -> Iterable[str]:
    if not teardown.waves:
        yield "nothing is deployed yet"
        return
    count = Counter(resource.type.removeprefix("AWS::") for resource in teardown.goes)
    stacks = [name for wave in teardown.waves for name in wave]
    yield f"deleted: {len(teardown.goes)} resources of {len(stacks)} stacks, which cost {month:.0f} USD a month"
    yield "  " + ", ".join(f"{number} {name}" for name, number in count.most_common(8)) + ", ..."
    for resource in teardown.goes:
        if resource.type in ("AWS::RDS::DBInstance", "AWS::ElastiCache::ReplicationGroup"):
            yield f"  with its data: {resource}"
    yield f"stays: {len(kept)} resources, {kept_usd:.2f} USD a month and their storage" if kept else "stays: nothing"
    for resource in kept:
        snapshot = "a final snapshot of " if resource in teardown.goes else ""
        yield f"  {snapshot}{resource}"
    for text in teardown.protected:
        yield f"protected: {text}"


def _json(teardown: Teardown, kept: Sequence[Resource], month: float, *, done: bool) -> dict[str, object]:
    return {
        "destroyed": done,
        "stacks": [list(wave) for wave in teardown.waves],
        "goes": [str(resource) for resource in teardown.goes],
        "stays": [str(resource) for resource in kept],
        "protected": list(teardown.protected),
        "usd_a_month": round(month, 2),
    }


def _require_name(environment: str, confirm: str | None) -> None:
    """Raise UsageError unless the user names the environment."""
    if confirm is None:
        if not sys.stdin.isatty():
            raise UsageError(
                f"cannot destroy {environment} without its name", next_step=f"--confirm {environment}, to confirm"
            )
        confirm = click.prompt(f"Type {environment} to destroy it", err=True)
    if confirm != environment:
        raise UsageError(
            f"cannot destroy {environment}: {confirm!r} is not its name; nothing was changed",
            next_step=f"--confirm {environment}",
        )
