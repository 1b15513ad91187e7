"""A release from start to end: lock, look, plan, execute, verify, write down."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from alva.aws import Aws
from alva.checks.revisions import Revision
from alva.errors import AlvaError, RollbackFailed, RolledBack, UsageError
from alva.release import drift, inside, ledger, preflight, verify, watch, way_back
from alva.release.diagnosis import Diagnosis
from alva.release.diff import Diff
from alva.release.executor import STEP_TIMEOUT_SECONDS, Executor
from alva.release.images import Builder, is_published, mark_released
from alva.release.ledger import Ledger, Release
from alva.release.lock import Lock, person
from alva.release.manifest import Manifest, Service, Stack
from alva.release.plan import Migrate, Observed, Plan, Wanted, make_plan, running_digests
from alva.release.reporting import Reporter
from alva.release.risks import Kind
from alva.release.secrets import Secrets, State
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
    keeps_templates: bool = False
    """A rollback: image digests change, every stack keeps the template and the tags that are deployed."""
    rollback_of: int | None = None
    """For a rollback: the release whose digests these are."""
    findings: Callable[[], Mapping[str, Sequence[str]]] | None = None
    """Asks the template rules what they find, by rule; called only when there is something to do."""
    allowed: frozenset[Kind] = frozenset()
    """What may happen without being asked about."""
    step_timeout_seconds: float = STEP_TIMEOUT_SECONDS
    watch_seconds: float = 0.0
    """How long what was released must go on running, after it has verified, before the release counts as good."""
    lock_wait_seconds: float = 0.0
    """How long to wait for a lock that somebody else holds."""
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
    with Lock(aws, manifest).held(
        f"release of {request.commit}", reporter.note, wait_seconds=request.lock_wait_seconds
    ):
        wanted, observed = look(aws, manifest, request)
        if _settle(aws, observed, reporter):
            wanted, observed = look(aws, manifest, request)
        plan = make_plan(wanted, observed)
        preflight.refuse(aws, wanted, observed, plan, builder, makes_secrets=request.secret_values is not None)
        diff = _survey(aws, wanted, observed, plan, request, _touched(plan, observed))
        if not plan.is_empty:
            _warn(aws, manifest, reporter)
        for text in diff.drift_lines():
            reporter.note(text)
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
                by=person(),
                run=run_address(),
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
            if plan.contractions:
                executor.run(Plan(steps=plan.contractions))
                checks = _verify(aws, manifest, executor, reporter, judging_seconds)
        except KeyboardInterrupt:
            _record_failure(aws, manifest, entry(ledger.INTERRUPTED, "interrupted"), reporter)
            raise
        except Exception as raised:
            error = raised if isinstance(raised, AlvaError) else _unexpected(raised)
            causes = _explain(aws, manifest, error, since=started_at)
            try:
                failure = way_back.take_back(aws, manifest, observed, executor, error, reporter)
            except Exception as another:
                failure = RollbackFailed(
                    "cannot release, and an unexpected error ended the rollback",
                    evidence=[error.message, *error.evidence, *_unexpected(another).evidence],
                    next_step="./alva status and ./alva logs; ./alva deploy releases again",
                )
            failure = way_back.with_causes(failure, causes)
            outcome = ledger.ROLLED_BACK if isinstance(failure, RolledBack) else ledger.FAILED
            cause = "; ".join((failure.message, *failure.evidence[:2]))
            number = _record_failure(aws, manifest, entry(outcome, cause), reporter)
            if number is not None:
                _keep_causes(aws, manifest, number, failure, causes, reporter)
            raise failure from error.__cause__
        release = None
        if not plan.is_empty or observed.is_unrecorded:
            # What an interrupted release left running, and CloudFormation finished, is a release once it verifies.
            release = _record_success(aws, manifest, entry(ledger.SUCCEEDED))
            _mark_released(aws, wanted, observed, release, reporter)
        return Result(
            plan=plan,
            diff=diff,
            changed=not plan.is_empty,
            digests=executor.digests,
            checks=tuple(checks),
            release=release,
        )


def _unexpected(error: Exception) -> AlvaError:
    """An error that nobody foresaw, with its last lines of traceback as evidence."""
    lines = [line.strip() for part in traceback.format_exception(error)[-4:] for line in part.strip().splitlines()]
    failure = AlvaError(
        f"cannot release: {type(error).__name__}: {error}",
        evidence=lines,
        next_step="run the same command again; if it fails again, report it with this evidence",
    )
    failure.__cause__ = error
    return failure


def _explain(aws: Aws, manifest: Manifest, error: AlvaError, *, since: datetime) -> tuple[Diagnosis, ...]:
    """The causes; looking for them must not prevent the rollback."""
    try:
        return way_back.explain(aws, manifest, error, since=since)
    except Exception:
        return ()


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
    """What `deploy` would do now, what that would change, and what drifted in any stack. Changes nothing."""
    wanted, observed = look(aws, manifest, request)
    plan = make_plan(wanted, observed)
    return plan, _survey(aws, wanted, observed, plan, request, drift.comparable(observed.stacks))


def _touched(plan: Plan, observed: Observed) -> list[ObservedStack]:
    """The stacks that a plan updates."""
    names = {step.stack.name for step in plan.stack_steps()}
    return [stack for stack in drift.comparable(observed.stacks) if stack.name in names]


def _survey(
    aws: Aws, wanted: Wanted, observed: Observed, plan: Plan, request: Request, detected: Sequence[ObservedStack]
) -> Diff:
    findings = request.findings() if request.findings is not None and not plan.is_empty else None
    return survey(aws, wanted, observed, plan, findings, detected)


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
        last = release.result()
        observed = Observed(
            stacks={name: future.result() for name, future in observing.items()},
            published=frozenset(name for name, future in publishing.items() if future.result()),
            migrated_digest=last.migrated_digest if last is not None else None,
            revision=last.revision if last is not None else None,
            step_seconds=last.step_seconds if last is not None else {},
            released=_released(aws, manifest, last),
            secrets_ready=all(s.state is State.SET for s in secrets.result() if s.secret.used_by),
        )
    observed = replace(observed, drift=drift.compare(aws, manifest, observed.stacks))
    running = _running(manifest, observed.stacks)
    observed = replace(observed, is_unrecorded=is_unrecorded(running, observed.released, last))
    digests: dict[str, str | None] = {**running, **request.digests}
    if missing := [service.name for service in manifest.services if service.name not in digests]:
        raise UsageError(
            "cannot release some services alone: others never ran",
            evidence=[f"nothing is known to run for {', '.join(missing)}"],
            next_step="./alva deploy without --service",
        )
    # Digests that run are in their repositories by definition.
    kept = frozenset(name for name in digests if name not in request.digests)
    wanted = Wanted(
        manifest=replace(manifest, tags=_deployed_tags(manifest, observed)) if request.keeps_templates else manifest,
        templates={stack.name: _template(stack, observed, request) for stack in manifest.stacks},
        digests=digests,
        is_forced=request.is_forced,
        revisions=request.revisions,
        keeps_schema=request.keeps_schema,
    )
    return wanted, replace(observed, published=observed.published | kept)


def _template(stack: Stack, observed: Observed, request: Request) -> Mapping[str, Any]:
    """The template to release: this checkout's, or for a rollback the one that is deployed."""
    deployed = observed.stacks.get(stack.name)
    if request.keeps_templates and deployed is not None and deployed.was_made:
        return deployed.template
    return stack.template()


