"""Automatic rollback of a failed release: restores the former version of all services and verifies it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from alva.aws import Aws
from alva.errors import AlvaError, RollbackFailed, RolledBack, TimedOut, VerificationFailed
from alva.release import dependency_checks, rollout, verify, why
from alva.release.diagnosis import Diagnosis
from alva.release.executor import Executor
from alva.release.expansion import expanded, holds
from alva.release.manifest import Manifest
from alva.release.plan import Observed
from alva.release.reporting import Reporter
from alva.release.risks import DATA_TYPES
from alva.release.stack_state import ObservedStack, running_digests
from alva.release.stacks import Stacks

BACK = "all services run the former version again"


def roll_back(
    aws: Aws, manifest: Manifest, observed: Observed, executor: Executor, failure: AlvaError, reporter: Reporter
) -> AlvaError:
    """Restore the former version of the services if the release touched them; return the error to raise.

    First, the stacks around the services get back what the former version needs, and keep what the new version needs:
    neither version is cut off while the services roll back. Then the services roll back, and then the other stacks
    return to exactly their former templates. A stack whose data changed (a database, a cache, ...) is left alone,
    because a rollback could replace it. Where CloudFormation has already rolled back, only the verification runs.

    Returns `failure` where no service was touched, RolledBack (or TimedOut) where the rollback succeeded, and
    RollbackFailed where the services do not serve as before.
    """
    touched = [
        (stack, each.phase)
        for each in manifest.stacks
        if executor.begun & {f"stack:{each.name}", f"contract:{each.name}"}
        and (stack := observed.stacks.get(each.name)) is not None
        and stack.was_made
    ]
    previous = [stack for stack, phase in touched if phase == "services"]
    around = [
        stack
        for stack, phase in touched
        if phase != "services" and is_rolled_back(stack.template, executor.wanted.templates[stack.name])
    ]
    were_touched = bool(previous) or any(key.startswith("contract:") for key in executor.begun)
    try:
        for stack in around if were_touched else ():
            _restore_what_it_needs(aws, stack, reporter)
        for stack in (*previous, *reversed(around)):  # an export cannot be removed while another stack imports it
            _apply_again(aws, stack, reporter)
        if not were_touched:
            return failure  # also after a first release, which has no former version
        services = [stack for each in manifest.stacks_of("services") if (stack := observed.stacks[each.name])]
        former = former_manifest(manifest, services)
        _verify_again(aws, former, services, reporter)
        persisting = _still_failing_inside(aws, former, failure)
    except AlvaError as error:
        return RollbackFailed(
            "cannot release, and cannot roll back",
            evidence=[*failure.evidence, error.message, *error.evidence],
            next_step=error.next_step or "./alva status and ./alva logs; ./alva deploy releases again",
        )
    failure = failure.because(persisting, dependency_checks.next_step_of(manifest, persisting))
    if isinstance(failure, TimedOut):
        return TimedOut(f"{failure.message}; {BACK}", evidence=failure.evidence, next_step=failure.next_step)
    message = failure.message if isinstance(failure, RolledBack) else f"cannot release: {_without_cannot(failure)}"
    return RolledBack(f"{message}; {BACK}", evidence=failure.evidence, next_step=failure.next_step)


def explain(aws: Aws, manifest: Manifest, failure: AlvaError, *, since: datetime) -> tuple[Diagnosis, ...]:
    """Find the causes. This must run before the rollback, which removes the evidence."""
    return why.causes_of(aws, manifest, failure, since=since)


def with_causes(failure: AlvaError, causes: Sequence[Diagnosis]) -> AlvaError:
    """Put the causes before the failure's own evidence."""
    known = (*failure.evidence, *failure.message.split("; "))
    lines = [line for cause in causes for line in cause.lines() if line.partition(": ")[2] not in known]
    next_step = next((cause.next_step for cause in causes if cause.kind != "unknown"), None)
    return failure.because(lines, next_step)


