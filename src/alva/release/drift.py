"""What somebody changed outside CloudFormation: found before a release, named, and put back where the engine can.

CloudFormation compares templates, not what runs: a stack whose template did not change is not updated, however much
its resources did. So two looks are taken. What a release depends on most is compared directly: each service with its
stack (task definition, desired count, last deployment), log groups, and listener rules. Everything else is
CloudFormation's drift detection, of all stacks side by side and for a bounded time: "DetectStackDrift can take up to
several minutes" (API reference), it sees only properties that the template sets, and only types that it supports.
docs/decisions/finding-drift.md
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, error_code, explained, pages
from alva.errors import AlvaError, TimedOut
from alva.release import rollout
from alva.release.hibernation import Hibernation
from alva.release.manifest import Manifest, Service
from alva.release.stacks import ObservedStack

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackResourceDriftTypeDef
    from mypy_boto3_ecs.type_defs import ServiceTypeDef

Template = Mapping[str, Any]

DETECTION_SECONDS = 120
"""How long CloudFormation's detection may take; a stack that takes longer is not looked at, which is said."""

OUTSIDE = "changed outside CloudFormation"

NOTICED_TYPES = (
    "AWS::EC2::Route",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::ElasticLoadBalancingV2::ListenerRule",
    "AWS::ElasticLoadBalancingV2::TargetGroup",
)
"""Types on which it depends whether requests arrive: their drift is asked about, any other is only named."""

COMPARED_TYPES = ("AWS::ECS::Service", "AWS::ECS::TaskDefinition", "AWS::ElasticLoadBalancingV2::ListenerRule")
"""Types that are compared directly: detection would only say the same again."""


class Kind(enum.Enum):
    """What differs."""

    TASK_DEFINITION = "task definition"
    DESIRED_COUNT = "desired count"
    DEPLOYMENT = "failed deployment"
    LOG_GROUP = "log group"
    RESOURCE = "resource"


@dataclass(frozen=True, kw_only=True)
class ServiceAsItWas:
    """What brings a service back to what its stack says."""

    service: str
    task_definition: str
    desired_count: int | None
    """None: the template leaves it to scaling."""
    needs_deployment: bool


@dataclass(frozen=True, kw_only=True)
class MissingLogGroup:
    """A log group to make again, by the name and with the retention (days; None: for ever) of its template."""

    name: str
    retention_days: int | None


Cure = ServiceAsItWas | MissingLogGroup


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One difference between what runs and what its stack says."""

    kind: Kind
    subject: str
    """A service's short name, or `STACK/LOGICAL-ID`."""
    message: str
    cure: Cure | None = None
    """What a release does about it; None: nothing, `next_step` names who does."""
    asks: bool = False
    """Whether somebody may have meant it, or users may notice that it is put back."""
    next_step: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" + (f"; {self.next_step}" if self.next_step else "")

    def as_json(self) -> dict[str, object]:
        """The same as values."""
        return {
            "kind": self.kind.value,
            "subject": self.subject,
            "message": self.message,
            "healed_by_a_release": self.cure is not None,
            "next": self.next_step,
        }


@dataclass(frozen=True, kw_only=True)
class Found:
    """All drift of an environment, and what could not be looked at."""

    drifts: tuple[Drift, ...] = ()
    unseen: tuple[str, ...] = ()
    """Stacks that CloudFormation did not compare, with the reason."""


def look(aws: Aws, manifest: Manifest, stacks: Mapping[str, ObservedStack | None], *, detects: bool = True) -> Found:
    """Compare what runs with the stacks, which are observed with their templates. Changes nothing.

    `detects`: ask CloudFormation too, which takes its time.
    """
    asleep = Hibernation(aws, manifest).state() is not None
    settled = [stack for stack in stacks.values() if stack is not None and stack.was_made and stack.is_settled]
    with ThreadPoolExecutor(max_workers=12, thread_name_prefix="drift") as pool:
        detecting = [pool.submit(_detect, aws, stack) for stack in settled] if detects else []
        compared = [drift for each in pool.map(lambda stack: _compare(aws, manifest, stack), settled) for drift in each]
        detected = [future.result() for future in detecting]
    if asleep:  # its desired counts are 0 because `./alva sleep` set them
        compared = [drift for drift in compared if drift.kind is not Kind.DESIRED_COUNT]
    known = {drift.subject for drift in compared}
    return Found(
        drifts=(*compared, *(drift for found in detected for drift in found.drifts if drift.subject not in known)),
        unseen=tuple(reason for found in detected for reason in found.unseen),
    )


