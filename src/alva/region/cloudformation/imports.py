"""Finds existing resources: a stack can import them, and creating them fails.

A secret's identifier is its ARN, which a template cannot contain: an IMPORT change set that names it can import it,
`ImportExistingResources` cannot (as on AWS: cloudformation-coverage-roadmap issue 2375).
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ministack.core.responses import get_account_id, get_region

from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.registry import Properties, Provisioned
from alva.region.control_plane import Json

# How messages quote a service's SDK.
_BY_SDK = "(Service: {}, Status Code: 404, Request ID: {{request_id}}) (SDK Attempt Count: 1)"


@dataclass(frozen=True)
class Existing:
    """How the resources of a type are found.

    `find` gets the identifier's value. It returns the same as `create`. Where there is no such resource, it returns
    None or raises HandlerFailed with the code NotFound.
    """

    identifier: str
    find: Callable[[str], Provisioned | Awaitable[Provisioned | None] | None]
    missing: str = "Resource of type '{type}' with identifier '{value}' was not found."
    """AWS's message for a missing resource."""


async def _alarm(name: str) -> Provisioned | None:
    alarms = (await call("monitoring", "DescribeAlarms", {"AlarmNames": [name]}))["MetricAlarms"]
    return (name, {"Arn": alarms[0]["AlarmArn"]}) if alarms else None


async def _repository(name: str) -> Provisioned:
    (found,) = (await call("ecr", "DescribeRepositories", {"repositoryNames": [name]}))["repositories"]
    return name, {"Arn": found["repositoryArn"], "RepositoryUri": found["repositoryUri"]}


async def _cache(name: str) -> Provisioned:
    answer = await call("elasticache", "DescribeReplicationGroups", {"ReplicationGroupId": name})
    (node,) = answer["ReplicationGroups"][0]["NodeGroups"]
    replicas = [each["ReadEndpoint"] for each in node["NodeGroupMembers"] if each.get("CurrentRole") == "replica"]
    return name, {
        **_endpoint("PrimaryEndPoint", node["PrimaryEndpoint"]),
        **_endpoint("ReaderEndPoint", node["ReaderEndpoint"]),
        "ReadEndPoint.Addresses": ",".join(each["Address"] for each in replicas),
        "ReadEndPoint.Ports": ",".join(str(each["Port"]) for each in replicas),
    }


async def _database(name: str) -> Provisioned:
    (found,) = (await call("rds", "DescribeDBInstances", {"DBInstanceIdentifier": name}))["DBInstances"]
    return name, {
        **_endpoint("Endpoint", found["Endpoint"]),
        "Endpoint.HostedZoneId": found["Endpoint"]["HostedZoneId"],
        "DbiResourceId": found["DbiResourceId"],
        "DBInstanceArn": found["DBInstanceArn"],
    }


def _endpoint(name: str, endpoint: Json) -> dict[str, str]:
    return {f"{name}.Address": endpoint["Address"], f"{name}.Port": str(endpoint["Port"])}


async def _secret(arn: str) -> Provisioned | None:
    if not arn.startswith("arn:"):
        return None
    found = await call("secretsmanager", "DescribeSecret", {"SecretId": arn})
    return None if found.get("DeletedDate") else (found["ARN"], {"Id": found["ARN"]})


async def _log_group(name: str) -> Provisioned | None:
    answer = await call("logs", "DescribeLogGroups", {"logGroupNamePrefix": name})
    arns = [each["arn"] for each in answer["logGroups"] if each["logGroupName"] == name]
    return (name, {"Arn": arns[0]}) if arns else None


async def _parameter(name: str) -> Provisioned:
    found = (await call("ssm", "GetParameter", {"Name": name}))["Parameter"]
    return name, {"Arn": found["ARN"], "Type": found["Type"], "Value": found["Value"]}


async def _role(name: str) -> Provisioned:
    found = (await call("iam", "GetRole", {"RoleName": name}))["Role"]
    return name, {"Arn": found["Arn"], "RoleId": found["RoleId"]}


async def _topic(arn: str) -> Provisioned:
    await call("sns", "GetTopicAttributes", {"TopicArn": arn})
    return arn, {"TopicArn": arn, "TopicName": arn.rpartition(":")[2]}


