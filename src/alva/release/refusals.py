"""Checks that every release runs before its first change; they raise PreflightRefused if a step is certain to fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from alva.aws import Aws
from alva.errors import AlvaError, PreflightRefused
from alva.release.account import AccountChecks
from alva.release.bootstrap_roles import bootstrap_roles_of
from alva.release.hibernation import Hibernation
from alva.release.images import Builder
from alva.release.manifest import Manifest
from alva.release.plan import Observed, Plan, Wanted
from alva.release.secrets import Secrets, SecretStatus, State
from alva.release.stack_state import Action
from alva.release.stacks import Stacks
from alva.release.verify import Verdict


def refuse(
    aws: Aws,
    wanted: Wanted,
    observed: Observed,
    plan: Plan,
    builder: Builder,
    *,
    makes_secrets: bool,
    checks_account: bool,
) -> None:
    """Run the checks; raises PreflightRefused with everything that is certain to fail."""
    refuse_asleep(aws, wanted.manifest)
    if checks_account and any(step.action is Action.CREATE for step in plan.stack_steps()):
        refuse_account(aws, wanted.manifest)
    if not plan.is_empty:
        _ = bootstrap_roles_of(aws).deployer  # raises if the deploy role cannot be assumed
    _refuse_missing_images(wanted, observed, builder)
    names = [step.stack.name for step in plan.stack_steps()]
    if wrong := invalid_templates(aws, {name: wanted.templates[name] for name in names}):
        raise PreflightRefused(
            "cannot release: CloudFormation rejects a template; nothing was changed",
            evidence=wrong,
            next_step="correct infrastructure/",
        )
    if used := exports_in_use(wanted, observed, plan):
        raise PreflightRefused(
            "cannot release: a stack would lose an export that another one still imports; nothing was changed",
            evidence=used,
            next_step="keep the export for one release (Stack.export_value in infrastructure/), then remove it",
        )
    if not observed.secrets_ready and not makes_secrets:
        # This release creates missing secrets; existing ones must be set first.
        statuses = [s for s in Secrets(aws, wanted.manifest).check() if s.secret.used_by]
        unset = [s for s in statuses if s.state in (State.UNSET, State.MALFORMED)]
        if unset and not any(s.state is State.MISSING for s in statuses):
            raise PreflightRefused(
                "cannot release: secrets are not set, or their values are invalid; nothing was changed",
                evidence=[f"{wrong_secret(s)} (used by {', '.join(s.secret.used_by)})" for s in unset],
                next_step="./alva secrets init generates secrets; ./alva secrets set NAME reads standard input",
            )


def refuse_account(aws: Aws, manifest: Manifest) -> None:
    """Raise PreflightRefused if the account cannot create what the templates need. What cannot be asked is left out."""

    def failure(check: tuple[str, Callable[[], tuple[Verdict, str]]]) -> str | None:
        name, function = check
        try:
            verdict, reason = function()
        except AlvaError:
            return None
        return f"{name}: {reason}" if verdict is Verdict.FAIL else None

    checks = AccountChecks(aws=aws, manifest=manifest).checks()
    with ThreadPoolExecutor(max_workers=len(checks), thread_name_prefix="account") as pool:
        failed = [found for found in pool.map(failure, checks) if found is not None]
    if failed:
        raise PreflightRefused(
            f"cannot release {manifest.environment}: the account cannot create what it needs; nothing was changed",
            evidence=failed,
            next_step="change what the evidence names, then ./alva preflight",
        )


def refuse_unset_settings(manifest: Manifest) -> None:
    """Raise PreflightRefused if a setting for AWS is missing. A local region does not need it."""
    if manifest.unset_settings:
        raise PreflightRefused(
            f"cannot use {manifest.environment} on AWS: settings are missing; nothing was changed",
            evidence=[f"{name}: expected {expected}" for name, expected in manifest.unset_settings.items()],
            next_step="set them in infrastructure/lib/config/environments.py (docs/reference/settings.md)",
        )


def refuse_asleep(aws: Aws, manifest: Manifest) -> None:
    """Raise PreflightRefused if the environment is asleep: a release would wait for a stopped database."""
    verdict, said = is_awake(aws, manifest)
    if verdict is Verdict.FAIL:
        raise PreflightRefused(
            f"cannot change {manifest.environment}: it is asleep; nothing was changed",
            evidence=[said.partition(";")[0]],
            next_step="./alva wake, then run the same command again",
        )


def exports_in_use(wanted: Wanted, observed: Observed, plan: Plan) -> list[str]:
    """Return the exports that an update would remove while another stack imports them.

    CloudFormation refuses such an update (AWS: "Refer to resource outputs in another CloudFormation stack"). A stack
    around the services loses its exports last, when the importing stacks have their new templates.
    """
    updated = [step.stack.name for step in plan.stack_steps() if step.action is Action.UPDATE]
    contracted = {step.stack.name for step in plan.clean_up}
    found = []
    for name in updated:
        before = observed.stacks[name]
        kept = _exports(wanted.templates[name])
        for export in sorted(_exports(before.template) - kept) if before is not None else ():
            importers = [
                stack.name
                for stack in observed.stacks.values()
                if stack is not None
                and stack.was_made
                and stack.name != name
                and export in _imports(wanted.templates.get(stack.name, {}) if name in contracted else stack.template)
            ]
            if importers:
                found.append(f"{name} no longer exports {export}, but {', '.join(importers)} import it")
    return found


def _exports(template: Mapping[str, Any]) -> set[str]:
    """Return the names of a template's exports, without computed ones."""
    names = (output.get("Export", {}).get("Name") for output in template.get("Outputs", {}).values())
    return {name for name in names if isinstance(name, str)}


def _imports(value: Any) -> set[str]:
    """Return all names that a template imports."""
    if isinstance(value, Mapping):
        own = value.get("Fn::ImportValue")
        nested = (_imports(each) for each in value.values())
        return ({own} if isinstance(own, str) else set()).union(*nested)
    if isinstance(value, list):
        return set().union(*(_imports(each) for each in value))
    return set()


def invalid_templates(aws: Aws, templates: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Validate the templates with CloudFormation; returns the errors. Creates nothing."""
    stacks = Stacks(aws)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="validate") as pool:
        problems = list(pool.map(lambda item: stacks.validate(*item), templates.items()))
    return [f"{name}: {problem}" for name, problem in zip(templates, problems, strict=True) if problem]


def is_awake(aws: Aws, manifest: Manifest) -> tuple[Verdict, str]:
    """Check that the environment is awake: a release needs its database."""
    asleep = Hibernation(aws, manifest).state()
    if asleep is None:
        return Verdict.OK, ""
    return Verdict.FAIL, f"{asleep}; ./alva wake starts it"


def _refuse_missing_images(wanted: Wanted, observed: Observed, builder: Builder) -> None:
    missing = [
        f"{wanted.manifest.service(name).repository}@{digest}"
        for name, digest in wanted.digests.items()
        if digest is not None and name not in observed.published and not builder.has(digest)
    ]
    if missing:
        raise PreflightRefused(
            "cannot release: an image is neither in its repository nor on this machine; nothing was changed",
            evidence=missing,
            next_step="build and push it first, or leave --image out",
        )


def wrong_secret(status: SecretStatus) -> str:
    """Return a secret's name and problem."""
    return f"{status.secret.name}: {status.problem or status.state.value}"
