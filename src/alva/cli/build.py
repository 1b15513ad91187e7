"""`./alva build`: images alone, as the pipeline's build matrix wants them: one line NAME=DIGEST for each."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import ROOT, Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import synthesise

if TYPE_CHECKING:
    from alva.release.images import Builder


def choose_builder(invocation: Invocation, cancelled: Event | None = None, cache: Path | None = None) -> Builder:
    """Docker's BuildKit for AWS, the region's own builder for the local region."""
    if invocation.is_local:
        from alva.cli.bundle_builder import BundleBuilder

        return BundleBuilder(ROOT, invocation.region_config.images_folder, cancelled)
    from alva.cli.docker_builder import DockerBuilder

    return DockerBuilder(ROOT, cache=cache, cancelled=cancelled)


@verb(summary="Build the images of all services or some; prints NAME=DIGEST for each, as deploy --image takes it.")
@click.option("--push", is_flag=True, help="Put each image into its repository, unless it is there.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --target aws: a folder for BuildKit's cache.",
)
@click.argument("services", nargs=-1)
def command(invocation: Invocation, push: bool, cache: Path | None, services: tuple[str, ...]) -> None:
    """Build, push if asked to, print."""
    from alva.release.images import is_published, tag_of

    digests: dict[str, str] = {}
    with invocation.progress as progress:
        with step(progress, "synth", f"synthesise {invocation.environment}") as synthesis:
            if not synthesise(invocation.environment, invocation.assembly_folder):
                synthesis.outcome = "unchanged"
        manifest = invocation.manifest
        chosen = [manifest.service(name) for name in services] or list(manifest.services)
        builder = choose_builder(invocation, cache=cache)
        for service in chosen:
            key = f"build:{service.name}"
            with step(progress, key, f"build {service.name}") as result:
                digest = builder.build(service, lambda text, key=key: progress.step_line(key, text))  # type: ignore[misc]
                digests[service.name] = digest
                result.detail = digest[7:19]
            if push:
                with step(progress, f"push:{service.name}", f"push {service.name}") as result:
                    if is_published(invocation.aws, service.repository, digest):
                        result.outcome = "unchanged"
                    else:
                        builder.push(service, digest, tag_of(digest), invocation.aws)
    if invocation.as_json:
        invocation.print_json(digests)
        return
    for name, digest in digests.items():
        invocation.print(f"{name}={digest}")