def updates(service: Service, former: Template, template: Template) -> bool:
    """Whether a template gives a service another task definition or other properties than the former one.

    CloudFormation then calls UpdateService with all of them, which puts back what drifted.
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


def heal(aws: Aws, manifest: Manifest, cures: Sequence[Cure]) -> None:
    """Put back what the cures say, and return when the services run it.

    Raises AlvaError where a service's new deployment does not succeed.
    """
    for cure in cures:
        if isinstance(cure, MissingLogGroup):
            _make_log_group(aws, cure, manifest.tags)
    services = [cure for cure in cures if isinstance(cure, ServiceAsItWas)]
    before = {cure.service: _deployment(aws, manifest, cure.service) for cure in services}
    for cure in services:
        arguments: dict[str, Any] = {"taskDefinition": cure.task_definition} if cure.needs_deployment else {}
        if cure.desired_count is not None:
            arguments["desiredCount"] = cure.desired_count
        with explained(f"bring {cure.service} back to what its stack says"):
            aws.ecs.update_service(
                cluster=manifest.cluster, service=cure.service, forceNewDeployment=cure.needs_deployment, **arguments
            )
    pending = {cure.service: cure for cure in services}

    def all_back() -> bool | None:
        found = rollout.describe_services(aws, manifest)
        for name, cure in list(pending.items()):
            deployment = _deployment(aws, manifest, name)
            arn, status = deployment
            if cure.needs_deployment and arn == before[name][0]:
                continue
            if cure.needs_deployment and status in rollout.DEPLOYMENT_ENDED and status != "SUCCESSFUL":
                raise AlvaError(
                    f"cannot bring {name} back to what its stack says: its deployment ended as {status}",
                    next_step=f"./alva why {name.removeprefix('alva-')}",
                )
            service = found[name]
            if (status == "SUCCESSFUL" or not cure.needs_deployment) and (
                service["runningCount"] == service["desiredCount"]
            ):
                del pending[name]
        return None if pending else True

    aws.poll.until(all_back, timeout_seconds=900, what=f"the tasks of {', '.join(pending)}")


def _compare(aws: Aws, manifest: Manifest, stack: ObservedStack) -> Iterator[Drift]:
    """What differs of one stack's services, log groups and listener rules."""
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
    yield from _listener_rules(aws, stack.name, resources, physical)
    if "AWS::ECS::Service" in types:
        running = rollout.describe_services(aws, manifest)
        by_name = {service.service: service for service in manifest.services}
        for logical_id, resource in resources.items():
            name = resource.get("Properties", {}).get("ServiceName")
            if resource["Type"] == "AWS::ECS::Service" and name in by_name and physical.get(logical_id):
                yield from _service(aws, manifest, by_name[name], resource["Properties"], physical, running.get(name))


