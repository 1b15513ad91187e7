"""Named checks before a release: each result is OK, SKIP, WARN or FAIL, with a reason.

`refusals.py` has the checks that every release runs first; they share functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from alva.aws import Aws, explained
from alva.checks.findings import GUESSES
from alva.errors import PreflightRefused
from alva.release import account, drift, drift_detection, execution_roles, quotas, rollout
from alva.release.alarms import alarms_are_quiet
from alva.release.bootstrap_roles import bootstrap_roles_of
from alva.release.change_sets import INLINE_TEMPLATE_BYTES, ValidationFinding, minified
from alva.release.hibernation import Hibernation
from alva.release.images import Builder, is_published
from alva.release.ledger import SUCCEEDED, Ledger
from alva.release.lock import Lock
from alva.release.manifest import Manifest, Stack
from alva.release.refusals import invalid_templates, is_awake, wrong_secret
from alva.release.risks import Kind
from alva.release.secrets import Secrets, State
from alva.release.serving import tasks_run
from alva.release.stacks import Stacks
from alva.release.verify import Finding, Result, Verdict, run_check

BOOTSTRAP_VERSION = 23
"""The first version whose deploy role can continue a stuck rollback (CDK: "Bootstrap template version history")."""

ANY_DIGEST = f"sha256:{'0' * 64}"
"""Stands for a digest that is not known yet."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """The checks of one environment."""

    aws: Aws
    manifest: Manifest
    digests: Mapping[str, str | None]
    """Service name -> digest to release; other services keep their image."""
    builder: Builder | None = None
    findings: Mapping[str, Sequence[str]] | None = None
    """Template rule -> its findings (`checks.template_rules`)."""
    allowed: frozenset[Kind] = frozenset()
    """The kinds of risk that the release is allowed; findings of rules then only warn."""

    def run(self) -> list[Result]:
        """Run all checks in parallel; return their results in order."""
        checks: list[tuple[str, Callable[[], Finding]]] = [
            ("credentials", self._credentials),
            ("region", self._region),
            ("CDK bootstrap", self._bootstrap),
            ("lock", self._lock),
            ("stacks can be updated", self._stacks),
            ("templates are valid", self._templates),
            ("CloudFormation's validation passes", self._validation),
            *(
                (f"rule {rule}", partial(rule_verdict, rule, found, is_allowed=Kind.RULES in self.allowed))
                for rule, found in (self.findings or {}).items()
            ),
            ("images exist", self._images),
            ("images fit their tasks", self._architectures),
            ("images are scanned", self._scans),
            ("secrets are set", self._secrets),
            ("execution roles have their permissions", self._execution_roles),
            ("quotas suffice", self._quotas),
            *account.AccountChecks(aws=self.aws, manifest=self.manifest).checks(),
            ("awake", self._awake),
            ("services run", self._services),
            ("nothing drifted", self._drift),
            ("alarms are quiet", self._alarms),
        ]
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="preflight") as pool:
            return list(pool.map(run_check, checks))

    def _credentials(self) -> Finding:
        """AWS accepts the credentials."""
        with explained("read the caller's identity"):
            caller = self.aws.sts.get_caller_identity()
        return Verdict.OK, f"account {caller['Account']}, {caller['Arn'].rpartition(':')[2]}"

    def _region(self) -> Finding:
        """The templates are for the target's region."""
        if self.manifest.region != self.aws.target.region:
            return Verdict.FAIL, f"the templates are for {self.manifest.region}, this is {self.aws.target.region}"
        return Verdict.OK, self.manifest.region

    def _bootstrap(self) -> Finding:
        """The account has a bootstrap, and its roles can be assumed."""
        large = [
            stack.name
            for stack in self.manifest.stacks
            if len(minified(stack.template()).encode()) > INLINE_TEMPLATE_BYTES
        ]
        roles = bootstrap_roles_of(self.aws)
        if roles.version is None:
            if large:
                return Verdict.FAIL, f"no bootstrap, and {', '.join(large)} must be uploaded to its bucket"
            return Verdict.SKIP, "no bootstrap; no template is too large to send inline"
        if roles.version < BOOTSTRAP_VERSION:
            return Verdict.FAIL, f"version {roles.version}, {BOOTSTRAP_VERSION} or later is needed"
        assumed = [roles.deployer, *([roles.publisher] if large else [])]
        return Verdict.OK, f"version {roles.version}, {len(assumed)} of its roles assumed"

    def _lock(self) -> Finding:
        """The environment's lock is free."""
        holder = Lock(self.aws, self.manifest).holder()
        if holder is None:
            return Verdict.OK, "free"
        if holder.is_gone():
            return Verdict.WARN, f"its holder has ended; the next release takes it over ({holder})"
        return Verdict.WARN, f"a release is refused, or waits with --wait SECONDS, while it is held by {holder}"

    def _stacks(self) -> Finding:
        """No stack has an operation in progress or a stuck rollback."""
        stacks = Stacks(self.aws)
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="preflight") as pool:
            observed = list(pool.map(lambda s: stacks.observe(s.name, with_template=False), self.manifest.stacks))
        there = [stack for stack in observed if stack is not None]
        not_ready = [f"{stack.name} is {stack.status}" for stack in there if not stack.can_be_updated]
        if not_ready:
            return Verdict.WARN, f"{', '.join(not_ready)}: a release waits for it, or continues its rollback"
        return Verdict.OK, f"{len(there)} of {len(observed)} exist"

    def _templates(self) -> Finding:
        """CloudFormation accepts the templates."""
        wrong = invalid_templates(self.aws, {stack.name: stack.template() for stack in self.manifest.stacks})
        return (Verdict.FAIL, "; ".join(wrong)) if wrong else (Verdict.OK, f"{len(self.manifest.stacks)} templates")

    def _validation(self) -> Finding:
        """CloudFormation's validation of the changes finds no error: existing names, properties, quotas."""
        unknown = dict.fromkeys((service.image_parameter for service in self.manifest.services), ANY_DIGEST)
        known = self.manifest.image_parameters({name: d for name, d in self.digests.items() if d is not None})
        parameters = {self.manifest.migration.image_parameter: ANY_DIGEST, **unknown, **known}
        stacks = Stacks(self.aws)

        def validate_changes(stack: Stack) -> list[ValidationFinding]:
            template = stack.template()
            return stacks.validate_changes(stack.name, template, parameters, self.manifest.tags)

        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="validate") as pool:
            found = list(pool.map(validate_changes, self.manifest.stacks))
        said = [
            (each.fails, f"{stack.name}: {each.text}")
            for stack, findings in zip(self.manifest.stacks, found, strict=True)
            for each in findings
        ]
        if not said:
            return Verdict.OK, f"{len(found)} stacks"
        is_fatal = any(fails for fails, _ in said)
        return (Verdict.FAIL if is_fatal else Verdict.WARN), "; ".join(text for _, text in said)

    def _images(self) -> Finding:
        """Each image is in its repository, or can be pushed from this machine."""
        missing = []
        for name, digest in self.digests.items():
            service = self.manifest.service(name)
            if digest is None or (self.builder is not None and self.builder.has(digest)):
                continue
            if not is_published(self.aws, service.repository, digest):
                missing.append(f"{service.repository}@{digest}")
        if missing:
            return Verdict.FAIL, f"neither in its repository nor on this machine: {', '.join(missing)}"
        return Verdict.OK, f"{len(self.digests)} images"

    def _architectures(self) -> Finding:
        """The existing images have the CPU architecture of their task definitions."""
        return account.architectures(self.aws, self.manifest, self.digests)

    def _scans(self) -> Finding:
        """ECR's scan on push of the existing images.

        A severe finding only warns: the release may fix it, and a base image often has no fix yet.
        """
        severe, unscanned, scanned = [], [], 0
        for name, digest in self.digests.items():
            service = self.manifest.service(name)
            if digest is None or not is_published(self.aws, service.repository, digest):
                continue
            with explained(f"read the scan of {service.repository}"):
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
        return (Verdict.OK, f"{scanned} images") if scanned else (Verdict.SKIP, "ECR has scanned none of them")

    def _secrets(self) -> Finding:
        """Every secret that a container reads has a well-formed value. A missing one warns: a release creates it."""
        used = [status for status in Secrets(self.aws, self.manifest).check() if status.secret.used_by]
        if all(status.state is State.MISSING for status in used):
            return Verdict.SKIP, "the first release creates them"
        wrong = [status for status in used if status.state is not State.SET]
        if not wrong:
            return Verdict.OK, f"{len(used)} secrets"
        is_created = any(status.state is State.MISSING for status in wrong)
        return (Verdict.WARN if is_created else Verdict.FAIL), "; ".join(map(wrong_secret, wrong))

    def _execution_roles(self) -> Finding:
        """Each task's execution role can pull its image, read its secrets and write its log. Only warns: a release may
        repair it.
        """
        asked, wrong = execution_roles.refused(self.aws, self.manifest)
        if wrong:
            return Verdict.WARN, "; ".join(wrong)
        return (Verdict.OK, f"{asked} roles") if asked else (Verdict.SKIP, "the first release creates them")

    def _quotas(self) -> Finding:
        """The account's quotas are enough for the templates."""
        stacks = Stacks(self.aws)
        deployed = [stack for each in self.manifest.stacks if (stack := stacks.observe(each.name)) and stack.was_made]
        try:
            found = quotas.demands(
                self.aws, [each.template() for each in self.manifest.stacks], [stack.template for stack in deployed]
            )
        except quotas.NoQuotas:
            return Verdict.SKIP, "this endpoint has no Service Quotas"
        if short := [each for each in found if not each.is_met]:
            return Verdict.FAIL, "; ".join(f"{each}: {each.increase(each.total)}" for each in short)
        if tight := [each for each in found if not each.is_met_at_most]:
            return Verdict.WARN, "; ".join(
                f"{each}, and {each.most:g} when the services have scaled out: {each.increase(each.most)}"
                for each in tight
            )
        return Verdict.OK, ", ".join(map(str, found))

    def _awake(self) -> Finding:
        """The environment is awake: a release needs its database."""
        return is_awake(self.aws, self.manifest)

    def _services(self) -> Finding:
        """All tasks of the last release run, and their deployments succeeded. Only warns: a release may repair it."""
        if Hibernation(self.aws, self.manifest).state() is not None:
            return Verdict.SKIP, "asleep"
        found = rollout.describe_services(self.aws, self.manifest)
        if not found:
            return Verdict.SKIP, "nothing is deployed yet"
        last = next((r for r in Ledger(self.aws, self.manifest).history() if r.outcome == SUCCEEDED), None)
        wrong = []
        for service in self.manifest.services:
            there = found.get(service.service)
            if there is None:
                wrong.append(f"{service.name} does not exist")
                continue
            if there.get("runningCount", 0) < there.get("desiredCount", 0):
                wrong.append(f"{service.name}: {tasks_run(there.get('runningCount', 0), there.get('desiredCount', 0))}")
            digest = rollout.running_digest(self.aws, there["taskDefinition"], service.name)
            if last is not None and last.digests.get(service.name, digest) != digest:
                wrong.append(f"{service.name} runs another image than that of release {last.number}")
            deployment = rollout.last_deployment(self.aws, self.manifest, service)
            if deployment is not None and deployment["status"] in ("STOPPED", "ROLLBACK_FAILED"):
                wrong.append(f"{service.name}: its last deployment is {deployment['status']}")
        return (Verdict.WARN, "; ".join(wrong)) if wrong else (Verdict.OK, f"{len(found)} services")

    def _drift(self) -> Finding:
        """Resources match their stacks. Only warns: a release reverts the drift of services and log groups."""
        stacks = Stacks(self.aws)
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="preflight") as pool:
            observed = dict(pool.map(lambda stack: (stack.name, stacks.observe(stack.name)), self.manifest.stacks))
        compared = drift.compare(self.aws, self.manifest, observed)
        found = drift_detection.detect(self.aws, drift.comparable(observed), compared)
        if found.drifts:
            return Verdict.WARN, "; ".join(map(str, found.drifts))
        if found.unseen:
            return Verdict.WARN, f"not known for {'; '.join(found.unseen)}"
        return Verdict.OK, f"{sum(stack is not None for stack in observed.values())} stacks"

    def _alarms(self) -> Finding:
        """No alarm of the environment is in the state ALARM. Only warns: a release may fix the cause."""
        verdict, reason = alarms_are_quiet(self.aws, self.manifest)
        return (Verdict.WARN if verdict is Verdict.FAIL else verdict), reason


def require(results: Sequence[Result], environment: str) -> None:
    """Raise PreflightRefused with the failed checks, if there are any."""
    failed = [f"{result.name}: {result.reason}" for result in results if result.verdict is Verdict.FAIL]
    if failed:
        raise PreflightRefused(
            f"cannot release {environment}: {len(failed)} of {len(results)} checks failed",
            evidence=failed,
            next_step="correct them and run ./alva preflight again",
        )


def rule_verdict(rule: str, found: Sequence[str], *, is_allowed: bool = False) -> Finding:
    """A template rule has no findings. docs/reference/checks.md lists the rules."""
    if not found:
        return Verdict.OK, ""
    return (Verdict.WARN if is_allowed or rule in GUESSES else Verdict.FAIL), "; ".join(found)
