"""`./alva diff`: what a release would change, the risky changes first. The same plan as `deploy --dry-run`."""

from __future__ import annotations

import click

from alva.cli.deploy import prepare, show_plan
from alva.cli.invocation import Invocation, verb


@verb(summary="Show what a release would change, the risky changes first. Changes nothing.")
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Build only this service's image; repeatable."
)
@click.option("--image", "images", multiple=True, metavar="NAME=DIGEST", help="Compare with this image; repeatable.")
@click.option("--infra-only", is_flag=True, help="Compare only the templates; services keep their images.")
def command(invocation: Invocation, services: tuple[str, ...], images: tuple[str, ...], infra_only: bool) -> None:
    """Build the images, plan, and print the plan."""
    from alva.release.deploy import plan_only

    with invocation.progress:
        _, request = prepare(invocation, services, images, infra_only=infra_only)
        plan, diff = plan_only(invocation.aws, invocation.manifest, request)
    show_plan(invocation, plan, diff)