def _service(
    aws: Aws,
    manifest: Manifest,
    service: Service,
    properties: Mapping[str, Any],
    physical: Mapping[str, str],
    found: ServiceTypeDef | None,
) -> Iterator[Drift]:
    if found is None:
        yield Drift(
            kind=Kind.RESOURCE,
            subject=service.name,
            message=f"ECS has no service {service.service} any more; {OUTSIDE}",
            asks=True,
            next_step=_revert(manifest.stacks_of("services")[0].name),
        )
        return
    reference = properties.get("TaskDefinition")
    expected = physical.get(reference["Ref"], "") if isinstance(reference, dict) and "Ref" in reference else ""
    count = properties.get("DesiredCount")
    desired_count = int(count) if isinstance(count, int | str) and str(count).isdigit() else None
    other_definition = bool(expected) and found["taskDefinition"] != expected
    deployment = rollout.last_deployment(aws, manifest, service)
    has_failed = deployment is not None and deployment["status"] == "ROLLBACK_FAILED"
    cure = ServiceAsItWas(
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
            cure=cure,
            asks=True,
        )
    if desired_count is not None and found.get("desiredCount", 0) != desired_count:
        yield Drift(
            kind=Kind.DESIRED_COUNT,
            subject=service.name,
            message=f"its desired count is {found.get('desiredCount', 0)}, its stack says {desired_count}; {OUTSIDE}",
            cure=cure,
            asks=found.get("desiredCount", 0) > desired_count,
        )
    if has_failed and not other_definition:
        yield Drift(
            kind=Kind.DEPLOYMENT,
            subject=service.name,
            message="its last deployment is ROLLBACK_FAILED: ECS starts no task for it any more",
            cure=cure,
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
    with explained("look for the log groups"):
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
                cure=MissingLogGroup(name=name, retention_days=retention if isinstance(retention, int) else None),
            )


def _common_prefix(name: str) -> str:
    """`/alva/staging/` of `/alva/staging/api`: one question for the groups of an environment."""
    return name.rpartition("/")[0] + "/" if "/" in name else name


def _make_log_group(aws: Aws, cure: MissingLogGroup, tags: Mapping[str, str]) -> None:
    """Make it as CloudFormation would, with the tags that the stack gives to its resources."""
    with explained(f"make log group {cure.name} again"):
        try:
            aws.logs.create_log_group(logGroupName=cure.name, tags=dict(tags))
        except Exception as error:
            if error_code(error) != "ResourceAlreadyExistsException":
                raise
        if cure.retention_days is not None:
            aws.logs.put_retention_policy(logGroupName=cure.name, retentionInDays=cure.retention_days)


def _listener_rules(aws: Aws, stack: str, resources: Mapping[str, Any], physical: Mapping[str, str]) -> Iterator[Drift]:
    """Rules that are gone, or lead elsewhere. CloudFormation gives a rule's target group by its logical id."""
    for logical_id, resource in resources.items():
        arn = physical.get(logical_id)
        if resource["Type"] != "AWS::ElasticLoadBalancingV2::ListenerRule" or not arn:
            continue
        try:
            with explained(f"look at listener rule {logical_id}"):
                rules = aws.elbv2.describe_rules(RuleArns=[arn])["Rules"]
        except AlvaError as error:
            if not isinstance(error.__cause__, Exception) or error_code(error.__cause__) != "RuleNotFound":
                raise
            rules = []
        said = _rule_difference(resource["Properties"], rules[0], physical) if rules else "does not exist any more"
        if said:
            yield Drift(
                kind=Kind.RESOURCE,
                subject=f"{stack}/{logical_id}",
                message=f"the listener rule {said}; {OUTSIDE}",
                asks=True,
                next_step=_revert(stack),
            )


def _rule_difference(properties: Mapping[str, Any], rule: Mapping[str, Any], physical: Mapping[str, str]) -> str:
    wanted = [
        physical.get(group["Ref"], "")
        for action in properties.get("Actions", [])
        if isinstance(group := action.get("TargetGroupArn"), dict) and "Ref" in group
    ]
    leads = [action.get("TargetGroupArn", "") for action in rule["Actions"] if action["Type"] == "forward"]
    if wanted and wanted != leads:
        return f"leads to {', '.join(map(_short, leads)) or 'no target group'}, its stack says {_short(wanted[0])}"
    paths = [_paths(condition) for condition in properties.get("Conditions", [])]
    asked = [_paths(condition) for condition in rule.get("Conditions", [])]
    if sorted(filter(None, paths)) != sorted(filter(None, asked)):
        return f"takes {_listed(asked)}, its stack says {_listed(paths)}"
    return ""


def _paths(condition: Mapping[str, Any]) -> list[str]:
    """The path patterns of a condition, sorted."""
    return sorted(condition.get("PathPatternConfig", {}).get("Values", []))


