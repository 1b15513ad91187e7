"""Previews what a plan changes, and requires approval for risky changes, from a person or from `--allow`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from alva.aws import Aws
from alva.checks.findings import GUESSES
from alva.errors import PreflightRefused, StackFailed
from alva.release import drift_detection
from alva.release.diff import Diff, Preview, in_words, make_diff
from alva.release.manifest import Manifest
from alva.release.plan import ApplyStack, Observed, Plan, Wanted, stack_parameters
from alva.release.risks import Kind, Risk
from alva.release.stack_state import Action, ObservedStack
from alva.release.stacks import Stacks

Ask = Callable[[Sequence[Risk], str], bool]
"""Shows the risky changes and the question; returns whether to continue."""


def preview_changes(
    aws: Aws,
    wanted: Wanted,
    observed: Observed,
    plan: Plan,
    findings: Mapping[str, Sequence[str]] | None = None,
    detected: Sequence[ObservedStack] = (),
) -> Diff:
    """Return what the plan would change, stack by stack, from change sets that are deleted again. Changes nothing.

    `findings` are the violated template rules: they are risks of a plan that uses the templates. Meanwhile,
    CloudFormation detects the drift of the stacks in `detected`.
    """
    parameters = stack_parameters(wanted)
    known = {key: value for key, value in parameters.items() if value is not None}
    unknown = set(parameters) - set(known)
    stacks = Stacks(aws)

    def preview(step: ApplyStack) -> Preview:
        name, template = step.stack.name, wanted.templates[step.stack.name]
        before = observed.stacks.get(name)
        if before is None or step.action is not Action.UPDATE:
            return Preview(resources=None)
        if unknown & set(template.get("Parameters", {})):
            return Preview(resources=None, note="from the templates: an image is not built yet")
        try:
            changes = stacks.preview(name, template, known, wanted.manifest.tags, before)
        except StackFailed as error:
            why = (error.evidence or (error.message,))[0]
            return Preview(resources=None, note=f"from the templates: CloudFormation says {why}")
        return Preview(resources=tuple(changes))

    steps = list(plan.stack_steps())
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="preview") as pool:
        try:
            detecting = pool.submit(drift_detection.detect, aws, detected, observed.drift)
            previews = dict(zip((s.stack.name for s in steps), pool.map(preview, steps), strict=True))
            observed = replace(observed, drift=detecting.result())
        except KeyboardInterrupt:
            aws.poll.interrupt.set()
            raise
    diff = make_diff(wanted, observed, plan, previews)
    broken = [
        Risk(kind=Kind.RULES, subject=rule, message=message)
        for rule, messages in (findings or {}).items()
        if rule not in GUESSES
        for message in messages
    ]
    return replace(diff, risks=(*diff.risks, *broken)) if steps else diff


def require_approval(diff: Diff, manifest: Manifest, allowed: frozenset[Kind], ask: Ask | None) -> None:
    """Return if every risk is allowed or a person approves; raise PreflightRefused otherwise."""
    asking = [risk for risk in diff.risks if risk.kind not in allowed]
    if not asking or (ask is not None and ask(asking, in_words(asking, manifest))):
        return
    options = " ".join(f"--allow {kind}" for kind in dict.fromkeys(risk.kind.value for risk in asking))
    raise PreflightRefused(
        "cannot release: risky changes need approval; nothing was changed",
        evidence=[str(risk) for risk in asking],
        next_step=f"review them, then repeat with {options}",
    )
