"""Risks of a release: changes that need approval, and that are easy to miss among many others.

Computed from templates and change sets. Permissions and open ports are compared rule by rule: what the old template
allowed already, in whatever form, is not a risk.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from alva.release.change_sets import ResourceChange

DATA_TYPES = {
    "AWS::RDS::DBInstance": "a database",
    "AWS::RDS::DBCluster": "a database",
    "AWS::ElastiCache::ReplicationGroup": "a cache with queues in it",
    "AWS::ElastiCache::CacheCluster": "a cache",
    "AWS::SecretsManager::Secret": "a secret's value",
    "AWS::S3::Bucket": "a bucket's objects",
    "AWS::DynamoDB::Table": "a table",
    "AWS::EFS::FileSystem": "a file system",
    "AWS::ECR::Repository": "the images that a rollback needs",
    "AWS::KMS::Key": "a key that data is encrypted with",
    "AWS::Logs::LogGroup": "logs",
}

_EMPTY_GROUP = "its listener rule forwards to the new, empty one: requests fail with 503 until new tasks are healthy"
_RESTARTS = "the database restarts: services that need it fail for minutes"

INTERRUPTIONS: Mapping[str, tuple[frozenset[str], str]] = {
    "AWS::ElasticLoadBalancingV2::TargetGroup": (
        frozenset({"Name", "Port", "Protocol", "ProtocolVersion", "TargetType", "VpcId", "IpAddressType"}),
        f"is replaced: {_EMPTY_GROUP}",
    ),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (
        frozenset({"Name", "Scheme", "Type"}),
        "is replaced: it gets another address, and the former one stops answering",
    ),
    "AWS::ElasticLoadBalancingV2::Listener": (
        frozenset({"LoadBalancerArn", "Port", "Protocol"}),
        "no longer listens on its former port: requests there fail",
    ),
    "AWS::ECS::Service": (
        frozenset({"Cluster", "LaunchType", "SchedulingStrategy", "ServiceName", "DeploymentController", "Role"}),
        "is replaced: its former tasks stop, whether or not the new ones serve",
    ),
    "AWS::RDS::DBInstance": (frozenset({"DBInstanceClass", "EngineVersion", "Port"}), _RESTARTS),
}
"""Resource type -> properties whose change users notice, with the effect.

Each type's page in the CloudFormation Template Reference has it per property ("Update requires"): replacement, or some
interruptions.
"""

EVERYTHING = "-1"


class Kind(enum.Enum):
    """The kind of a risk: the value of `--allow`."""

    IAM = "iam"
    NETWORK = "network"
    DATA = "data"
    CONTRACTION = "contraction"
    OUTAGE = "outage"
    DRIFT = "drift"
    RULES = "rules"


@dataclass(frozen=True, kw_only=True)
class Risk:
    """One change that needs approval."""

    kind: Kind
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.subject}: {self.message}"

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary."""
        return {"kind": self.kind.value, "subject": self.subject, "message": self.message}


def widened_permissions(stack: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Risk]:
    """Return permissions that only the new template grants, and denials that it removes."""
    before, after = list(_statements(old)), list(_statements(new))
    for grant in after:
        if grant.effect == "Allow" and not any(known.covers(grant) for known in before):
            yield Risk(kind=Kind.IAM, subject=f"{stack}/{grant.subject}", message=f"may now {grant}")
    for grant in before:
        if grant.effect == "Deny" and grant not in after:
            yield Risk(kind=Kind.IAM, subject=f"{stack}/{grant.subject}", message=f"is no longer denied to {grant}")
    had = set(_managed_policies(old))
    for subject, policy in _managed_policies(new):
        if (subject, policy) not in had:
            yield Risk(kind=Kind.IAM, subject=f"{stack}/{subject}", message=f"gets the managed policy {policy}")