def _deployed_tags(manifest: Manifest, observed: Observed) -> Mapping[str, str]:
    deployed = (observed.stacks.get(stack.name) for stack in manifest.stacks_of("services"))
    return next((stack.tags for stack in deployed if stack is not None and stack.was_made), manifest.tags)


def _released(aws: Aws, manifest: Manifest, last: Release | None) -> Mapping[str, str]:
    """The digests of the last release that succeeded."""
    if last is not None and last.outcome != ledger.SUCCEEDED:
        last = next((each for each in Ledger(aws, manifest).history() if each.outcome == ledger.SUCCEEDED), None)
    return last.digests if last is not None else {}


def is_unrecorded(running: Mapping[str, str], released: Mapping[str, str], last: Release | None) -> bool:
    """Whether what runs is in the ledger as no good release: it has to be written down once it verifies.

    `released` are the digests of the last release that succeeded, `last` is the newest entry. An interrupted release
    counts also where all images are the same: CloudFormation may have finished its templates.
    """
    return bool(running) and (
        dict(running) != dict(released) or (last is not None and last.outcome == ledger.INTERRUPTED)
    )


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
    if executor.done:
        results = inside.verify_outside_and_inside(aws, manifest, executor.digests, patience_seconds)
    else:
        results = verify.Verification(aws, manifest, executor.digests).run_until_good(patience_seconds)
    for result in results:
        reporter.step_line(key, f"{result.verdict.value} {result.name}: {result.reason}")
    try:
        verify.require(results)
    except AlvaError as failure:
        reporter.step_finished(key, "failed", failure.evidence[0])
        raise failure.because([], inside.cure_of(manifest, failure.evidence)) from None
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


def _record_success(aws: Aws, manifest: Manifest, release: Release) -> Release:
    """Write a good release down, with its number. Raises AlvaError that says that it runs all the same."""
    try:
        return replace(release, number=Ledger(aws, manifest).record(release))
    except AlvaError as error:
        raise AlvaError(
            "cannot record the release: it runs and has verified, and the ledger does not have it",
            evidence=[error.message, *error.evidence],
            next_step="the same command again records what runs",
        ) from error


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


def run_address() -> str:
    """Where the run of the pipeline can be seen that this process belongs to; empty outside of one.

    https://docs.github.com/actions/reference/workflows-and-actions/variables
    """
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    run = os.environ.get("GITHUB_RUN_ID")
    if not (server and repository and run):
        return ""
    return f"{server}/{repository}/actions/runs/{run}/attempts/{os.environ.get('GITHUB_RUN_ATTEMPT', '1')}"
