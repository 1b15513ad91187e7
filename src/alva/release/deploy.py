"""A release from start to end: lock, look, plan, execute, verify, write down."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from alva.aws import Aws
from alva.checks.revisions import Revision
from alva.errors import AlvaError, PreflightRefused, RollbackFailed, RolledBack, UsageError
from alva.release import ledger, rollout, verify
from alva.release.diff import Diff
from alva.release.executor import Executor
from alva.release.images import Builder, is_published
from alva.release.ledger import Ledger, Release
from alva.release.lock import Lock
from alva.release.manifest import Manifest
from alva.release.plan import ApplyStack, Migrate, Observed, Plan, Wanted, make_plan, running_digests
from alva.release.reporting import Reporter
from alva.release.risks import Kind
from alva.release.secrets import Secrets, State
from alva.release.stacks import ObservedStack, Stacks
from alva.release.survey import Ask, require_consent, survey

RELEASED_PATIENCE_SECONDS = 5
"""What was just rolled out is in service already: a check that keeps failing is a reason to go back, soon."""

FOUND_PATIENCE_SECONDS = 90
"""What was only found may still be starting: the region was started a moment ago, or a task was replaced."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the person asked for."""

    digests: Mapping[str, str | None]
    """Service name -> digest to release, None to build it; services that are not named keep what they run."""
    commit: str
    secret_values: Mapping[str, str] | None = None
    """As in `Executor`."""
    is_forced: bool = False
    revisions: tuple[Revision, ...] | None = None
    """The history of the schema in the migration's new image; None where it is not known."""
    keeps_schema: bool = False
    """As in `Wanted`."""
    rollback_of: int | None = None
    """For a rollback: the release whose digests these are."""
    allowed: frozenset[Kind] = frozenset()
    """What may happen without being asked about."""
    ask: Ask | None = None
    """How to ask about the rest; None: nobody is there to answer."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it."""

    plan: Plan
    diff: Diff
    changed: bool
    digests: Mapping[str, str]
    checks: tuple[verify.Result, ...] = ()
    release: Release | None = None


def deploy(aws: Aws, manifest: Manifest, request: Request, builder: Builder, reporter: Reporter) -> Result:
    """Bring the environment to the templates and digests, prove that they serve, and write the release down.

    Raises as `errors.py` says: a failed migration leaves the services untouched, a failed rollout or verification
    returns all of them to what they ran before.
    """
    with Lock(aws, manifest).held(f"release of {request.commit}", reporter.note):
        wanted, observed = look(aws, manifest, request)
        if _settle(aws, observed, reporter):
            wanted, observed = look(aws, manifest, request)
        plan = make_plan(wanted, observed)
        _refuse_missing_images(wanted, observed, builder)
        _refuse_invalid_templates(aws, wanted, plan)
        diff = survey(aws, wanted, observed, plan)
        for text in (*plan.lines(), *(f"! {risk}" for risk in diff.risks)):
            reporter.note(f"plan: {text}")
        require_consent(diff, manifest, request.allowed, request.ask)
        executor = Executor(
            aws=aws, wanted=wanted, builder=builder, reporter=reporter, secret_values=request.secret_values
        )
        started_at, started = datetime.now(UTC), time.monotonic()

        def entry(outcome: str, cause: str = "") -> Release:
            migrated = _migrated(plan, executor, observed, wanted)
            return Release(
                commit=request.commit,
                digests=executor.digests,
                migrated_digest=migrated.digest,
                revision=migrated.revision,
                contractions=migrated.contractions,
                rollback_of=request.rollback_of,
                by=_person(),
                started_at=started_at.isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - started, 2),
                step_seconds=executor.step_seconds,
                outcome=outcome,
                cause=cause,
            )

        try:
            executor.run(plan)
            checks = _verify(aws, manifest, observed, executor, reporter)
        except KeyboardInterrupt:
            _record_failure(aws, manifest, entry(ledger.INTERRUPTED, "interrupted"), reporter)
            raise
        except AlvaError as error:
            failure = error
            if isinstance(error, RolledBack):
                failure = _confirm_way_back(aws, manifest, observed, error, reporter)
            outcome = ledger.ROLLED_BACK if isinstance(failure, RolledBack) else ledger.FAILED
            cause = "; ".join((failure.message, *failure.evidence[:2]))
            _record_failure(aws, manifest, entry(outcome, cause), reporter)
            raise failure from error.__cause__
        release = None
        if not plan.is_empty:
            release = entry(ledger.SUCCEEDED)
            release = replace(release, number=Ledger(aws, manifest).record(release))
        return Result(
            plan=plan,
            diff=diff,
            changed=not plan.is_empty,
            digests=executor.digests,
            checks=tuple(checks),
            release=release,
        )


