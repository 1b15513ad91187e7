"""`./alva sleep`: stops all tasks and the database until `./alva wake`, and prints what that saves."""

from __future__ import annotations

from alva.cli.invocation import Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import synth_step

DAYS_UNTIL_RDS_STARTS = 7
"""https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html"""


@verb(summary="Stop all tasks and the database until ./alva wake, and show what that saves.", asks=True)
def command(invocation: Invocation) -> None:
    """Ask, stop, and print the savings."""
    from alva.checks.assembly import Assembly
    from alva.checks.cost import Prices, bill, saved_asleep, total
    from alva.release.hibernation import Hibernation
    from alva.release.lock import Lock

    with invocation.progress:
        synth_step(invocation)
    aws, manifest = invocation.aws, invocation.manifest
    invocation.confirm(
        f"Stop all tasks and the database of {manifest.environment}? Nobody can use it until ./alva wake."
    )
    with (
        invocation.progress as progress,
        Lock(aws, manifest).held("sleep", progress.note),
        step(progress, "sleep", f"put {manifest.environment} to sleep"),
    ):
        asleep = Hibernation(aws, manifest).sleep(lambda text: progress.step_line("sleep", text))
    prices = Prices.read()
    items = bill(Assembly.read(invocation.assembly_folder), prices)
    saved = saved_asleep(items, frozenset({*asleep.services, *asleep.databases}))
    if invocation.as_json:
        invocation.print_json(
            {
                "services": dict(asleep.services),
                "databases": list(asleep.databases),
                "saves_usd_an_hour": round(saved / prices.hours, 4),
                "still_usd_a_month": round(total(items) - saved, 2),
            }
        )
        return
    invocation.print(
        f"{manifest.environment} is asleep. This saves {saved / prices.hours:.2f} USD an hour "
        f"({saved:.0f} of {total(items):.0f} USD in a whole month; NAT, load balancer, cache and storage still cost)"
    )
    if asleep.databases and not invocation.is_local:
        invocation.print(f"AWS starts a stopped database again after {DAYS_UNTIL_RDS_STARTS} days")
    invocation.print("next: ./alva wake (run it before the next release)")
