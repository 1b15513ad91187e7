"""`./alva build`: builds images, and prints one line NAME=DIGEST for each, for the pipeline's build matrix."""

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
    """Return the builder: Docker's BuildKit for AWS; ALVA_BUILDER's choice for the local region
    (`chosen_builder.py`).
    """
    from alva.cli.docker_builder import DockerBuilder

    docker = DockerBuilder(ROOT, architecture=invocation.manifest.architecture, cache=cache, cancelled=cancelled)
    if not invocation.is_local:
        return docker
    from alva.cli.bundle_builder import BundleBuilder
    from alva.cli.chosen_builder import ChosenBuilder, choice

    return ChosenBuilder(BundleBuilder(ROOT, invocation.region_config.images_folder, cancelled), docker, choice())


def make_repositories(invocation: Invocation, *, wait_seconds: float) -> None:
    """Update the stacks of the repositories: a new service's image needs a repository.

    Holds the environment's lock, like all changes of stacks. Raises Locked after the wait.
    """
    from alva.release.lock import Lock
    from alva.release.stacks import Stacks

    with invocation.progress as progress:
        with step(progress, "synth", f"synthesise {invocation.environment}"):
            synthesise(invocation.environment, invocation.assembly_folder)
        lock = Lock(invocation.aws, invocation.manifest)
        with lock.held("repositories", progress.note, wait_seconds=wait_seconds):
            for stack in invocation.manifest.stacks_of("registry"):
                with step(progress, stack.name, stack.name) as result:
                    changed = Stacks(invocation.aws).apply(
                        stack.name,
                        stack.template(),
                        {},
                        invocation.manifest.tags,
                        lambda text, key=stack.name: progress.step_line(key, text),  # type: ignore[misc]
                    )
                    if not changed:
                        result.outcome = "unchanged"


@verb(summary="Build the images of all or some services. Prints NAME=DIGEST for each, the form of deploy --image.")
@click.option("--push", is_flag=True, help="Push each image to its repository if it is missing.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --target aws: a folder for BuildKit's cache.",
)
@click.option("--repositories", is_flag=True, help="Build nothing: only create missing repositories.")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="With --repositories: seconds to wait for a lock that somebody else holds.",
)
@click.argument("services", nargs=-1)
def command(
    invocation: Invocation,
    push: bool,
    cache: Path | None,
    repositories: bool,
    wait_seconds: float,
    services: tuple[str, ...],
) -> None:
    """Build, optionally push, and print."""
    from alva.release.images import is_published, tag_of

    if repositories:
        make_repositories(invocation, wait_seconds=wait_seconds)
        return
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
