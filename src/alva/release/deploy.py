"""A release from start to end: lock, look, plan, execute, verify, write down."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from alva.aws import Aws
from alva.checks.revisions import Revision
from alva.errors import AlvaError, RolledBack, UsageError
from alva.release import ledger, preflight, verify, watch, way_back
from alva.release.diff import Diff
from alva.release.executor import STEP_TIMEOUT_SECONDS, Executor
from alva.release.images import Builder, is_published, mark_released
from alva.release.ledger import Ledger, Release
from alva.release.lock import Lock
from alva.release.manifest import Manifest, Service
from alva.release.plan import Migrate, Observed, Plan, Wanted, make_plan, running_digests
from alva.release.reporting import Reporter
from alva.release.risks import Kind
from alva.release.secrets import Secrets, State
from alva.release.signs import Diagnosis
from alva.release.stacks import ObservedStack, Stacks
from alva.release.survey import Ask, require_consent, survey


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
    findings: Callable[[], Mapping[str, Sequence[str]]] | None = None
    """Asks the template rules what they find, by rule; called only when there is something to do."""
    allowed: frozenset[Kind] = frozenset()
    """What may happen without being asked about."""
    step_timeout_seconds: float = STEP_TIMEOUT_SECONDS
    watch_seconds: float = 0.0
    """How long what was released must go on running, after it has verified, before the release counts as good."""
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
        preflight.refuse(aws, wanted, observed, plan, builder, makes_secrets=request.secret_values is not None)
        diff = _survey(aws, wanted, observed, plan, request)
        if not plan.is_empty:
            _warn(aws, manifest, reporter)
        for text in (*plan.lines(), *(f"! {risk}" for risk in diff.risks)):
            reporter.note(f"plan: {text}")
        require_consent(diff, manifest, request.allowed, request.ask)
        reporter.expect(observed.step_seconds)
        executor = Executor(
            aws=aws,
            wanted=wanted,
            builder=builder,
            reporter=reporter,
            secret_values=request.secret_values,
            step_timeout_seconds=request.step_timeout_seconds,
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
            judging_seconds = _judging_seconds(wanted, observed, executor)
            checks = _verify(aws, manifest, executor, reporter, judging_seconds)
            _watch(aws, manifest, executor, reporter, max(judging_seconds, request.watch_seconds))
        except KeyboardInterrupt:
            _record_failure(aws, manifest, entry(ledger.INTERRUPTED, "interrupted"), reporter)
            raise
        except AlvaError as error:
            causes = way_back.explain(aws, manifest, error, since=started_at)
            failure = way_back.take_back(aws, manifest, observed, executor, error, reporter)
            failure = way_back.with_causes(failure, causes)
            outcome = ledger.ROLLED_BACK if isinstance(failure, RolledBack) else ledger.FAILED
            cause = "; ".join((failure.message, *failure.evidence[:2]))
            number = _record_failure(aws, manifest, entry(outcome, cause), reporter)
            if number is not None:
                _keep_causes(aws, manifest, number, failure, causes, reporter)
            raise failure from error.__cause__
        release = None
        if not plan.is_empty:
            release = entry(ledger.SUCCEEDED)
            release = replace(release, number=Ledger(aws, manifest).record(release))
            _mark_released(aws, wanted, observed, release, reporter)
        return Result(
            plan=plan,
            diff=diff,
            changed=not plan.is_empty,
            digests=executor.digests,
            checks=tuple(checks),
            release=release,
        )


def _mark_released(aws: Aws, wanted: Wanted, observed: Observed, release: Release, reporter: Reporter) -> None:
    """Tag what runs now, so that no number of later builds expires it; the release is good even where that fails."""
    manifest = wanted.manifest
    before = _running(manifest, observed.stacks)

    def mark(service: Service) -> None:
        digest = release.digests[service.name]
        is_new = before.get(service.name) != digest
        try:
            mark_released(aws, service.repository, digest, release.number, is_new=is_new)
        except AlvaError as error:
            reporter.note(f"not protected from expiry: {'; '.join((error.message, *error.evidence))}")

    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="mark") as pool:
        list(pool.map(mark, manifest.services))


def _warn(aws: Aws, manifest: Manifest, reporter: Reporter) -> None:
    """Say what a release may well be the cure of, so that it does not stop one."""
    try:
        verdict, said = preflight.alarms_are_quiet(aws, manifest)
    except AlvaError as error:
        verdict, said = verify.Verdict.FAIL, "; ".join((error.message, *error.evidence))
    if verdict is verify.Verdict.FAIL:
        reporter.note(f"alarms: {said}")


def _settle(aws: Aws, observed: Observed, reporter: Reporter) -> bool:
    """Let operations end that an interrupted release, or somebody else, began; False if there were none.

    A stack that is being updated already has its new template and parameters: planning from them would find nothing
    to do, and not wait for what is still under way.
    """
    unsettled = [stack for stack in observed.stacks.values() if stack is not None and not stack.is_settled]
    for stack in unsettled:
        key = f"settle:{stack.name}"
        reporter.step_started(key, f"let {stack.name} settle ({stack.status})")
        try:
            settled = Stacks(aws).settle(stack.name, lambda text, key=key: reporter.step_line(key, text))  # type: ignore[misc]
        except AlvaError as error:
            reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else "")
            raise
        reporter.step_finished(key, "done", settled.status if settled is not None else "gone")
    return bool(unsettled)


def plan_only(aws: Aws, manifest: Manifest, request: Request) -> tuple[Plan, Diff]:
    """What `deploy` would do now, and what that would change. Changes nothing."""
    wanted, observed = look(aws, manifest, request)
    plan = make_plan(wanted, observed)
    return plan, _survey(aws, wanted, observed, plan, request)


def _survey(aws: Aws, wanted: Wanted, observed: Observed, plan: Plan, request: Request) -> Diff:
    findings = request.findings() if request.findings is not None and not plan.is_empty else None
    return survey(aws, wanted, observed, plan, findings)


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
            step_seconds=last.step_seconds if last is not None else {},
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


def _judging_seconds(wanted: Wanted, observed: Observed, executor: Executor) -> float:
    """How long targets that were judged well may still be found ill by a check that this release changed."""
    names = [stack.name for stack in wanted.manifest.stacks if f"stack:{stack.name}" in executor.done]
    former = {name: stack.template for name in names if (stack := observed.stacks.get(name)) is not None}
    return watch.judging_seconds((template, wanted.templates[name]) for name, template in former.items())


def _verify(
    aws: Aws, manifest: Manifest, executor: Executor, reporter: Reporter, judging_seconds: float
) -> list[verify.Result]:
    """Run the checks; raises VerificationFailed."""
    key = "verify"
    reporter.step_started(key, "verify")
    is_new = any(f"stack:{stack.name}" in executor.done for stack in manifest.stacks_of("services"))
    patience_seconds = verify.RELEASED_PATIENCE_SECONDS + judging_seconds if is_new else verify.FOUND_PATIENCE_SECONDS
    results = verify.Verification(aws, manifest, executor.digests).run_until_good(patience_seconds)
    for result in results:
        reporter.step_line(key, f"{result.verdict.value} {result.name}: {result.reason}")
    try:
        verify.require(results)
    except AlvaError as failure:
        reporter.step_finished(key, "failed", failure.evidence[0])
        raise
    reporter.step_finished(key, "done", f"{len(results)} checks")
    return results


def _watch(aws: Aws, manifest: Manifest, executor: Executor, reporter: Reporter, seconds: float) -> None:
    """See that what was released goes on running; raises VerificationFailed."""
    if not seconds or not any(f"stack:{stack.name}" in executor.done for stack in manifest.stacks_of("services")):
        return
    key = "watch"
    reporter.step_started(key, f"watch for {seconds:.0f} s")
    try:
        watch.watch(aws, manifest, executor.digests, lambda text: reporter.step_line(key, text), seconds=seconds)
    except AlvaError as failure:
        reporter.step_finished(key, "failed", failure.evidence[0])
        raise
    except BaseException:
        reporter.step_finished(key, "cancelled")
        raise
    reporter.step_finished(key, "done")


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


def _record_failure(aws: Aws, manifest: Manifest, release: Release, reporter: Reporter) -> int | None:
    """Write a failed release down; that this fails too must not hide why the release failed."""
    try:
        return Ledger(aws, manifest).record(release)
    except AlvaError as error:
        reporter.note(f"the ledger could not be written: {'; '.join((error.message, *error.evidence))}")
        return None


def _keep_causes(
    aws: Aws,
    manifest: Manifest,
    number: int,
    failure: AlvaError,
    causes: tuple[Diagnosis, ...],
    reporter: Reporter,
) -> None:
    try:
        way_back.keep(aws, manifest, number, failure, causes)
    except AlvaError as error:
        reporter.note(f"its causes could not be kept: {'; '.join((error.message, *error.evidence))}")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
