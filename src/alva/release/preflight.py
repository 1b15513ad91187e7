"""What can be known to fail before anything is touched: named checks, each OK, SKIP, WARN or FAIL with its reason.

`run` is the whole of it, for the verb; `refuse` is what every release asks first, of the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from alva.aws import Aws, explained, pages
from alva.errors import PreflightRefused
from alva.release import execution_roles, quotas, rollout
from alva.release.change_sets import INLINE_TEMPLATE_BYTES, minified
from alva.release.hibernation import Hibernation
from alva.release.images import Builder, is_published
from alva.release.ledger import SUCCEEDED, Ledger
from alva.release.lock import Lock
from alva.release.manifest import Manifest
from alva.release.plan import ApplyStack, Observed, Plan, Wanted
from alva.release.secrets import Secrets, SecretStatus, State
from alva.release.stacks import Action, Stacks
from alva.release.toolkit import toolkit_of
from alva.release.verify import Result, Verdict, run_check

BOOTSTRAP_VERSION = 6
"""The first whose roles and bucket are as this engine expects them (CDK: "Bootstrap template version history")."""

Said = tuple[Verdict, str]


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """The checks of one environment."""

    aws: Aws
    manifest: Manifest
    digests: Mapping[str, str | None]
    """Service name -> digest that would be released; services that are not named keep what they run."""
    builder: Builder | None = None
    findings: Mapping[str, Sequence[str]] | None = None
    """Template rule -> what it found (`checks.template_rules`)."""

    def run(self) -> list[Result]:
        """Ask everything, side by side; results in order."""
        checks: list[tuple[str, Callable[[], Said]]] = [
            ("credentials", self._credentials),
            ("region", self._region),
            ("CDK bootstrap", self._bootstrap),
            ("lock", self._lock),
            ("stacks are settled", self._stacks),
            ("templates are valid", self._templates),
            *((f"rule {rule}", _rule(found)) for rule, found in (self.findings or {}).items()),
            ("images exist", self._images),
            ("images are scanned", self._scans),
            ("secrets are set", self._secrets),
            ("tasks' roles may start them", self._execution_roles),
            ("quotas suffice", self._quotas),
            ("awake", lambda: is_awake(self.aws, self.manifest)),
            ("services run", self._services),
            ("alarms are quiet", lambda: alarms_are_quiet(self.aws, self.manifest)),
        ]
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="preflight") as pool:
            return list(pool.map(run_check, checks))

    def _credentials(self) -> Said:
        """There are AWS credentials, and whose they are."""
        with explained("find out who this is"):
            caller = self.aws.sts.get_caller_identity()
        return Verdict.OK, f"account {caller['Account']}, {caller['Arn'].rpartition(':')[2]}"

    def _region(self) -> Said:
        """The templates are for the region that is asked."""
        if self.manifest.region != self.aws.target.region:
            return Verdict.FAIL, f"the templates are for {self.manifest.region}, this is {self.aws.target.region}"
        return Verdict.OK, self.manifest.region

    def _bootstrap(self) -> Said:
        """The account is prepared, and the roles that change stacks may be assumed."""
        large = [
            stack.name
            for stack in self.manifest.stacks
            if len(minified(stack.template()).encode()) > INLINE_TEMPLATE_BYTES
        ]
        toolkit = toolkit_of(self.aws)
        if toolkit.version is None:
            if large:
                return Verdict.FAIL, f"not bootstrapped, and {', '.join(large)} must go through its bucket"
            return Verdict.SKIP, "not bootstrapped, and no template needs it: all can be sent inline"
        if toolkit.version < BOOTSTRAP_VERSION:
            return Verdict.FAIL, f"version {toolkit.version}, {BOOTSTRAP_VERSION} or later is needed"
        assumed = [toolkit.deployer, *([toolkit.publisher] if large else [])]
        return Verdict.OK, f"version {toolkit.version}, {len(assumed)} of its roles assumed"

    def _lock(self) -> Said:
        """Nobody else works on the environment."""
        holder = Lock(self.aws, self.manifest).holder()
        if holder is None:
            return Verdict.OK, "nobody holds it"
        if holder.is_gone():
            return Verdict.WARN, f"its holder is gone, the next release takes it over ({holder})"
        return Verdict.FAIL, str(holder)

    def _stacks(self) -> Said:
        """No stack is in the middle of an operation, or waits for a rollback to go on."""
        stacks = Stacks(self.aws)
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="preflight") as pool:
            observed = list(pool.map(lambda s: stacks.observe(s.name, with_template=False), self.manifest.stacks))
        there = [stack for stack in observed if stack is not None]
        unsettled = [f"{stack.name} is {stack.status}" for stack in there if not stack.is_settled]
        if unsettled:
            return Verdict.WARN, f"{', '.join(unsettled)}: a release waits for it, or continues its rollback"
        return Verdict.OK, f"{len(there)} of {len(observed)} exist"

    def _templates(self) -> Said:
        """CloudFormation finds nothing wrong with the templates."""
        wrong = invalid_templates(self.aws, {stack.name: stack.template() for stack in self.manifest.stacks})
        return (Verdict.FAIL, "; ".join(wrong)) if wrong else (Verdict.OK, f"{len(self.manifest.stacks)} templates")

    def _images(self) -> Said:
        """Each image that would be released is in its repository, or can be pushed from here."""
        missing = []
        for name, digest in self.digests.items():
            service = self.manifest.service(name)
            if digest is None or (self.builder is not None and self.builder.has(digest)):
                continue
            if not is_published(self.aws, service.repository, digest):
                missing.append(f"{service.repository}@{digest}")
        if missing:
            return Verdict.FAIL, f"neither in its repository nor here: {', '.join(missing)}"
        return Verdict.OK, f"{len(self.digests)} images"

    def _scans(self) -> Said:
        """What ECR's scan on push says of the images that exist.

        A severe finding warns and does not refuse: the release may be its cure, and a base image often has no cure yet.
        """
        severe, unscanned, scanned = [], [], 0
        for name, digest in self.digests.items():
            service = self.manifest.service(name)
            if digest is None or not is_published(self.aws, service.repository, digest):
                continue
            with explained(f"look at the scan of {service.repository}"):
                (image, *_) = self.aws.ecr.describe_images(
                    repositoryName=service.repository, imageIds=[{"imageDigest": digest}]
                )["imageDetails"]
            status = image.get("imageScanStatus", {})
            counts = image.get("imageScanFindingsSummary", {}).get("findingSeverityCounts", {})
            if not counts and status.get("status") != "COMPLETE":
                unscanned.append(f"{name}: {status.get('description') or status.get('status') or 'never scanned'}")
                continue
            scanned += 1
            severe += [f"{name}: {counts[level]} {level}" for level in ("CRITICAL", "HIGH") if counts.get(level)]
        if severe or (unscanned and scanned):
            return Verdict.WARN, ", ".join((*severe, *unscanned))
        return (Verdict.OK, f"{scanned} images") if scanned else (Verdict.SKIP, "ECR has no scan of any of them")

    def _secrets(self) -> Said:
        """Every secret that a container reads has a value, of the form that its kind has."""
        used = [status for status in Secrets(self.aws, self.manifest).check() if status.secret.used_by]
        if all(status.state is State.MISSING for status in used):
            return Verdict.SKIP, "they come with the first release"
        wrong = [status for status in used if status.state is not State.SET]
        return (Verdict.FAIL, "; ".join(map(_wrong_secret, wrong))) if wrong else (Verdict.OK, f"{len(used)} secrets")

    def _execution_roles(self) -> Said:
        """Each task's execution role may pull its image, read its secrets and write its log."""
        asked, wrong = execution_roles.refused(self.aws, self.manifest)
        if wrong:
            return Verdict.FAIL, "; ".join(wrong)
        return (Verdict.OK, f"{asked} roles") if asked else (Verdict.SKIP, "they come with the first release")

    def _quotas(self) -> Said:
        """The account's quotas are enough for what the templates ask."""
        stacks = Stacks(self.aws)
        deployed = [stack for each in self.manifest.stacks if (stack := stacks.observe(each.name)) and stack.was_made]
        try:
            found = quotas.demands(
                self.aws, [each.template() for each in self.manifest.stacks], [stack.template for stack in deployed]
            )
        except quotas.NoQuotas:
            return Verdict.SKIP, "not available here: there is no Service Quotas to ask"
        if short := [each for each in found if not each.is_met]:
            more = "; ".join(
                f"{each}: aws service-quotas request-service-quota-increase --service-code {each.service_code} "
                f"--quota-code {each.code} --desired-value {math.ceil(each.total)}"
                for each in short
            )
            return Verdict.FAIL, more
        return Verdict.OK, ", ".join(map(str, found))

    def _services(self) -> Said:
        """Whether what was released last runs: all of its tasks, from a deployment that succeeded, and nothing else."""
        if Hibernation(self.aws, self.manifest).state() is not None:
            return Verdict.SKIP, "asleep"
        found = rollout.describe_services(self.aws, self.manifest)
        if not found:
            return Verdict.SKIP, "nothing is released yet"
        last = next((r for r in Ledger(self.aws, self.manifest).history() if r.outcome == SUCCEEDED), None)
        wrong = []
        for service in self.manifest.services:
            there = found.get(service.service)
            if there is None:
                wrong.append(f"{service.name} is not there")
                continue
            if there.get("runningCount", 0) < there.get("desiredCount", 0):
                wrong.append(f"{service.name}: {there.get('runningCount', 0)} of {there.get('desiredCount', 0)} tasks")
            digest = rollout.running_digest(self.aws, there["taskDefinition"], service.name)
            if last is not None and last.digests.get(service.name, digest) != digest:
                wrong.append(f"{service.name} runs another image than release {last.number} put there")
            deployment = rollout.last_deployment(self.aws, self.manifest, service)
            if deployment is not None and deployment["status"] in ("STOPPED", "ROLLBACK_FAILED"):
                wrong.append(f"{service.name}: its last deployment is {deployment['status']}")
        return (Verdict.FAIL, "; ".join(wrong)) if wrong else (Verdict.OK, f"{len(found)} services")