async def _queue(url: str) -> Provisioned:
    answer = await call("sqs", "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["QueueArn"]})
    arn = answer["Attributes"]["QueueArn"]
    return url, {"Arn": arn, "QueueName": arn.rpartition(":")[2], "QueueUrl": url}


async def _bucket(name: str) -> Provisioned:
    await call("s3", "HeadBucket", {"Bucket": name})
    return name, {
        "Arn": f"arn:aws:s3:::{name}",
        "DomainName": f"{name}.s3.amazonaws.com",
        "RegionalDomainName": f"{name}.s3.{get_region()}.amazonaws.com",
        "WebsiteURL": f"http://{name}.s3-website-{get_region()}.amazonaws.com",
    }


IMPORTABLE: dict[str, Existing] = {
    "AWS::CloudWatch::Alarm": Existing("AlarmName", _alarm),
    "AWS::ECR::Repository": Existing("RepositoryName", _repository),
    "AWS::ElastiCache::ReplicationGroup": Existing("ReplicationGroupId", _cache),
    "AWS::IAM::Role": Existing(
        "RoleName", _role, f"The role with name {{value}} cannot be found. {_BY_SDK.format('Iam')}"
    ),
    "AWS::Logs::LogGroup": Existing(
        "LogGroupName",
        _log_group,
        "Resource of type '{type}' with identifier '{{\"/properties/LogGroupName\":\"{value}\"}}' was not found.",
    ),
    "AWS::RDS::DBInstance": Existing("DBInstanceIdentifier", _database),
    "AWS::S3::Bucket": Existing("BucketName", _bucket, "Bucket not found"),
    "AWS::SNS::Topic": Existing("TopicArn", _topic, f"Topic does not exist {_BY_SDK.format('Sns')}"),
    "AWS::SQS::Queue": Existing("QueueUrl", _queue),
    "AWS::SSM::Parameter": Existing("Name", _parameter),
    "AWS::SecretsManager::Secret": Existing("Id", _secret),
}


async def _policy_of_name(name: str) -> Provisioned | None:
    policies = (await call("iam", "ListPolicies", {"Scope": "Local"}))["Policies"]
    return next(((each["Arn"], {}) for each in policies if each["PolicyName"] == name), None)


async def _topic_of_name(name: str) -> Provisioned:
    return await _topic(f"arn:aws:sns:{get_region()}:{get_account_id()}:{name}")


async def _rule_of_name(name: str) -> Provisioned:
    return name, {"Arn": (await call("events", "DescribeRule", {"Name": name}))["Arn"]}


async def _queue_of_name(name: str) -> Provisioned:
    return await _queue((await call("sqs", "GetQueueUrl", {"QueueName": name}))["QueueUrl"])


# How the resources of types are found by their name, where that is not the identifier.
_NAMED = {
    "AWS::Events::Rule": Existing("Name", _rule_of_name),
    "AWS::IAM::ManagedPolicy": Existing("ManagedPolicyName", _policy_of_name),
    "AWS::SNS::Topic": Existing("TopicName", _topic_of_name),
    "AWS::SQS::Queue": Existing("QueueName", _queue_of_name),
}


def identifier(type_name: str) -> str | None:
    """The property that identifies a resource of this type; None where the region does not honour the import."""
    return IMPORTABLE[type_name].identifier if type_name in IMPORTABLE else None


async def adopt(type_name: str, value: str) -> Provisioned:
    """The physical id and the attributes of an existing resource. Raises HandlerFailed if it cannot be read."""
    found = await _found(IMPORTABLE[type_name], value)
    if found is None:
        raise HandlerFailed(_missing(type_name, value), "NotFound")
    return found


async def exists(type_name: str, value: str) -> bool:
    """Whether there is a resource to import. Raises HandlerFailed if that cannot be read."""
    return await _found(IMPORTABLE[type_name], value) is not None


async def problem_of(type_name: str, value: str) -> str | None:
    """The message if the resource cannot be imported, otherwise None. None, too, where the type is unknown."""
    try:
        is_fit = type_name not in IMPORTABLE or await exists(type_name, value)
    except HandlerFailed as error:
        return str(error)
    return None if is_fit else _missing(type_name, value)


async def refuse_existing(type_name: str, properties: Properties) -> None:
    """Raise HandlerFailed if a resource of this name exists already, or if that cannot be read."""
    existing = _NAMED.get(type_name) or IMPORTABLE.get(type_name)
    name = properties.get(existing.identifier) if existing else None
    if existing and name and await _found(existing, str(name)):
        raise HandlerFailed(f"Resource of type '{type_name}' with identifier '{name}' already exists.", "AlreadyExists")


async def _found(existing: Existing, value: str) -> Provisioned | None:
    try:
        found = existing.find(value)
        return await found if inspect.isawaitable(found) else found
    except HandlerFailed as error:
        if error.code == "NotFound":
            return None
        raise


def _missing(type_name: str, value: str) -> str:
    return IMPORTABLE[type_name].missing.format(type=type_name, value=value, request_id=uuid.uuid4())
