"""Finds changes made outside CloudFormation before a release; the engine reverts those that it can.

CloudFormation compares templates, not resources: it does not update a stack whose template is unchanged, even if its
resources changed. So this module compares directly what a release depends on most: each service with its stack (task
definition, desired count, last deployment), log groups, and listener rules. `drift_detection.py` runs CloudFormation's
detection for the rest, `drift_repairs.py` reverts drift. See docs/decisions/finding-drift.md.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, error_code, explained, pages
from alva.release import rollout
from alva.release.hibernation import Hibernation
from alva.release.manifest import Manifest, Service
from alva.release.stack_state import ObservedStack

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import ServiceTypeDef
    from mypy_boto3_elbv2.type_defs import RuleTypeDef

Template = Mapping[str, Any]

OUTSIDE = "changed outside CloudFormation"


class Kind(enum.Enum):
    """What differs from the template."""

    TASK_DEFINITION = "task definition"
    DESIRED_COUNT = "desired count"
    DEPLOYMENT = "failed deployment"
    LOG_GROUP = "log group"
    RESOURCE = "resource"


@dataclass(frozen=True, kw_only=True)
class RestoreService:
    """The values that restore a service to its stack's template."""

    service: str
    task_definition: str
    desired_count: int | None
    """None if scaling sets it."""
    needs_deployment: bool


@dataclass(frozen=True, kw_only=True)
class MissingLogGroup:
    """A log group to create again, with the name and retention (days; None: no expiry) of its template."""

    name: str
    retention_days: int | None


Repair = RestoreService | MissingLogGroup


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One difference between a resource and its stack."""

    kind: Kind
    subject: str
    """A service's short name, or `STACK/LOGICAL-ID`."""
    message: str
    repair: Repair | None = None
    """How a release reverts it; None: it does not, and `next_step` names what to do."""
    asks: bool = False
    """Whether reverting it needs approval: it may be intended, or users may notice."""
    next_step: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" + (f"; {self.next_step}" if self.next_step else "")

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary."""
        return {
            "kind": self.kind.value,
            "subject": self.subject,
            "message": self.message,
            "healed_by_a_release": self.repair is not None,
            "next": self.next_step,
        }


@dataclass(frozen=True, kw_only=True)
class Found:
    """The drift of an environment, and the stacks that could not be compared."""

    drifts: tuple[Drift, ...] = ()
    unseen: tuple[str, ...] = ()
    """Stacks that CloudFormation could not compare, with the reason."""


def compare(aws: Aws, manifest: Manifest, stacks: Mapping[str, ObservedStack | None]) -> Found:
    """Compare resources with their stacks, which are observed with their templates. Changes nothing."""
    with ThreadPoolExecutor(max_workers=12, thread_name_prefix="drift") as pool:
        asleep = pool.submit(Hibernation(aws, manifest).state)
        compared = [
            drift
            for found in pool.map(lambda stack: tuple(_compare(aws, manifest, stack)), comparable(stacks))
            for drift in found
        ]
        if asleep.result() is not None:  # `./alva sleep` set the desired counts to 0
            compared = [drift for drift in compared if drift.kind is not Kind.DESIRED_COUNT]
    return Found(drifts=tuple(compared))


def comparable(stacks: Mapping[str, ObservedStack | None]) -> list[ObservedStack]:
    """Return the stacks that exist and are not being changed."""
    return [stack for stack in stacks.values() if stack is not None and stack.was_made and stack.can_be_updated]


def updates(service: Service, former: Template, template: Template) -> bool:
    """Whether a template changes the task definition or other properties of a service.

    CloudFormation then calls UpdateService with all properties, which reverts the drift.
    """
    return _described(service, former) != _described(service, template)


def _described(service: Service, template: Template) -> list[Any]:
    resources = template.get("Resources", {})
    for resource in resources.values():
        properties = resource.get("Properties", {})
        if resource.get("Type") == "AWS::ECS::Service" and properties.get("ServiceName") == service.service:
            reference = properties.get("TaskDefinition")
            return [properties, resources.get(reference["Ref"]) if isinstance(reference, dict) else reference]
    return []


def _compare(aws: Aws, manifest: Manifest, stack: ObservedStack) -> Iterator[Drift]:
    """Compare one stack's services, log groups and listener rules."""
    resources: Mapping[str, Any] = stack.template.get("Resources", {})
    types = {each["Type"] for each in resources.values()}
    if not types & {"AWS::ECS::Service", "AWS::Logs::LogGroup", "AWS::ElasticLoadBalancingV2::ListenerRule"}:
        return
    with explained(f"list the resources of stack {stack.name}"):
        listed = pages(
            aws.cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=stack.stack_id or stack.name
        )
        physical = {each["LogicalResourceId"]: each.get("PhysicalResourceId", "") for each in listed}
    yield from _log_groups(aws, manifest, stack.name, resources, physical)
    yield from _listener_rules(aws, stack, resources, physical)
    if "AWS::ECS::Service" in types:
        running = rollout.describe_services(aws, manifest)
        by_name = {service.service: service for service in manifest.services}
        wanted = [
            resource["Properties"]
            for logical_id, resource in resources.items()
            if resource["Type"] == "AWS::ECS::Service"
            and resource.get("Properties", {}).get("ServiceName") in by_name
            and physical.get(logical_id)
        ]

        def service(properties: Mapping[str, Any]) -> tuple[Drift, ...]:
            name = properties["ServiceName"]
            return tuple(_service(aws, manifest, stack, by_name[name], properties, physical, running.get(name)))

        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="drift") as pool:
            for found in pool.map(service, wanted):
                yield from found