def is_awake(aws: Aws, manifest: Manifest) -> Said:
    """Whether the environment is awake: into one that sleeps nothing can be released, its database does not run."""
    asleep = Hibernation(aws, manifest).state()
    if asleep is None:
        return Verdict.OK, ""
    return Verdict.FAIL, f"asleep since {asleep.since}, by {asleep.by}; ./alva wake brings it back"


def alarms_are_quiet(aws: Aws, manifest: Manifest) -> Said:
    """Whether no alarm of the environment rings.

    ECS ignores a deployment's alarms that ring already when it begins (AWS: "How CloudWatch alarms detect Amazon ECS
    deployment failures"): a release would go on unguarded.
    """
    with explained("look at the alarms"):
        alarms = list(
            pages(aws.client("cloudwatch"), "describe_alarms", "MetricAlarms", AlarmNamePrefix=f"{manifest.prefix}-")
        )
    ringing = [
        f"{alarm['AlarmName']}: {alarm.get('StateReason', '')}" for alarm in alarms if alarm["StateValue"] == "ALARM"
    ]
    if ringing:
        return Verdict.FAIL, "; ".join(ringing)
    return (Verdict.OK, f"{len(alarms)} alarms") if alarms else (Verdict.SKIP, "there are no alarms")


def refuse(aws: Aws, wanted: Wanted, observed: Observed, plan: Plan, builder: Builder, *, makes_secrets: bool) -> None:
    """What a release asks first; raises PreflightRefused with everything that is certain to fail."""
    refuse_asleep(aws, wanted.manifest)
    if not plan.is_empty:
        _ = toolkit_of(aws).deployer  # who changes the stacks: is there such a role, and may it be assumed?
    _refuse_missing_images(wanted, observed, builder)
    names = [step.stack.name for step in plan.steps if isinstance(step, ApplyStack)]
    if wrong := invalid_templates(aws, {name: wanted.templates[name] for name in names}):
        raise PreflightRefused(
            "cannot release: CloudFormation refuses a template; nothing was touched",
            evidence=wrong,
            next_step="correct infrastructure/",
        )
    if used := exports_in_use(wanted, observed, plan):
        raise PreflightRefused(
            "cannot release: a stack would lose an export that another one still imports; nothing was touched",
            evidence=used,
            next_step="keep the export for one release (Stack.export_value in infrastructure/), then remove it",
        )
    if not observed.secrets_ready and not makes_secrets:
        # Those that do not exist yet come with this release; those that do will not set themselves.
        statuses = [s for s in Secrets(aws, wanted.manifest).check() if s.secret.used_by]
        unset = [s for s in statuses if s.state in (State.UNSET, State.MALFORMED)]
        if unset and not any(s.state is State.MISSING for s in statuses):
            raise PreflightRefused(
                "cannot release: secrets are not ready; nothing was touched",
                evidence=[f"{_wrong_secret(s)} (used by {', '.join(s.secret.used_by)})" for s in unset],
                next_step="./alva secrets init makes what can be made; ./alva secrets set NAME reads standard input",
            )


