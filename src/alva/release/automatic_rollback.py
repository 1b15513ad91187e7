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
from alva.release.plan import Observed, running_digests
from alva.release.reporting import Reporter
from alva.release.risks import DATA_TYPES
from alva.release.stack_state import ObservedStack
from alva.release.stacks import Stacks

BACK = "all services run again what they ran before"


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
        if phase != "services" and goes_back(stack.template, executor.wanted.templates[stack.name])
    ]
    were_touched = bool(previous) or any(key.startswith("contract:") for key in executor.begun)
    try:
        for stack in around if were_touched else ():
            _restore_what_it_needs(aws, stack, reporter)
        for stack in (*previous, *reversed(around)):  # an export cannot go while another stack imports it
            _apply_again(aws, stack, reporter)
        if not were_touched:
            return failure  # or a first release: there was nothing before it
        services = [stack for each in manifest.stacks_of("services") if (stack := observed.stacks[each.name])]
        former = as_before(manifest, services)
        _verify_again(aws, former, services, reporter)
        persisting = _still_failing_inside(aws, former, failure)
    except AlvaError as error:
        return RollbackFailed(
            "cannot release, and the services do not serve as before either",
            evidence=[*failure.evidence, error.message, *error.evidence],
            next_step=error.next_step or "./alva status and ./alva logs; ./alva deploy releases anew",
        )
    failure = failure.because(persisting, dependency_checks.cure_of(manifest, persisting))
    if isinstance(failure, TimedOut):
        return TimedOut(f"{failure.message}; {BACK}", evidence=failure.evidence, next_step=failure.next_step)
    message = failure.message if isinstance(failure, RolledBack) else f"cannot release: {_without_cannot(failure)}"
    return RolledBack(f"{message}; {BACK}", evidence=failure.evidence, next_step=failure.next_step)


def explain(aws: Aws, manifest: Manifest, failure: AlvaError, *, since: datetime) -> tuple[Diagnosis, ...]:
    """The causes, looked for at once: what a rollback takes away is then no longer to be seen."""
    return why.causes_of(aws, manifest, failure, since=since)


def with_causes(failure: AlvaError, causes: Sequence[Diagnosis]) -> AlvaError:
    """The failure with its causes first."""
    known = (*failure.evidence, *failure.message.split("; "))
    lines = [line for cause in causes for line in cause.lines() if line.partition(": ")[2] not in known]
    next_step = next((cause.next_step for cause in causes if cause.kind != "unknown"), None)
    return failure.because(lines, next_step)


def keep(aws: Aws, manifest: Manifest, release: int, failure: AlvaError, causes: Sequence[Diagnosis]) -> None:
    """Write the causes down under the release's number."""
    account = why.Account(release=release, message=failure.message, exit_code=failure.exit_code, causes=tuple(causes))
    why.Accounts(aws, manifest).keep(account)


def goes_back(former: Mapping[str, Any], released: Mapping[str, Any]) -> bool:
    """Whether a stack around the services returns to its former template: what changed is nothing that holds data.

    A secret that the release took away comes back with its value, since it outlives its stack (DeletionPolicy).
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
    """Give the stack back what its former template has, beside what it has now.

    A failure is told and not raised: the services are taken back all the same.
    """
    key = f"restore:{former.name}"
    stacks = Stacks(aws)
    now = stacks.settle(former.name, lambda text: reporter.step_line(key, text))
    if now is None or not now.was_made or holds(now.template, former.template):
        return
    reporter.step_started(key, f"give {former.name} back what the former version needs")
    template = expanded(former.template, now.template)
    try:
        stacks.apply(former.name, template, former.parameters, former.tags, lambda text: reporter.step_line(key, text))
    except AlvaError as error:
        reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else error.message)
    else:
        reporter.step_finished(key, "done")


def as_before(manifest: Manifest, previous: Sequence[ObservedStack]) -> Manifest:
    """The manifest without the services that the former templates do not have: they are gone again."""
    parameters = {name for stack in previous for name in stack.template.get("Parameters", {})}
    return replace(manifest, services=tuple(each for each in manifest.services if each.image_parameter in parameters))


def _data(template: Mapping[str, Any]) -> dict[str, Any]:
    """The resources of a template that hold data."""
    return {name: each for name, each in template.get("Resources", {}).items() if each["Type"] in DATA_TYPES}


def _apply_again(aws: Aws, stack: ObservedStack, reporter: Reporter) -> None:
    key = f"back:{stack.name}"
    reporter.step_started(key, f"take {stack.name} back")
    try:
        changed = rollout.go_back(aws, stack, lambda text: reporter.step_line(key, text))
    except AlvaError as error:
        reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else error.message)
        raise
    reporter.step_finished(key, "done" if changed else "unchanged", "" if changed else "CloudFormation did it")


def _verify_again(aws: Aws, manifest: Manifest, previous: Sequence[ObservedStack], reporter: Reporter) -> None:
    key = "verify-back"
    reporter.step_started(key, "verify what runs again")
    digests = {name: digest for stack in previous for name, digest in running_digests(manifest, stack).items()}
    # What was found ill by a check that is taken back, or was replaced meanwhile, needs its time to be well again.
    results = verify.Verification(aws, manifest, digests).run_until_good(verify.FOUND_PATIENCE_SECONDS)
    try:
        verify.require(results)
    except AlvaError as error:
        reporter.step_finished(key, "failed", error.evidence[0] if error.evidence else error.message)
        raise
    reporter.step_finished(key, "done", f"{len(results)} checks")


def _still_failing_inside(aws: Aws, manifest: Manifest, failure: AlvaError) -> list[str]:
    """The dependency checks that fail with the former version too, so that the release is not their cause."""
    if not any(line.startswith("inside") for line in failure.evidence):
        return []
    checks = dependency_checks.DependencyChecks(aws, manifest)
    failed = dependency_checks.failures(checks.run(patience_seconds=dependency_checks.PATIENCE_SECONDS))
    return [f"{each} (with the former version too: this release is not the cause)" for each in failed]


def _without_cannot(failure: AlvaError) -> str:
    """What went wrong, behind "cannot release: ": of a verification, what it found."""
    message = failure.message.removeprefix("cannot ")
    return message.partition(": ")[2] or message if isinstance(failure, VerificationFailed) else message