def widened_network(stack: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Risk]:
    """Return security group rules that admit more than the old template, and resources that become public."""
    before = list(_rules(old))
    for rule in _rules(new):
        if not any(known.covers(rule) for known in before):
            yield Risk(kind=Kind.NETWORK, subject=f"{stack}/{rule.group}", message=str(rule))
    public = set(_public(old))
    for subject, how in _public(new):
        if (subject, how) not in public:
            yield Risk(kind=Kind.NETWORK, subject=f"{stack}/{subject}", message=f"becomes public ({how})")


def lost_data(stack: str, old: Mapping[str, Any], changes: Sequence[ResourceChange]) -> Iterator[Risk]:
    """Return replacements and removals of resources that hold data."""
    resources = old.get("Resources", {})
    for change in changes:
        what = DATA_TYPES.get(change.type)
        if what is None:
            continue
        policies = resources.get(change.logical_id, {})
        message = ""
        if change.is_replaced:
            certainty = "is replaced" if change.replacement == "True" else "may be replaced"
            because = f" ({', '.join(change.properties)})" if change.properties else ""
            kept = policies.get("UpdateReplacePolicy", "Delete")
            message = f"holds {what} and {certainty}{because}: the new one is empty, the old one is {_kept(kept)}"
        elif change.action == "Remove" and policies.get("DeletionPolicy", "Delete") != "Retain":
            message = f"holds {what} and is removed: it is {_kept(policies.get('DeletionPolicy', 'Delete'))}"
        if message:
            yield Risk(kind=Kind.DATA, subject=f"{stack}/{change.logical_id}", message=message)


def interruptions(stack: str, changes: Sequence[ResourceChange]) -> Iterator[Risk]:
    """Return changes that interrupt users, even if they succeed."""
    for change in changes:
        properties, what = INTERRUPTIONS.get(change.type, (frozenset(), ""))
        if change.action == "Modify" and (changed := sorted(properties & set(change.properties))):
            yield Risk(
                kind=Kind.OUTAGE, subject=f"{stack}/{change.logical_id}", message=f"{', '.join(changed)}: {what}"
            )


def _kept(policy: str) -> str:
    return {"Retain": "kept", "RetainExceptOnCreate": "kept", "Snapshot": "kept as a snapshot only"}.get(
        policy, "deleted"
    )


@dataclass(frozen=True)
class _Grant:
    """One action on one resource by one principal."""

    subject: str
    effect: str
    principal: str
    action: str
    resource: str
    condition: str

    def covers(self, other: _Grant) -> bool:
        return (
            self.effect == other.effect
            and self.subject == other.subject
            and self.principal in (other.principal, '"*"')
            and fnmatchcase(other.action.lower(), self.action.lower())
            and self.resource in (other.resource, '"*"')
            and self.condition in (other.condition, "{}")
        )

    def __str__(self) -> str:
        on = f" on {_plain(self.resource)}" if self.resource != "null" else ""
        by = f", by {_plain(self.principal)}" if self.principal != "null" else ""
        condition = f", if {self.condition}" if self.condition != "{}" else ""
        return f"{self.action}{on}{by}{condition}"


def _statements(template: Mapping[str, Any]) -> Iterator[_Grant]:
    for logical_id, resource in template.get("Resources", {}).items():
        for statement in _documents(resource.get("Properties", {})):
            for action in _as_list(statement.get("Action", statement.get("NotAction", "*"))):
                name = str(action) if "Action" in statement else f"anything but {action}"
                for target in _as_list(statement.get("Resource", statement.get("NotResource"))):
                    yield _Grant(
                        subject=logical_id,
                        effect=str(statement.get("Effect", "Allow")),
                        principal=_canonical(statement.get("Principal", statement.get("NotPrincipal"))),
                        action=name,
                        resource=_canonical(target if "NotResource" not in statement else {"not": target}),
                        condition=_canonical(statement.get("Condition", {})),
                    )