def refuse_unset_settings(manifest: Manifest) -> None:
    """Raise PreflightRefused where a setting that AWS needs is not set. A local region does without them."""
    if manifest.unset_settings:
        raise PreflightRefused(
            f"cannot use {manifest.environment} on AWS: settings are missing; nothing was touched",
            evidence=[f"{name}: expected {expected}" for name, expected in manifest.unset_settings.items()],
            next_step="set them in infrastructure/lib/config/environments.py (docs/reference/settings.md)",
        )


def refuse_asleep(aws: Aws, manifest: Manifest) -> None:
    """Raise PreflightRefused where the environment sleeps: everything would wait for a database that does not run."""
    verdict, said = is_awake(aws, manifest)
    if verdict is Verdict.FAIL:
        raise PreflightRefused(
            f"cannot change {manifest.environment}: it is asleep; nothing was touched",
            evidence=[said.partition(";")[0]],
            next_step="./alva wake, then the same command again",
        )


def exports_in_use(wanted: Wanted, observed: Observed, plan: Plan) -> list[str]:
    """Exports that an update would take away or change while a stack that exists imports them.

    CloudFormation refuses such an update (AWS: "Refer to resource outputs in another CloudFormation stack"), and
    importing stacks come after the exporting one.
    """
    updated = [step.stack.name for step in plan.steps if isinstance(step, ApplyStack) and step.action is Action.UPDATE]
    found = []
    for name in updated:
        before = observed.stacks[name]
        kept = _exports(wanted.templates[name])
        for export in sorted(_exports(before.template) - kept) if before is not None else ():
            importers = [
                stack.name
                for stack in observed.stacks.values()
                if stack is not None and stack.was_made and stack.name != name and export in _imports(stack.template)
            ]
            if importers:
                found.append(f"{name} exports {export} no longer, and {', '.join(importers)} import it")
    return found


