"""Asks CloudFormation what a plan would change, and a person (or `--allow`) whether what stands out may happen."""

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
"""Shows what stands out, asks the question, and returns whether to go on."""


def preview_changes(
    aws: Aws,
    wanted: Wanted,
    observed: Observed,
    plan: Plan,
    findings: Mapping[str, Sequence[str]] | None = None,
    detected: Sequence[ObservedStack] = (),
) -> Diff:
    """What the plan would change, stack by stack, from change sets that are removed again. Changes nothing.

    `findings` are what template rules found, by rule: known to fail, so they stand out where a template is used.
    Meanwhile CloudFormation detects the drift of the stacks in `detected`.
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
            return Preview(resources=None, note="from the templates: an image has yet to be built")
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
    """Return when everything that stands out is allowed, or a person says yes; raises PreflightRefused otherwise."""
    asking = [risk for risk in diff.risks if risk.kind not in allowed]
    if not asking or (ask is not None and ask(asking, in_words(asking, manifest))):
        return
    options = " ".join(f"--allow {kind}" for kind in dict.fromkeys(risk.kind.value for risk in asking))
    raise PreflightRefused(
        "cannot release: changes that stand out have not been allowed; nothing was touched",
        evidence=[str(risk) for risk in asking],
        next_step=f"read them, then repeat with {options}",
    )
