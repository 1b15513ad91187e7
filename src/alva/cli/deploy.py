"""`./alva deploy`: releases all or some services."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import ROOT, Invocation, verb
from alva.cli.progress import Progress, step
from alva.cli.synth import synth_step
from alva.errors import BuildFailed, PreflightRefused, UsageError
from alva.release.risks import Kind

if TYPE_CHECKING:
    from alva.checks.revisions import Revision
    from alva.release.approval import Ask
    from alva.release.deploy import Result
    from alva.release.diff import Diff
    from alva.release.images import Builder
    from alva.release.plan import Plan
    from alva.release.request import Request
    from alva.release.risks import Risk

BUILDS_SIDE_BY_SIDE = 4


class Builds:
    """The images of a release, built before the first change."""

    def __init__(self, invocation: Invocation, progress: Progress) -> None:
        from alva.cli.build import choose_builder

        self._cancelled = Event()
        self.builder: Builder = choose_builder(invocation, self._cancelled)
        self._invocation = invocation
        self._manifest = invocation.manifest
        self._cache = invocation.region_config.home / "cache"
        self._progress = progress
        self._noted: set[str] = set()

    def build_all(self, names: frozenset[str] | None = None) -> dict[str, str | None]:
        """Build the images of the named services, or all; return service name -> digest. Raises the first failure."""
        services = [service for service in self._manifest.services if names is None or service.name in names]
        with ThreadPoolExecutor(max_workers=BUILDS_SIDE_BY_SIDE, thread_name_prefix="build") as pool:
            futures = {service.name: pool.submit(self._build, service.name) for service in services}
            try:
                return {name: future.result() for name, future in futures.items()}
            except BaseException:  # after Ctrl-C or a failed build, do not wait for the others
                self.cancel()
                raise

    def cancel(self) -> None:
        """End running builds soon."""
        self._cancelled.set()

    def revisions(self, digest: str | None) -> tuple[Revision, ...] | None:
        """Return the revisions in the migration's image; None if they are not known."""
        from alva.cli.revisions import revisions_in_image

        if digest is None:
            return None
        return revisions_in_image(self._invocation.aws, self._manifest, self.builder, digest, self._cache)

    def _build(self, name: str) -> str:
        key = f"build:{name}"
        executed = False

        def line(text: str) -> None:
            nonlocal executed
            executed = True
            self._progress.step_line(key, text)
            if text.startswith("FROM ") and text not in self._noted:  # the Dockerfile names another Python
                self._noted.add(text)
                self._progress.note(text)

        with step(self._progress, key, f"build {name}") as result:
            try:
                digest = self.builder.build(self._manifest.service(name), line)
            except BuildFailed:
                if self._cancelled.is_set():
                    result.outcome = "cancelled"
                raise
            result.detail = digest[7:19]
            # The builder prints nothing when its cache has every instruction.
            result.outcome = "done" if executed else "unchanged"
        return digest


def current_commit() -> str:
    """Return the checked-out commit, followed by `+` if files differ from it; "unknown" outside a git checkout."""
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
    """Print what was released, and its URL."""
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
                "risks": [risk.as_json() for risk in result.diff.risks],
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
    invocation.print(
        "  next     ./alva open · ./alva status · ./alva logs -f · ./alva verify" + (" · ./alva down" if more else "")
    )


allow_option = click.option(
    "--allow",
    "allowed",
    multiple=True,
    type=click.Choice([kind.value for kind in Kind]),
    help="Approve risky changes of this kind; repeatable.",
)

wait_option = click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Seconds to wait for a lock that somebody else holds.",
)

deadline_option = click.option(
    "--deadline",
    "deadline_seconds",
    type=click.FloatRange(min=1),
    default=5400,
    show_default=True,
    help="Seconds after which the whole release is cancelled and rolled back. The wait for your approval is not "
    "counted.",
)


@verb(summary="Release all or some services: stacks, images, migration, services, verification.", asks=True)
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Build only this service's image; repeatable."
)
@click.option("--image", "images", multiple=True, metavar="NAME=DIGEST", help="Release this image; repeatable.")
@click.option("--migrate-again", is_flag=True, help="Run the migration even if this image has migrated already.")
@click.option("--infra-only", is_flag=True, help="Release only the templates; services keep their images.")
@allow_option
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=1),
    default=1800,
    show_default=True,
    help="Time limit of a step, in seconds.",
)
@deadline_option
@click.option(
    "--watch",
    "watch_seconds",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Watch for this many seconds after verification; roll back on failure. This time is not part of --deadline.",
)
@wait_option
@click.option("--dry-run", is_flag=True, help="Show the plan without changing anything.")
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    images: tuple[str, ...],
    migrate_again: bool,
    infra_only: bool,
    allowed: tuple[str, ...],
    timeout_seconds: float,
    deadline_seconds: float,
    watch_seconds: float,
    wait_seconds: float,
    dry_run: bool,
) -> None:
    """Build the images, then plan and release."""
    if infra_only and (services or images):
        raise UsageError("cannot combine --infra-only with --service or --image", next_step="leave --infra-only out")
    from alva.release import deploy as release

    started = time.monotonic()
    with invocation.progress as progress:
        builds, request = prepare(
            invocation,
            services,
            images,
            infra_only=infra_only,
            is_forced=migrate_again,
            allowed=frozenset(map(Kind, allowed)),
            ask=asker(invocation),
        )
        request = replace(
            request,
            step_timeout_seconds=timeout_seconds,
            deadline_seconds=deadline_seconds,
            watch_seconds=watch_seconds,
            lock_wait_seconds=wait_seconds,
        )
        if dry_run:
            plan, diff = release.plan_only(invocation.aws, invocation.manifest, request)
        else:
            result = release.deploy(invocation.aws, invocation.manifest, request, builds.builder, progress)
    if dry_run:
        show_plan(invocation, plan, diff)
    else:
        show_result(invocation, result, seconds=time.monotonic() - started)