def _service(
    aws: Aws,
    manifest: Manifest,
    stack: ObservedStack,
    service: Service,
    properties: Mapping[str, Any],
    physical: Mapping[str, str],
    found: ServiceTypeDef | None,
) -> Iterator[Drift]:
    if found is None:
        yield Drift(
            kind=Kind.RESOURCE,
            subject=service.name,
            message=f"ECS no longer has the service {service.service}; {OUTSIDE}",
            asks=True,
            next_step=revert(stack),
        )
        return
    reference = properties.get("TaskDefinition")
    expected = physical.get(reference["Ref"], "") if isinstance(reference, dict) and "Ref" in reference else ""
    count = properties.get("DesiredCount")
    desired_count = int(count) if isinstance(count, int | str) and str(count).isdigit() else None
    other_definition = bool(expected) and found["taskDefinition"] != expected
    deployment = rollout.last_deployment(aws, manifest, service)
    has_failed = deployment is not None and deployment["status"] == "ROLLBACK_FAILED"
    repair = RestoreService(
        service=service.service,
        task_definition=expected or found["taskDefinition"],
        desired_count=desired_count,
        needs_deployment=other_definition or has_failed,
    )
    if other_definition:
        yield Drift(
            kind=Kind.TASK_DEFINITION,
            subject=service.name,
            message=f"runs {_short(found['taskDefinition'])}, its stack says {_short(expected)}; {OUTSIDE}",
            repair=repair,
            asks=True,
        )
    if desired_count is not None and found.get("desiredCount", 0) != desired_count:
        yield Drift(
            kind=Kind.DESIRED_COUNT,
            subject=service.name,
            message=f"its desired count is {found.get('desiredCount', 0)}, its stack says {desired_count}; {OUTSIDE}",
            repair=repair,
            asks=found.get("desiredCount", 0) > desired_count,
        )
    if has_failed and not other_definition:
        yield Drift(
            kind=Kind.DEPLOYMENT,
            subject=service.name,
            message="its last deployment is ROLLBACK_FAILED: ECS starts no task for it any more",
            repair=repair,
        )