def _listed(patterns: Sequence[Sequence[str]]) -> str:
    return ", ".join(each for values in patterns for each in values) or "every path"


def _detect(aws: Aws, stack: ObservedStack) -> Found:
    """CloudFormation's own comparison of one stack; that it cannot be made is no reason to hold up a release."""
    cloudformation = aws.cloudformation
    what = f"detect the drift of stack {stack.name}"

    def ended() -> tuple[str, str] | None:
        with explained(what):
            answer = cloudformation.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
        status = answer["DetectionStatus"]
        return None if status == "DETECTION_IN_PROGRESS" else (status, answer.get("DetectionStatusReason", ""))

    try:
        with explained(what):
            detection = cloudformation.detect_stack_drift(StackName=stack.name)["StackDriftDetectionId"]
        aws.poll.until(ended, timeout_seconds=DETECTION_SECONDS, what=f"the drift detection of {stack.name}")
        # What could be compared counts, even where something else could not (DETECTION_FAILED).
        with explained(what):
            found = _resource_drifts(aws, stack.name)
    except TimedOut:
        return Found(unseen=(f"{stack.name}: not compared within {DETECTION_SECONDS} s",))
    except AlvaError as error:
        return Found(unseen=(f"{stack.name}: {'; '.join(error.evidence) or error.message}",))
    return Found(drifts=tuple(_detected(stack.name, each) for each in found if _counts(each)))


def _resource_drifts(aws: Aws, stack: str) -> list[StackResourceDriftTypeDef]:
    """What the last detection found, all pages of it: botocore has no paginator for this call."""
    found: list[StackResourceDriftTypeDef] = []
    token: dict[str, Any] = {}
    while True:
        answer = aws.cloudformation.describe_stack_resource_drifts(
            StackName=stack, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"], **token
        )
        found += answer["StackResourceDrifts"]
        if not answer.get("NextToken"):
            return found
        token = {"NextToken": answer["NextToken"]}


def _counts(found: StackResourceDriftTypeDef) -> bool:
    """Whether detection says something that the direct comparison does not."""
    is_missing_log_group = (
        found["ResourceType"] == "AWS::Logs::LogGroup" and found["StackResourceDriftStatus"] == "DELETED"
    )
    return found["ResourceType"] not in COMPARED_TYPES and not is_missing_log_group


def _detected(stack: str, found: StackResourceDriftTypeDef) -> Drift:
    if found["StackResourceDriftStatus"] == "DELETED":
        said = f"{found.get('PhysicalResourceId', '')} ({found['ResourceType']}) does not exist any more"
    else:
        paths = [each["PropertyPath"].lstrip("/") for each in found.get("PropertyDifferences", [])]
        said = f"{found['ResourceType']} differs in {', '.join(paths) or 'some property'}"
    return Drift(
        kind=Kind.RESOURCE,
        subject=f"{stack}/{found['LogicalResourceId']}",
        message=f"{said}; {OUTSIDE}",
        asks=found["ResourceType"] in NOTICED_TYPES,
        next_step=_revert(stack),
    )


def _revert(stack: str) -> str:
    """The command that has CloudFormation bring drifted resources back (CreateChangeSet, DeploymentMode)."""
    return (
        f"aws cloudformation create-change-set --stack-name {stack} --change-set-name revert-drift "
        "--use-previous-template --deployment-mode REVERT_DRIFT --capabilities CAPABILITY_NAMED_IAM shows what puts it "
        "back, execute-change-set does it"
    )


def _deployment(aws: Aws, manifest: Manifest, service: str) -> tuple[str, str]:
    """ARN and status of a service's newest deployment; empty where there is none."""
    found = rollout.last_deployment(aws, manifest, manifest.service(service))
    return (found["serviceDeploymentArn"], found["status"]) if found is not None else ("", "")


def _short(arn: str) -> str:
    """`alva-web:12` of a task definition's ARN, a target group's name of its own."""
    parts = arn.split("/")
    return parts[1] if ":targetgroup/" in arn else parts[-1]