def prepare(
    invocation: Invocation,
    services: tuple[str, ...] = (),
    images: tuple[str, ...] = (),
    *,
    infra_only: bool = False,
    is_forced: bool = False,
    allowed: frozenset[Kind] = frozenset(),
    ask: Ask | None = None,
) -> tuple[Builds, Request]:
    """Synthesise, build the named images (or all), and return the request."""
    from alva.release.refusals import refuse_unset_settings
    from alva.release.request import Request

    progress = invocation.progress
    synth_step(invocation)
    require_paths(invocation)
    manifest = invocation.manifest
    if not invocation.is_local:
        refuse_unset_settings(manifest)
    given = {manifest.service(name).name: digest for name, digest in given_digests(images).items()}
    only = frozenset({*given, *(manifest.service(name).name for name in services)})
    wanted = only or frozenset(() if infra_only else (service.name for service in manifest.services))
    to_build = wanted - set(given)
    _ = invocation.aws  # raises RegionNotRunning before any image is built
    builds = Builds(invocation, progress)
    digests: dict[str, str | None] = {**(builds.build_all(to_build) if to_build else {}), **given}
    return builds, Request(
        digests=digests,
        commit=current_commit(),
        checks_account=not invocation.is_local,
        is_forced=is_forced,
        revisions=builds.revisions(digests.get(manifest.migration.service)),
        findings=lambda: findings(invocation),
        allowed=allowed,
        ask=ask,
    )


def findings(invocation: Invocation) -> dict[str, list[str]]:
    """Return the findings of all template rules, by rule."""
    from alva.checks.assembly import Assembly
    from alva.checks.template_rules import check

    found = check(Assembly.read(invocation.assembly_folder), ROOT, for_aws=not invocation.is_local)
    return {rule: [f"{each.subject}: {each.message}" for each in each_found] for rule, each_found in found.items()}


def require_paths(invocation: Invocation) -> None:
    """Raise PreflightRefused if needed connections are blocked, in a local region without network isolation.

    Such a region allows every connection. Elsewhere, connections are really blocked, and the rule `needed-paths`
    reports them.
    """
    from alva.checks.assembly import Assembly
    from alva.checks.paths import missing_paths
    from alva.region import daemon

    if not invocation.is_local or daemon.status(invocation.region_config).enforces_security_groups:
        return
    if missing := list(missing_paths(Assembly.read(invocation.assembly_folder))):
        raise PreflightRefused(
            "cannot release: security groups or routes prevent what the environment needs",
            evidence=[str(path) for path in missing],
            next_step="correct the rules in infrastructure/ (./alva preflight --reachability); nothing was changed",
        )


def asker(invocation: Invocation) -> Ask | None:
    """Return a function that asks at the terminal; None if nobody can answer."""
    if not sys.stdin.isatty() or invocation.as_json:
        return None

    def ask(risks: Sequence[Risk], question: str) -> bool:
        with invocation.progress.paused():
            for risk in risks:
                click.echo(click.style(f"! {risk}", fg="yellow"), err=True)
            return click.confirm(question, err=True)

    return ask


def show_plan(invocation: Invocation, plan: Plan, diff: Diff) -> None:
    """Print what a release would do and change."""
    if invocation.as_json:
        invocation.print_json({"steps": plan.as_json(), **diff.as_json()})
        return
    for line in plan.lines() or ["nothing to do"]:
        invocation.print(line)
    if lines := diff.lines():
        invocation.print("")
    for line in lines:
        colour = {"!": "yellow", "+": "green", "-": "red", "~": "cyan"}.get(line.strip()[:1])
        invocation.print(click.style(line, fg=colour) if colour else line)


def given_digests(images: tuple[str, ...]) -> dict[str, str]:
    """Parse NAME=DIGEST into name -> digest; raises UsageError for an invalid digest."""
    given = {}
    for image in images:
        name, _, digest = image.partition("=")
        if not digest.startswith("sha256:") or len(digest) != 71:
            raise UsageError(f"cannot use --image {image}", next_step="write NAME=sha256:..., with 64 hex digits")
        given[name] = digest
    return given