def _refuse_missing_images(wanted: Wanted, observed: Observed, builder: Builder) -> None:
    missing = [
        f"{wanted.manifest.service(name).repository}@{digest}"
        for name, digest in wanted.digests.items()
        if digest is not None and name not in observed.published and not builder.has(digest)
    ]
    if missing:
        raise PreflightRefused(
            "cannot release: an image is neither in its repository nor here; nothing was touched",
            evidence=missing,
            next_step="build and push it first, or leave --image out",
        )


def _refuse_invalid_templates(aws: Aws, wanted: Wanted, plan: Plan) -> None:
    """Have CloudFormation look at every template that will be used, before the first stack is touched."""
    stacks = Stacks(aws)
    names = [step.stack.name for step in plan.steps if isinstance(step, ApplyStack)]
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="validate") as pool:
        problems = list(pool.map(lambda name: stacks.validate(name, wanted.templates[name]), names))
    wrong = [f"{name}: {problem}" for name, problem in zip(names, problems, strict=True) if problem]
    if wrong:
        raise PreflightRefused(
            "cannot release: CloudFormation refuses a template; nothing was touched",
            evidence=wrong,
            next_step="correct infrastructure/",
        )


def _settle(aws: Aws, observed: Observed, reporter: Reporter) -> bool:
    """Let operations end that an interrupted release, or somebody else, began; False if there were none.

    A stack that is being updated already has its new template and parameters: planning from them would find nothing
    to do, and not wait for what is still under way.
    """
    unsettled = [stack for stack in observed.stacks.values() if stack is not None and not stack.is_settled]
    for stack in unsettled:
        key = f"settle:{stack.name}"
        reporter.step_started(key, f"let {stack.name} settle ({stack.status})")
        settled = Stacks(aws).settle(stack.name, lambda text, key=key: reporter.step_line(key, text))  # type: ignore[misc]
        reporter.step_finished(key, "done", settled.status if settled is not None else "gone")
    return bool(unsettled)


def plan_only(aws: Aws, manifest: Manifest, request: Request) -> tuple[Plan, Diff]:
    """What `deploy` would do now, and what that would change. Changes nothing."""
    wanted, observed = look(aws, manifest, request)
    plan = make_plan(wanted, observed)
    return plan, survey(aws, wanted, observed, plan)


def look(aws: Aws, manifest: Manifest, request: Request) -> tuple[Wanted, Observed]:
    """What is wanted, complete, and what there is: the planner's two arguments. Changes nothing."""
    stacks = Stacks(aws)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="look") as pool:
        observing = {stack.name: pool.submit(stacks.observe, stack.name) for stack in manifest.stacks}
        release = pool.submit(Ledger(aws, manifest).latest)
        secrets = pool.submit(Secrets(aws, manifest).check)
        publishing = {
            name: pool.submit(is_published, aws, manifest.service(name).repository, digest)
            for name, digest in request.digests.items()
            if digest is not None
        }
        observed = Observed(
            stacks={name: future.result() for name, future in observing.items()},
            published=frozenset(name for name, future in publishing.items() if future.result()),
            migrated_digest=last.migrated_digest if (last := release.result()) is not None else None,
            revision=last.revision if last is not None else None,
            secrets_ready=all(s.state is State.SET for s in secrets.result() if s.secret.used_by),
        )
    digests: dict[str, str | None] = {**_running(manifest, observed.stacks), **request.digests}
    if missing := [service.name for service in manifest.services if service.name not in digests]:
        raise UsageError(
            "cannot release some services alone: others never ran",
            evidence=[f"nothing is known to run for {', '.join(missing)}"],
            next_step="./alva deploy without --service",
        )
    # Digests that run are in their repositories by definition.
    kept = frozenset(name for name in digests if name not in request.digests)
    wanted = Wanted(
        manifest=manifest,
        templates={stack.name: stack.template() for stack in manifest.stacks},
        digests=digests,
        is_forced=request.is_forced,
        revisions=request.revisions,
        keeps_schema=request.keeps_schema,
    )
    return wanted, replace(observed, published=observed.published | kept)


