"""`./alva verify`: named checks of the running environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import ROOT, Invocation, verb
from alva.errors import VerificationFailed

if TYPE_CHECKING:
    from alva.release.verify import Result

COLOURS = {"OK": "green", "SKIP": "yellow", "WARN": "yellow", "FAIL": "red"}


@verb(
    summary="Check the running environment: requests through the load balancer, and a one-off task that signs in to "
    "the database and the queue and checks each service's dependencies. Exits with 7 if a check fails.\n\n"
    "With --deep also a customer's journey from sign-up to a plan, log lines, open ports and alarms. The journey "
    "creates a customer, which the task deletes again."
)
@click.option("--deep", is_flag=True, help="Also run the customer's journey, and check logs, alarms and open ports.")
@click.option(
    "--inbox", metavar="URL", help="The inbox where the customer's mail can be read; default: the local region's."
)
def command(invocation: Invocation, deep: bool, inbox: str | None) -> None:
    """Run the checks, and print each with its verdict and reason."""
    from alva.release import verify
    from alva.release.deep_checks import DeepChecks
    from alva.release.dependency_checks import DependencyChecks, failures, next_step_of
    from alva.release.drift import compare
    from alva.release.hibernation import Hibernation
    from alva.release.stacks import Stacks

    aws, manifest = invocation.aws, invocation.manifest
    results = verify.Verification(aws, manifest).run()
    if deep:
        if inbox is None and invocation.is_local:
            inbox = f"http://127.0.0.1:{invocation.region_config.inbox_port}"
        results += DeepChecks(aws=aws, manifest=manifest, root=ROOT, inbox_url=inbox).run()
    elif not failures(results):
        results += DependencyChecks(aws, manifest).run()
    show_checks(invocation, results)
    try:
        verify.require(results)
    except VerificationFailed as error:
        asleep = Hibernation(aws, manifest).state()
        if asleep is None:
            observed = {each.name: Stacks(aws).observe(each.name) for each in manifest.stacks}
            drifts = compare(aws, manifest, observed).drifts
            revert = "./alva deploy reverts the drift" if any(each.repair for each in drifts) else None
            next_step = next_step_of(manifest, error.evidence) or revert
            raise error.because([f"drift: {each}" for each in drifts], next_step) from None
        said = f"{manifest.environment} is {asleep}"
        raise error.because([said], "./alva wake, which verifies it too") from None


def show_checks(invocation: Invocation, results: Sequence[Result]) -> None:
    """Print each check with its verdict and reason."""
    if invocation.as_json:
        invocation.print_json([result.as_json() for result in results])
    else:
        width = max(len(result.name) for result in results)
        for result in results:
            verdict = click.style(f"{result.verdict.value:<4}", fg=COLOURS[result.verdict.value])
            invocation.print(f"{verdict}  {result.name:<{width}}  {result.reason}")
