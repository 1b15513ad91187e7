"""Reads the current properties of resources, in the form of a template, for drift detection."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from urllib.parse import unquote

from alva.region.cloudformation.registry import Properties, Reader, Registry
from alva.region.cloudformation.store import StackRecords
from alva.region.control_plane import call

_GROUP = "AWS::EC2::SecurityGroup"
_SIDES = {"Ingress": ("Source", "IpPermissions"), "Egress": ("Destination", "IpPermissionsEgress")}
_QUEUE_NUMBERS = (
    "VisibilityTimeout", "MaximumMessageSize", "MessageRetentionPeriod", "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
)  # fmt: skip
_QUEUE_POLICIES = ("RedrivePolicy", "RedriveAllowPolicy")
_QUEUE_SWITCHES = ("ContentBasedDeduplication", "FifoQueue")


def rules_of(permissions: list[dict[str, Any]], side: str) -> list[Properties]:
    """A group's permissions as rules of a template, one for each source (`side` is Source or Destination)."""
    rules = []
    for permission in permissions:
        common: Properties = {key: permission[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in permission}
        for key, name, content in (
            ("IpRanges", "CidrIp", "CidrIp"),
            ("Ipv6Ranges", "CidrIpv6", "CidrIpv6"),
            ("PrefixListIds", f"{side}PrefixListId", "PrefixListId"),
            ("UserIdGroupPairs", f"{side}SecurityGroupId", "GroupId"),
        ):
            for entry in permission.get(key) or ():
                described = {"Description": entry["Description"]} if entry.get("Description") else {}
                rules.append({**common, name: entry.get(content), **described})
    return rules


def identity(rule: Properties, side: str) -> tuple[str, ...]:
    """The members of a rule that identify it: all but the description."""
    names = (
        "IpProtocol", "FromPort", "ToPort", "CidrIp", "CidrIpv6", f"{side}PrefixListId", f"{side}SecurityGroupId",
    )  # fmt: skip
    return tuple(str(rule.get(name, "")) for name in names)


async def _group(records: StackRecords, group_id: str, properties: Properties) -> Properties:
    (group,) = (await call("ec2", "DescribeSecurityGroups", {"GroupIds": [group_id]}))["SecurityGroups"]
    return {
        "GroupDescription": group["Description"],
        "GroupName": group["GroupName"],
        "VpcId": group["VpcId"],
        "SecurityGroupIngress": _inline_rules(records, group, properties, "Ingress"),
        "SecurityGroupEgress": _inline_rules(records, group, properties, "Egress"),
        "Tags": group["Tags"],
    }


def _inline_rules(records: StackRecords, group: Properties, properties: Properties, direction: str) -> list[Properties]:
    """The rules of a group, without those that are separate resources in the same stack.

    AWS leaves out such attachments too, within a stack and not across stacks ("Resource attachments" of the guide).
    """
    side, permissions = _SIDES[direction]
    others = _attached_rules(records, group["GroupId"], f"{_GROUP}{direction}")
    attached = [identity(rule, side) for rule in others]
    rules = [rule for rule in rules_of(group[permissions], side) if identity(rule, side) not in attached]
    # The owner of a source group, and descriptions that the template does not set, are not compared.
    wanted = properties.get(f"SecurityGroup{direction}") or []
    owners = {
        identity(rule, side): {key: rule[key] for key in (f"{side}SecurityGroupOwnerId",) if key in rule}
        for rule in wanted
    }
    return [{**rule, **owners.get(identity(rule, side), {})} for rule in rules]


def _attached_rules(records: StackRecords, group_id: str, type_name: str) -> list[Properties]:
    for stack in records.all_stacks():
        resources = stack.get("_resources") or {}
        if any(
            record.get("PhysicalResourceId") == group_id and record.get("ResourceType") == _GROUP
            for record in resources.values()
        ):
            return [
                record["Properties"]
                for record in resources.values()
                if record.get("ResourceType") == type_name and record["Properties"].get("GroupId") == group_id
            ]
    return []


def _rule_reader(side: str, permissions_key: str) -> Reader:
    async def read(rule_id: str, properties: Properties) -> Properties | None:
        del rule_id  # EC2's rule ids are derived from the content here, so a rule is found by its content.
        request = {"GroupIds": [properties["GroupId"]]}
        (group,) = (await call("ec2", "DescribeSecurityGroups", request))["SecurityGroups"]
        for rule in rules_of(group[permissions_key], side):
            if identity(rule, side) == identity(properties, side):
                return {**rule, "GroupId": properties["GroupId"]}
        return None

    return read


async def _role(name: str, _: Properties) -> Properties:
    role = (await call("iam", "GetRole", {"RoleName": name}))["Role"]
    trust = json.loads(unquote(role["AssumeRolePolicyDocument"]))
    return {"Description": "", "Tags": [], **role, "AssumeRolePolicyDocument": trust}


async def _log_group(name: str, _: Properties) -> Properties | None:
    groups = (await call("logs", "DescribeLogGroups", {"logGroupNamePrefix": name}))["logGroups"]
    group = next((each for each in groups if each["logGroupName"] == name), None)
    if group is None:
        return None
    tags = (await call("logs", "ListTagsForResource", {"resourceArn": group["logGroupArn"]}))["tags"]
    names = {"LogGroupName": "logGroupName", "RetentionInDays": "retentionInDays", "LogGroupClass": "logGroupClass"}
    return {**{name: group[member] for name, member in names.items() if member in group}, "Tags": _list(tags)}


async def _bucket(name: str, _: Properties) -> Properties:
    versioning = await call("s3", "GetBucketVersioning", {"Bucket": name})
    status = {"VersioningConfiguration": {"Status": versioning["Status"]}} if "Status" in versioning else {}
    return {"BucketName": name, **status}


async def _secret(arn: str, _: Properties) -> Properties | None:
    secret = await call("secretsmanager", "DescribeSecret", {"SecretId": arn})
    if secret.get("DeletedDate"):
        return None
    return {
        "Name": secret["Name"],
        "Description": secret.get("Description") or "",
        "KmsKeyId": secret.get("KmsKeyId"),
        "Tags": secret.get("Tags") or [],
    }


async def _topic(arn: str, _: Properties) -> Properties:
    attributes = (await call("sns", "GetTopicAttributes", {"TopicArn": arn}))["Attributes"]
    tags = (await call("sns", "ListTagsForResource", {"ResourceArn": arn}))["Tags"]
    return {"TopicName": arn.rpartition(":")[2], "Tags": tags, **attributes}


async def _queue(url: str, _: Properties) -> Properties:
    request = {"QueueUrl": url, "AttributeNames": ["All"]}
    attributes = (await call("sqs", "GetQueueAttributes", request))["Attributes"]
    tags = (await call("sqs", "ListQueueTags", {"QueueUrl": url})).get("Tags") or {}
    return {
        "QueueName": url.rpartition("/")[2],
        "FifoQueue": False,
        "Tags": _list(tags),
        **{name: int(attributes[name]) for name in _QUEUE_NUMBERS if name in attributes},
        **{name: json.loads(attributes[name]) for name in _QUEUE_POLICIES if attributes.get(name)},
        **{name: attributes[name] == "true" for name in _QUEUE_SWITCHES if name in attributes},
    }


async def _parameter(name: str, _: Properties) -> Properties:
    value = (await call("ssm", "GetParameter", {"Name": name, "WithDecryption": True}))["Parameter"]
    filters = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
    (described,) = (await call("ssm", "DescribeParameters", {"ParameterFilters": filters}))["Parameters"]
    tags = (await call("ssm", "ListTagsForResource", {"ResourceType": "Parameter", "ResourceId": name}))["TagList"]
    return {"Description": "", **described, **value, "Tags": {tag["Key"]: tag["Value"] for tag in tags}}


def _list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


_GROUP_PROPERTIES = (
    "GroupDescription", "GroupName", "VpcId", "SecurityGroupIngress", "SecurityGroupEgress", "Tags",
)  # fmt: skip
_RULE_PROPERTIES = (
    "GroupId", "IpProtocol", "FromPort", "ToPort", "CidrIp", "CidrIpv6", "Description",
    "SourceSecurityGroupId", "SourcePrefixListId", "DestinationSecurityGroupId", "DestinationPrefixListId",
)  # fmt: skip
_READERS: dict[str, tuple[Reader, tuple[str, ...]]] = {
    f"{_GROUP}Ingress": (_rule_reader(*_SIDES["Ingress"]), _RULE_PROPERTIES),
    f"{_GROUP}Egress": (_rule_reader(*_SIDES["Egress"]), _RULE_PROPERTIES),
    "AWS::IAM::Role": (
        _role,
        ("RoleName", "Path", "Description", "MaxSessionDuration", "AssumeRolePolicyDocument", "Tags"),
    ),
    "AWS::Logs::LogGroup": (_log_group, ("LogGroupName", "RetentionInDays", "LogGroupClass", "Tags")),
    "AWS::S3::Bucket": (_bucket, ("BucketName", "VersioningConfiguration")),
    "AWS::SecretsManager::Secret": (_secret, ("Name", "Description", "KmsKeyId", "Tags")),
    "AWS::SNS::Topic": (_topic, ("TopicName", "DisplayName", "Tags")),
    "AWS::SQS::Queue": (_queue, ("QueueName", *_QUEUE_NUMBERS, *_QUEUE_POLICIES, *_QUEUE_SWITCHES, "Tags")),
    "AWS::SSM::Parameter": (
        _parameter,
        ("Name", "Type", "Value", "Description", "AllowedPattern", "Tier", "DataType", "Tags"),
    ),
}
"""The reader of each resource type, and the properties that it reads."""


def register(registry: Registry, records: StackRecords) -> None:
    """Detect the drift of MiniStack's types. The rules of a group are compared with its stack's other resources."""
    registry.detect_drift(_GROUP, partial(_group, records), _GROUP_PROPERTIES)
    for type_name, (reader, properties) in _READERS.items():
        registry.detect_drift(type_name, reader, properties)