def keep(aws: Aws, manifest: Manifest, release: int, failure: AlvaError, causes: Sequence[Diagnosis]) -> None:
    """Store the causes under the number of the release."""
    stored = why.FailedRelease(
        release=release, message=failure.message, exit_code=failure.exit_code, causes=tuple(causes)
    )
    why.FailedReleases(aws, manifest).keep(stored)


def is_rolled_back(former: Mapping[str, Any], released: Mapping[str, Any]) -> bool:
    """Whether a stack around the services is rolled back: only if no changed resource holds data.

    A secret that the release removed is restored with its value, because it outlives its stack (DeletionPolicy).
    """
    had, has = _data(former), _data(released)
    missing = [each for name, each in had.items() if name not in has]
    return (
        former != released
        and all(had.get(name) == each for name, each in has.items())
        and all(
            each["Type"] == "AWS::SecretsManager::Secret" and each.get("DeletionPolicy") == "Retain" for each in missing
        )
    )


def _restore_what_it_needs(aws: Aws, former: ObservedStack, reporter: Reporter) -> None:
    """Restore what the former version needs in a stack, and keep what it has now.

    A failure is reported, not raised: the services are rolled back in any case.
    """
    key = f"restore:{former.name}"
    stacks = Stacks(aws)
    now = stacks.wait_until_ready(former.name, lambda text: reporter.step_line(key, text))
    if now is None or not now.was_made or holds(now.template, former.template):
        return
    reporter.step_started(key, f"restore in {former.name} what the former version needs")
    template = expanded(former.template, now.template)
    try:
        stacks.apply(former.name, template, former.parameters, former.tags, lambda text: reporter.step_line(key, text))
    except AlvaError as error:
        reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else error.message)
    else:
        reporter.step_finished(key, "done")


def former_manifest(manifest: Manifest, previous: Sequence[ObservedStack]) -> Manifest:
    """Return the manifest without the services that the former templates do not have: the rollback deleted them."""
    parameters = {name for stack in previous for name in stack.template.get("Parameters", {})}
    return replace(manifest, services=tuple(each for each in manifest.services if each.image_parameter in parameters))


def _data(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources of a template that hold data."""
    return {name: each for name, each in template.get("Resources", {}).items() if each["Type"] in DATA_TYPES}


def _apply_again(aws: Aws, stack: ObservedStack, reporter: Reporter) -> None:
    key = f"back:{stack.name}"
    reporter.step_started(key, f"roll back {stack.name}")
    try:
        changed = rollout.roll_back(aws, stack, lambda text: reporter.step_line(key, text))
    except AlvaError as error:
        reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else error.message)
        raise
    reporter.step_finished(key, "done" if changed else "unchanged", "" if changed else "CloudFormation rolled it back")


def _verify_again(aws: Aws, manifest: Manifest, previous: Sequence[ObservedStack], reporter: Reporter) -> None:
    key = "verify-back"
    reporter.step_started(key, "verify the former version")
    digests = {name: digest for stack in previous for name, digest in running_digests(manifest, stack).items()}
    # Targets that failed a health check of the new version, and replaced tasks, need time to become healthy.
    results = verify.Verification(aws, manifest, digests).run_until_good(verify.FOUND_PATIENCE_SECONDS)
    try:
        verify.require(results)
    except AlvaError as error:
        reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else error.message)
        raise
    reporter.step_finished(key, "done", f"{len(results)} checks")


def _still_failing_inside(aws: Aws, manifest: Manifest, failure: AlvaError) -> list[str]:
    """Return the dependency checks that fail with the former version too: the release is not their cause."""
    if not any(line.startswith("inside") for line in failure.evidence):
        return []
    checks = dependency_checks.DependencyChecks(aws, manifest)
    failed = dependency_checks.failures(checks.run(patience_seconds=dependency_checks.PATIENCE_SECONDS))
    return [f"{each} (with the former version too: this release is not the cause)" for each in failed]


def _without_cannot(failure: AlvaError) -> str:
    """Return the text after "cannot release: "; for a failed verification, its result."""
    message = failure.message.removeprefix("cannot ")
    return message.partition(": ")[2] or message if isinstance(failure, VerificationFailed) else message