def _log_groups(
    aws: Aws, manifest: Manifest, stack: str, resources: Mapping[str, Any], physical: Mapping[str, str]
) -> Iterator[Drift]:
    wanted = {
        physical[logical_id]: (logical_id, resource.get("Properties", {}).get("RetentionInDays"))
        for logical_id, resource in resources.items()
        if resource["Type"] == "AWS::Logs::LogGroup" and physical.get(logical_id)
    }
    if not wanted:
        return
    with explained("read the log groups"):
        there = {
            group["logGroupName"]
            for prefix in sorted({_common_prefix(name) for name in wanted})
            for group in pages(aws.logs, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
        }
    users = {service.log_group: service.name for service in manifest.services}
    for name, (logical_id, retention) in wanted.items():
        if name not in there:
            yield Drift(
                kind=Kind.LOG_GROUP,
                subject=users.get(name, f"{stack}/{logical_id}"),
                message=f"its log group {name} does not exist, so no new task can start; {OUTSIDE}",
                repair=MissingLogGroup(name=name, retention_days=retention if isinstance(retention, int) else None),
            )


def _common_prefix(name: str) -> str:
    """Return `/alva/staging/` of `/alva/staging/api`: one call reads all groups of an environment."""
    return name.rpartition("/")[0] + "/" if "/" in name else name


def _listener_rules(
    aws: Aws, stack: ObservedStack, resources: Mapping[str, Any], physical: Mapping[str, str]
) -> Iterator[Drift]:
    """Find deleted rules, and rules with another target group, which a template names by its logical id."""
    wanted = {
        logical_id: arn
        for logical_id, resource in resources.items()
        if resource["Type"] == "AWS::ElasticLoadBalancingV2::ListenerRule" and (arn := physical.get(logical_id))
    }
    there = {
        rule["RuleArn"]: rule
        for listener in sorted({_listener_of(arn) for arn in wanted.values()})
        for rule in _rules(aws, listener)
    }
    for logical_id, arn in wanted.items():
        rule = there.get(arn)
        properties = resources[logical_id]["Properties"]
        said = _rule_difference(properties, rule, physical) if rule is not None else "no longer exists"
        if said:
            yield Drift(
                kind=Kind.RESOURCE,
                subject=f"{stack.name}/{logical_id}",
                message=f"the listener rule {said}; {OUTSIDE}",
                asks=True,
                next_step=revert(stack),
            )


def _listener_of(rule: str) -> str:
    """Return a rule's listener: the rule's ARN is the listener's ARN with one more part.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html
    """
    return rule.replace(":listener-rule/", ":listener/").rpartition("/")[0]


def _rules(aws: Aws, listener: str) -> list[RuleTypeDef]:
    """Return the listener's rules; none if the listener is deleted."""
    with explained(f"read the rules of listener {listener}"):
        try:
            return list(pages(aws.elbv2, "describe_rules", "Rules", ListenerArn=listener))
        except Exception as error:
            if error_code(error) == "ListenerNotFound":
                return []
            raise


def _rule_difference(properties: Mapping[str, Any], rule: Mapping[str, Any], physical: Mapping[str, str]) -> str:
    wanted = [
        physical.get(group["Ref"], "")
        for action in properties.get("Actions", [])
        if isinstance(group := action.get("TargetGroupArn"), dict) and "Ref" in group
    ]
    leads = [action.get("TargetGroupArn", "") for action in rule["Actions"] if action["Type"] == "forward"]
    if wanted and wanted != leads:
        return f"forwards to {', '.join(map(_short, leads)) or 'no target group'}, its stack says {_short(wanted[0])}"
    paths = [_paths(condition) for condition in properties.get("Conditions", [])]
    asked = [_paths(condition) for condition in rule.get("Conditions", [])]
    if sorted(filter(None, paths)) != sorted(filter(None, asked)):
        return f"matches {_listed(asked)}, its stack says {_listed(paths)}"
    return ""


def _paths(condition: Mapping[str, Any]) -> list[str]:
    """Return the sorted path patterns of a condition."""
    return sorted(condition.get("PathPatternConfig", {}).get("Values", []))


def _listed(patterns: Sequence[Sequence[str]]) -> str:
    return ", ".join(each for values in patterns for each in values) or "every path"


def revert(stack: ObservedStack) -> str:
    """Return the commands that revert drift with CloudFormation (CreateChangeSet, DeploymentMode).

    They name every parameter: CloudFormation uses the template's default for a parameter that a request omits.
    """
    named = f"--stack-name {stack.name} --change-set-name revert-drift"
    kept = " ".join(f"ParameterKey={name},UsePreviousValue=true" for name in sorted(stack.parameters))
    return (
        f"aws cloudformation create-change-set {named} --use-previous-template --deployment-mode REVERT_DRIFT "
        f"--capabilities CAPABILITY_NAMED_IAM{f' --parameters {kept}' if kept else ''}, then "
        f"aws cloudformation execute-change-set {named}"
    )


def _short(arn: str) -> str:
    """Return the last part of an ARN: `alva-web:12` of a task definition, or a target group's name."""
    parts = arn.split("/")
    return parts[1] if ":targetgroup/" in arn else parts[-1]