def _documents(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the statements of all policy documents in the value."""
    if isinstance(value, dict):
        if "Statement" in value and "Version" in value:
            yield from (s for s in _as_list(value["Statement"]) if isinstance(s, dict))
        else:
            for each in value.values():
                yield from _documents(each)
    elif isinstance(value, list):
        for each in value:
            yield from _documents(each)


def _managed_policies(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for logical_id, resource in template.get("Resources", {}).items():
        if str(resource.get("Type", "")).startswith("AWS::IAM::"):
            for policy in resource.get("Properties", {}).get("ManagedPolicyArns", []):
                yield logical_id, _plain(_canonical(policy))


@dataclass(frozen=True)
class _Rule:
    """One rule of a security group."""

    direction: str
    group: str
    protocol: str
    first_port: int
    last_port: int
    peer: str

    def covers(self, other: _Rule) -> bool:
        return (
            self.direction == other.direction
            and self.group == other.group
            and self.peer in (other.peer, _canonical("0.0.0.0/0"))
            and self.protocol in (other.protocol, EVERYTHING)
            and (self.protocol == EVERYTHING or self.first_port <= other.first_port)
            and (self.protocol == EVERYTHING or self.last_port >= other.last_port)
        )

    def __str__(self) -> str:
        ports = f"{self.first_port}" if self.first_port == self.last_port else f"{self.first_port}-{self.last_port}"
        what = "everything" if self.protocol == EVERYTHING else f"{self.protocol} {ports}"
        towards = "comes in from" if self.direction == "Ingress" else "goes out to"
        return f"{what} now {towards} {_plain(self.peer)}"


def _rules(template: Mapping[str, Any]) -> Iterator[_Rule]:
    for logical_id, resource in template.get("Resources", {}).items():
        properties = resource.get("Properties", {})
        for direction in ("Ingress", "Egress"):
            if resource.get("Type") == "AWS::EC2::SecurityGroup":
                for rule in properties.get(f"SecurityGroup{direction}", []):
                    yield _rule(direction, logical_id, rule)
            elif resource.get("Type") == f"AWS::EC2::SecurityGroup{direction}":
                yield _rule(direction, _group_name(properties.get("GroupId")), properties)


def _rule(direction: str, group: str, rule: Mapping[str, Any]) -> _Rule:
    peers = (
        "CidrIp",
        "CidrIpv6",
        "SourceSecurityGroupId",
        "DestinationSecurityGroupId",
        "SourcePrefixListId",
        "DestinationPrefixListId",
        "SourceSecurityGroupName",
    )
    peer = next((rule[key] for key in peers if key in rule), None)
    return _Rule(
        direction=direction,
        group=group,
        protocol=str(rule.get("IpProtocol", EVERYTHING)),
        first_port=int(rule.get("FromPort", 0)),
        last_port=int(rule.get("ToPort", 65535)),
        peer=_canonical(peer),
    )


def _group_name(value: Any) -> str:
    """Return the logical id of the group of a separate rule resource."""
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        return str(value["Fn::GetAtt"][0])
    return _plain(_canonical(value))


def _public(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for logical_id, resource in template.get("Resources", {}).items():
        for path, value in _leaves(resource.get("Properties", {})):
            if (path, value) in (
                ("PubliclyAccessible", True),
                ("AssignPublicIp", "ENABLED"),
                ("MapPublicIpOnLaunch", True),
                ("Scheme", "internet-facing"),
            ):
                yield logical_id, f"{path}: {value}"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, name)
    else:
        yield name, value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _plain(canonical: str) -> str:
    """Return a template's value in readable form: a reference by its target."""
    value = json.loads(canonical)
    if isinstance(value, dict) and len(value) == 1:
        ((function, argument),) = value.items()
        if function in ("Ref", "Fn::ImportValue"):
            return str(argument)
        if function == "Fn::GetAtt":
            return ".".join(argument) if isinstance(argument, list) else str(argument)
        if function == "Fn::Join" and isinstance(argument, list) and isinstance(argument[1], list):
            return str(argument[0]).join(_plain(_canonical(part)) for part in argument[1])
        if isinstance(argument, str):
            return f"{function} {argument}"
    return value if isinstance(value, str) else canonical


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