def _exports(template: Mapping[str, Any]) -> set[str]:
    """The names of a template's exports, those that are plain texts."""
    names = (output.get("Export", {}).get("Name") for output in template.get("Outputs", {}).values())
    return {name for name in names if isinstance(name, str)}


def _imports(value: Any) -> set[str]:
    """The names that a template imports, wherever it does."""
    if isinstance(value, Mapping):
        own = value.get("Fn::ImportValue")
        nested = (_imports(each) for each in value.values())
        return ({own} if isinstance(own, str) else set()).union(*nested)
    if isinstance(value, list):
        return set().union(*(_imports(each) for each in value))
    return set()


def invalid_templates(aws: Aws, templates: Mapping[str, Mapping[str, object]]) -> list[str]:
    """What CloudFormation finds wrong with the templates, without making anything of them."""
    stacks = Stacks(aws)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="validate") as pool:
        problems = list(pool.map(lambda item: stacks.validate(*item), templates.items()))
    return [f"{name}: {problem}" for name, problem in zip(templates, problems, strict=True) if problem]


def require(results: Sequence[Result], environment: str) -> None:
    """Raise PreflightRefused naming the checks that failed, if any did."""
    failed = [f"{result.name}: {result.reason}" for result in results if result.verdict is Verdict.FAIL]
    if failed:
        raise PreflightRefused(
            f"cannot release {environment}: {len(failed)} of {len(results)} checks failed",
            evidence=failed,
            next_step="correct them and run ./alva preflight again",
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


def _rule(found: Sequence[str]) -> Callable[[], Said]:
    """One template rule found nothing wrong: those at the head of this page."""
    return lambda: (Verdict.FAIL, "; ".join(found)) if found else (Verdict.OK, "")


def _wrong_secret(status: SecretStatus) -> str:
    return f"{status.secret.name}: {status.problem or status.state.value}"
