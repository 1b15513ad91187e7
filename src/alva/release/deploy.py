"""A release from start to end: lock, observe, plan, execute, verify, record."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from alva.aws import Aws
from alva.errors import AlvaError, RollbackFailed, RolledBack
from alva.release import (
    automatic_rollback,
    dependency_checks,
    drift,
    ledger,
    recording,
    refusals,
    verify,
    watch,
)
from alva.release.alarms import alarms_are_quiet
from alva.release.approval import preview_changes, require_approval
from alva.release.diagnosis import Diagnosis
from alva.release.diff import Diff
from alva.release.executor import Executor
from alva.release.images import Builder
from alva.release.ledger import Release
from alva.release.lock import Lock, user_name
from alva.release.manifest import Manifest
from alva.release.observation import observe
from alva.release.plan import Observed, Plan, Wanted, make_plan
from alva.release.reporting import Reporter
from alva.release.request import Request
from alva.release.stack_state import ObservedStack
from alva.release.stacks import Stacks
from alva.release.times import utc

ROLLBACK_SECONDS = 1500.0
"""The limit of all waits of a rollback. A stack operation that must be cancelled has its own limit."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a release."""

    plan: Plan
    diff: Diff
    changed: bool
    digests: Mapping[str, str]
    checks: tuple[verify.Result, ...] = ()
    release: Release | None = None


def deploy(aws: Aws, manifest: Manifest, request: Request, builder: Builder, reporter: Reporter) -> Result:
    """Bring the environment to the templates and digests, verify that they serve, and record the release.

    Raises the errors of `errors.py`: a failed migration leaves the services unchanged, a failed rollout or verification
    rolls all of them back.
    """
    with Lock(aws, manifest).held(
        f"{recording.RELEASING}{request.commit}", reporter.note, wait_seconds=request.lock_wait_seconds
    ) as gone:
        if gone is not None:
            recording.record_killed(aws, manifest, gone, reporter.note)
        wanted, observed = observe(aws, manifest, request)
        left_seconds = request.deadline_seconds
        with aws.poll.limited(left_seconds):
            began_to_wait = time.monotonic()
            if _wait_for_operations(aws, observed, reporter):
                left_seconds -= time.monotonic() - began_to_wait
                wanted, observed = observe(aws, manifest, request)
        plan = make_plan(wanted, observed)
        refusals.refuse(
            aws,
            wanted,
            observed,
            plan,
            builder,
            makes_secrets=request.secret_values is not None,
            checks_account=request.checks_account,
        )
        diff = _preview_changes(aws, wanted, observed, plan, request, _touched(plan, observed))
        if not plan.is_empty:
            _warn(aws, manifest, reporter)
        for text in diff.drift_lines():
            reporter.note(text)
        for text in (*plan.lines(), *(f"! {risk}" for risk in diff.risks)):
            reporter.note(f"plan: {text}")
        require_approval(diff, manifest, request.allowed, request.ask)
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
            schema = recording.migrated(plan, executor, observed, wanted)
            return Release(
                commit=request.commit,
                digests=executor.digests,
                migrated_digest=schema.digest,
                revision=schema.revision,
                contractions=schema.contractions,
                rollback_of=request.rollback_of,
                by=user_name(),
                run=recording.run_address(),
                started_at=utc(started_at),
                seconds=round(time.monotonic() - started, 2),
                step_seconds=executor.step_seconds,
                outcome=outcome,
                cause=cause,
            )

        try:
            with aws.poll.limited(left_seconds):
                executor.run(plan)
                judging_seconds = _judging_seconds(wanted, observed, executor)
                checks = _verify(aws, manifest, executor, reporter, judging_seconds)
                _watch(aws, manifest, executor, reporter, max(judging_seconds, request.watch_seconds))
                if plan.clean_up:
                    executor.run(Plan(steps=plan.clean_up))
                    checks = _verify(aws, manifest, executor, reporter, judging_seconds)
        except KeyboardInterrupt:
            recording.record_failure(aws, manifest, entry(ledger.INTERRUPTED, "interrupted"), reporter)
            raise
        except Exception as raised:
            error = raised if isinstance(raised, AlvaError) else _unexpected(raised)
            causes = _explain(aws, manifest, error, since=started_at)
            try:
                with aws.poll.limited(ROLLBACK_SECONDS):
                    failure = automatic_rollback.roll_back(aws, manifest, observed, executor, error, reporter)
            except Exception as another:
                failure = RollbackFailed(
                    "cannot release, and an unexpected error ended the rollback",
                    evidence=[error.message, *error.evidence, *_unexpected(another).evidence],
                    next_step="./alva status and ./alva logs; ./alva deploy releases again",
                )
            failure = automatic_rollback.with_causes(failure, causes)
            outcome = ledger.ROLLED_BACK if isinstance(failure, RolledBack) else ledger.FAILED
            cause = "; ".join((failure.message, *failure.evidence[:2]))
            number = recording.record_failure(aws, manifest, entry(outcome, cause), reporter)
            if number is not None:
                recording.keep_causes(aws, manifest, number, failure, causes, reporter)
            raise failure from error.__cause__
        release = None
        if not plan.is_empty or observed.is_unrecorded:
            # A release that was interrupted, and that CloudFormation finished, is recorded once it verifies.
            release = recording.record_success(aws, manifest, entry(ledger.SUCCEEDED))
            recording.protect_from_expiry(aws, wanted, observed, release, reporter)
        return Result(
            plan=plan,
            diff=diff,
            changed=not plan.is_empty,
            digests=executor.digests,
            checks=tuple(checks),
            release=release,
        )


