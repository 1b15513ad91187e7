"""`./alva deploy`: a release into an environment that is there, or of some of its services."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import ROOT, Invocation, verb
from alva.cli.progress import Progress, step
from alva.cli.synth import synthesise
from alva.errors import UsageError

if TYPE_CHECKING:
    from alva.release.deploy import Result
    from alva.release.images import Builder

BUILDS_SIDE_BY_SIDE = 4


class Builds:
    """The images of a release, built before anything is touched."""

    def __init__(self, invocation: Invocation, progress: Progress) -> None:
        from alva.cli.bundle_builder import BundleBuilder

        self._cancelled = Event()
        self.builder: Builder = BundleBuilder(ROOT, invocation.region_config.images_folder, self._cancelled)
        self._manifest = invocation.manifest
        self._progress = progress

    def build_all(self, names: frozenset[str] | None = None) -> dict[str, str | None]:
        """Build the named services' images, or all; service name -> digest. The first failure is raised."""
        services = [service for service in self._manifest.services if names is None or service.name in names]
        with ThreadPoolExecutor(max_workers=BUILDS_SIDE_BY_SIDE, thread_name_prefix="build") as pool:
            futures = {service.name: pool.submit(self._build, service.name) for service in services}
            try:
                return {name: future.result() for name, future in futures.items()}
            except BaseException:  # Ctrl-C, or a build that failed: the others need not end first
                self._cancelled.set()
                raise

    def _build(self, name: str) -> str:
        key = f"build:{name}"
        executed = False

        def line(text: str) -> None:
            nonlocal executed
            executed = True
            self._progress.step_line(key, text)

        with step(self._progress, key, f"build {name}") as result:
            digest = self.builder.build(self._manifest.service(name), line)
            result.detail = digest[7:19]
            # The builder says nothing when every instruction was found in its cache.
            result.outcome = "done" if executed else "unchanged"
        return digest


def current_commit() -> str:
    """The commit that is checked out, `+` behind it when files differ from it; "unknown" outside a git checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()


def show_result(
    invocation: Invocation, result: Result, *, seconds: float, more: Mapping[str, str] | None = None
) -> None:
    """What is released and where it is, on standard output."""
    from alva.release.stacks import Stacks

    alb = Stacks(invocation.aws).observe(invocation.manifest.stack("alb").name, with_template=False)
    url = alb.outputs.get("Url", "") if alb is not None else ""
    if invocation.as_json:
        invocation.print_json(
            {
                "url": url,
                **(more or {}),
                "changed": result.changed,
                "release": result.release.number if result.release else None,
                "steps": result.plan.as_json(),
                "step_seconds": dict(result.release.step_seconds) if result.release else {},
                "digests": dict(result.digests),
                "checks": [check.as_json() for check in result.checks],
                "seconds": round(seconds, 2),
            }
        )
        return
    said = f"release {result.release.number}" if result.release else "nothing to do"
    invocation.print(f"\n{said}, {len(result.checks)} checks passed, {seconds:.1f} s")
    invocation.print(f"  {'open':<8} {url}/")
    for name, value in (more or {}).items():
        invocation.print(f"  {name:<8} {value}")
    invocation.print("  next     ./alva status · ./alva logs -f · ./alva verify" + (" · ./alva down" if more else ""))


@verb(summary="Release: stacks, images, migration, services, verification; all of it or some services.", asks=True)
@click.option("--service", "services", multiple=True, metavar="NAME", help="Only this service's image; repeatable.")
@click.option("--image", "images", multiple=True, metavar="NAME=DIGEST", help="Release this image; repeatable.")
@click.option("--migrate-again", is_flag=True, help="Run the migration even if this image's migration ran already.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
def command(
    invocation: Invocation, services: tuple[str, ...], images: tuple[str, ...], migrate_again: bool, dry_run: bool
) -> None:
    """Build what is to be built, then plan and release."""
    from alva.release import deploy as release

    started = time.monotonic()
    with invocation.progress as progress:
        with step(progress, "synth", f"synthesise {invocation.environment}") as synthesis:
            if not synthesise(invocation.environment, invocation.assembly_folder):
                synthesis.outcome = "unchanged"
        manifest = invocation.manifest
        given = {manifest.service(name).name: digest for name, digest in given_digests(images).items()}
        only = frozenset({*given, *(manifest.service(name).name for name in services)})
        aws = invocation.aws
        wanted = only or frozenset(service.name for service in manifest.services)
        to_build = wanted - set(given)
        if to_build and not invocation.is_local:
            raise UsageError(
                f"cannot build the images of {', '.join(sorted(to_build))} for AWS here",
                next_step="give them by digest: --image NAME=sha256:...",
            )
        builds = Builds(invocation, progress)
        request = release.Request(
            digests={**builds.build_all(to_build), **given}, commit=current_commit(), is_forced=migrate_again
        )
        if dry_run:
            plan = release.plan_only(aws, manifest, request)
        else:
            result = release.deploy(aws, manifest, request, builds.builder, progress)
    if not dry_run:
        show_result(invocation, result, seconds=time.monotonic() - started)
    elif invocation.as_json:
        invocation.print_json({"steps": plan.as_json()})
    else:
        for line in plan.lines() or ["nothing to do"]:
            invocation.print(line)


def given_digests(images: tuple[str, ...]) -> dict[str, str]:
    """Name -> digest, from NAME=DIGEST; raises UsageError for anything that is no digest."""
    given = {}
    for image in images:
        name, _, digest = image.partition("=")
        if not digest.startswith("sha256:") or len(digest) != 71:
            raise UsageError(f"cannot use --image {image}", next_step="write NAME=sha256:..., with 64 hex digits")
        given[name] = digest
    return given
