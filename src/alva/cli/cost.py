"""`./alva cost`: the monthly cost of the templates, and the effect of each saving."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import DIGEST_FILE, run_app, source_digest, synth_step

if TYPE_CHECKING:
    from alva.checks.cost import Item

SAVINGS_FOLDER = "savings"


@verb(summary="Show the monthly cost per resource, and the effect of each saving setting.")
@click.option("--no-savings", is_flag=True, help="Leave out the savings.")
def command(invocation: Invocation, no_savings: bool) -> None:
    """Print the cost; makes no AWS call."""
    from alva.checks.assembly import Assembly
    from alva.checks.cost import Prices, bill, total

    prices = Prices.read()
    folder = invocation.assembly_folder
    with invocation.progress as progress:
        synth_step(invocation)
        items = bill(Assembly.read(folder), prices)
        savings: list[dict[str, object]] = []
        if not no_savings:
            with step(progress, "savings", "synthesise it with each saving"):
                savings = read_savings(invocation.environment, folder)
    if invocation.as_json:
        invocation.print_json(
            {
                "environment": invocation.environment,
                "prices_as_of": prices.as_of,
                "usd": round(total(items), 2),
                "items": [{"subject": each.subject, "what": each.what, "usd": round(each.usd, 2)} for each in items],
                "savings": savings,
            }
        )
        return
    for line in _lines(items, total(items), savings, prices.as_of):
        invocation.print(line)


def read_savings(environment: str, folder: Path) -> list[dict[str, object]]:
    """Return each saving setting: `name`, `price` (its drawback), `usd` and `saves_usd`."""
    from alva.checks.assembly import Assembly
    from alva.checks.cost import Prices, bill, total

    prices = Prices.read()
    before = total(bill(Assembly.read(folder), prices))
    found: list[dict[str, object]] = []
    for saving in _synthesise_savings(environment, _savings_folder(folder)):
        after = total(bill(Assembly.read(_savings_folder(folder) / saving["name"]), prices))
        found.append({**saving, "usd": round(after, 2), "saves_usd": round(before - after, 2)})
    return found


def _lines(items: Iterable[Item], sum_usd: float, savings: Iterable[dict[str, object]], as_of: str) -> Iterable[str]:
    small = 0.0
    for item in items:
        if item.usd < 1:
            small += item.usd
        elif item.usd:
            yield f"{item.usd:>9.2f}  {item.subject:<36} {item.what}"
    yield f"{small:>9.2f}  {'secrets, alarms and other small things':<36}"
    yield f"{sum_usd:>9.2f}  a month in USD, list prices of {as_of}; without traffic, requests and log lines"
    for number, saving in enumerate(savings):
        if number == 0:
            yield "\nsavings"
        yield (
            f"{saving['saves_usd']:>9.2f}  {saving['name']:<24} {saving['usd']:>8} a month then; "
            f"drawback: {saving['price']}"
        )


def _savings_folder(assembly_folder: Path) -> Path:
    return assembly_folder.with_name(f"{assembly_folder.name}.{SAVINGS_FOLDER}")


def _synthesise_savings(environment: str, folder: Path) -> list[dict[str, str]]:
    """Synthesise the templates with each saving, unless they are up to date; return the savings."""
    digest, digest_file = source_digest(environment), folder / DIGEST_FILE
    if not digest_file.exists() or digest_file.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run_app("savings.py", environment, folder)
        digest_file.write_text(digest)
    index: list[dict[str, str]] = json.loads((folder / "savings.json").read_text())
    return index