def _unexpected(error: Exception) -> AlvaError:
    """Wrap an unexpected exception, with the end of its traceback as evidence."""
    lines = [line.strip() for part in traceback.format_exception(error)[-4:] for line in part.strip().splitlines()]
    failure = AlvaError(
        f"cannot release: {type(error).__name__}: {error}",
        evidence=lines,
        next_step="run the same command again; if it fails again, report it with this evidence",
    )
    failure.__cause__ = error
    return failure


def _explain(aws: Aws, manifest: Manifest, error: AlvaError, *, since: datetime) -> tuple[Diagnosis, ...]:
    """Find the causes; an error here must not prevent the rollback."""
    try:
        return automatic_rollback.explain(aws, manifest, error, since=since)
    except Exception:
        return ()


def _warn(aws: Aws, manifest: Manifest, reporter: Reporter) -> None:
    """Report alarms without stopping: the release may fix their cause."""
    try:
        verdict, said = alarms_are_quiet(aws, manifest)
    except AlvaError as error:
        verdict, said = verify.Verdict.FAIL, "; ".join((error.message, *error.evidence))
    if verdict is verify.Verdict.FAIL:
        reporter.note(f"alarms: {said}")


def _wait_for_operations(aws: Aws, observed: Observed, reporter: Reporter) -> bool:
    """Wait for operations of an interrupted release or of somebody else; False if there are none.

    A stack in an update already has its new template and parameters: a plan made now would find nothing to do, and
    would not wait for the update.
    """
    not_ready = [stack for stack in observed.stacks.values() if stack is not None and not stack.can_be_updated]
    for stack in not_ready:
        key = f"wait:{stack.name}"
        reporter.step_started(key, f"wait for {stack.name} ({stack.status})")
        try:
            ready = Stacks(aws).wait_until_ready(stack.name, lambda text, key=key: reporter.step_line(key, text))  # type: ignore[misc]
        except AlvaError as error:
            reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else "")
            raise
        reporter.step_finished(key, "done", ready.status if ready is not None else "gone")
    return bool(not_ready)


def plan_only(aws: Aws, manifest: Manifest, request: Request) -> tuple[Plan, Diff]:
    """Return what `deploy` would do, what that would change, and the drift of all stacks. Changes nothing."""
    wanted, observed = observe(aws, manifest, request)
    plan = make_plan(wanted, observed)
    return plan, _preview_changes(aws, wanted, observed, plan, request, drift.comparable(observed.stacks))


def _touched(plan: Plan, observed: Observed) -> list[ObservedStack]:
    """Return the stacks that a plan updates."""
    names = {step.stack.name for step in plan.stack_steps()}
    return [stack for stack in drift.comparable(observed.stacks) if stack.name in names]


def _preview_changes(
    aws: Aws, wanted: Wanted, observed: Observed, plan: Plan, request: Request, detected: Sequence[ObservedStack]
) -> Diff:
    findings = request.findings() if request.findings is not None and not plan.is_empty else None
    return preview_changes(aws, wanted, observed, plan, findings, detected)


def _judging_seconds(wanted: Wanted, observed: Observed, executor: Executor) -> float:
    """Return how long a changed health check can take to find healthy targets unhealthy."""
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
        results = dependency_checks.verify_with_dependencies(aws, manifest, executor.digests, patience_seconds)
    else:
        results = verify.Verification(aws, manifest, executor.digests).run_until_good(patience_seconds)
    for result in results:
        reporter.step_line(key, f"{result.verdict.value} {result.name}: {result.reason}")
    try:
        verify.require(results)
    except AlvaError as failure:
        reporter.step_finished(key, "failed", failure.evidence[0])
        raise failure.because([], dependency_checks.next_step_of(manifest, failure.evidence)) from None
    reporter.step_finished(key, "done", f"{len(results)} checks")
    return results


def _watch(aws: Aws, manifest: Manifest, executor: Executor, reporter: Reporter, seconds: float) -> None:
    """Watch that the new version keeps running; raises VerificationFailed."""
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