def _running(manifest: Manifest, stacks: Mapping[str, ObservedStack | None]) -> dict[str, str]:
    running: dict[str, str] = {}
    for stack in manifest.stacks_of("services"):
        running |= running_digests(manifest, stacks.get(stack.name))
    return running


def _verify(
    aws: Aws, manifest: Manifest, observed: Observed, executor: Executor, reporter: Reporter
) -> list[verify.Result]:
    """Verify; when that fails after the services changed, take all of them back and raise RolledBack."""
    key = "verify"
    reporter.step_started(key, "verify")
    services = [s.name for s in manifest.stacks_of("services") if f"stack:{s.name}" in executor.done]
    patience_seconds = RELEASED_PATIENCE_SECONDS if services else FOUND_PATIENCE_SECONDS
    results = verify.Verification(aws, manifest, executor.digests).run_until_good(patience_seconds)
    for result in results:
        reporter.step_line(key, f"{result.verdict.value} {result.name}: {result.reason}")
    try:
        verify.require(results)
    except AlvaError as failure:
        reporter.step_finished(key, "failed", failure.evidence[0])
        previous = [
            stack
            for name in services
            if (stack := observed.stacks.get(name)) is not None and stack.template and _runs_something(stack)
        ]
        if not previous:
            raise
        for stack in previous:
            back = f"back:{stack.name}"
            reporter.step_started(back, f"take {stack.name} back")
            rollout.go_back(aws, stack, lambda text, back=back: reporter.step_line(back, text))  # type: ignore[misc]
            reporter.step_finished(back, "done")
        raise RolledBack(
            "cannot release: the new version runs but does not pass its checks; all services run again what they ran",
            evidence=failure.evidence,
            next_step=failure.next_step,
        ) from failure
    reporter.step_finished(key, "done", f"{len(results)} checks")
    return results


def _confirm_way_back(
    aws: Aws, manifest: Manifest, observed: Observed, failure: RolledBack, reporter: Reporter
) -> AlvaError:
    """After a rollback: does what ran before serve again? The failure as it was, or RollbackFailed with both causes."""
    previous = _running(manifest, observed.stacks)
    if not previous or not any(
        (stack := observed.stacks.get(s.name)) is not None and _runs_something(stack)
        for s in manifest.stacks_of("services")
    ):
        return failure  # a first release: there was nothing before it
    key = "verify-back"
    reporter.step_started(key, "verify what runs again")
    try:
        verify.require(verify.Verification(aws, manifest, previous).run())
    except AlvaError as error:
        reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else error.message)
        return RollbackFailed(
            "cannot release, and the services do not serve as before either",
            evidence=[*failure.evidence, *error.evidence],
            next_step="./alva status and ./alva logs; ./alva deploy releases anew",
        )
    reporter.step_finished(key, "done")
    return failure


def _runs_something(stack: ObservedStack) -> bool:
    return stack.status not in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")


@dataclass(frozen=True, kw_only=True)
class _Migrated:
    """Where the schema is after a release."""

    digest: str | None
    revision: str | None
    contractions: tuple[str, ...] = ()


def _migrated(plan: Plan, executor: Executor, observed: Observed, wanted: Wanted) -> _Migrated:
    done = next((s for s in plan.steps if isinstance(s, Migrate) and s.key in executor.done), None)
    if done is None:
        revision = observed.revision
        if wanted.revisions and observed.revision is None and observed.migrated_digest is not None:
            # Migrated before revisions were written down: by this very image, as far as nothing had to be done.
            revision = wanted.revisions[-1].revision
        return _Migrated(digest=observed.migrated_digest, revision=revision)
    revisions = wanted.revisions
    return _Migrated(
        digest=executor.digests.get(wanted.manifest.migration.service),
        revision=revisions[-1].revision if revisions else observed.revision,
        contractions=tuple(r.revision for r in done.revisions if r.contractions and observed.revision is not None),
    )


def _record_failure(aws: Aws, manifest: Manifest, release: Release, reporter: Reporter) -> None:
    """Write a failed release down; that this fails too must not hide why the release failed."""
    try:
        Ledger(aws, manifest).record(release)
    except AlvaError as error:
        reporter.note(f"the ledger could not be written: {'; '.join((error.message, *error.evidence))}")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
