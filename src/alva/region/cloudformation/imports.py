"""Defines which existing resources a stack can import. Creating a resource that exists already fails.

MiniStack looks up a dozen types by their primary identifiers; this adds those that the environment retains. A secret's
identifier is its ARN, which a template cannot contain: an IMPORT change set that names it can import it,
`ImportExistingResources` cannot (as on AWS: cloudformation-coverage-roadmap issue 2375).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch, ecr, elasticache, eventbridge, iam, rds, secretsmanager, sns
from ministack.services.cloudformation import changesets, provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Properties, Provisioned


@dataclass(frozen=True)
class Existing:
    """How the resources of a type are found. `find` returns the same as `create`, or None."""

    identifier: str
    find: Callable[[str], Provisioned | None]


def _repository(name: str) -> Provisioned | None:
    found = ecr._repositories.get(name)
    return (name, {"Arn": found["repositoryArn"], "RepositoryUri": found["repositoryUri"]}) if found else None


def _secret(arn: str) -> Provisioned | None:
    _, found = secretsmanager._resolve(arn) if arn.startswith("arn:") else (None, None)
    return (found["ARN"], {"Id": found["ARN"]}) if found and not found.get("DeletedDate") else None


def _database(name: str) -> Provisioned | None:
    found = rds._instances.get(name)
    return (name, provisioners._rds_db_instance_attrs(found)) if found else None


def _cache(name: str) -> Provisioned | None:
    return (name, provisioners._ec_rg_attrs(name)) if name in elasticache._replication_groups else None


def _alarm(name: str) -> Provisioned | None:
    found = cloudwatch._alarms.get(name)
    return (name, {"Arn": found["AlarmArn"]}) if found else None


IMPORTABLE = {
    "AWS::CloudWatch::Alarm": Existing("AlarmName", _alarm),
    "AWS::ECR::Repository": Existing("RepositoryName", _repository),
    "AWS::ElastiCache::ReplicationGroup": Existing("ReplicationGroupId", _cache),
    "AWS::RDS::DBInstance": Existing("DBInstanceIdentifier", _database),
    "AWS::SecretsManager::Secret": Existing("Id", _secret),
}

# Types whose identifier is not their name, with a function that finds a resource by its name.
_NAMES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "AWS::IAM::ManagedPolicy": (
        "ManagedPolicyName", lambda name: any(each["PolicyName"] == name for each in iam._policies.values())
    ),
    "AWS::SNS::Topic": (
        "TopicName", lambda name: f"arn:aws:sns:{get_region()}:{get_account_id()}:{name}" in sns._topics
    ),
    "AWS::Events::Rule": (
        "Name", lambda name: any(each.get("Name") == name for each in eventbridge._rules.values())
    ),
}  # fmt: skip


def install() -> None:
    """Make the types above available to imports."""
    for type_name, existing in IMPORTABLE.items():
        changesets._IMPORT_LOOKUPS[type_name] = ((existing.identifier,), _problem(type_name, existing))


def is_offered(type_name: str) -> bool:
    """Whether a stack can import resources of this type."""
    return "import" in provisioners._RESOURCE_HANDLERS.get(type_name, {})


def identifier_keys(type_name: str) -> tuple[str, ...]:
    """The properties that identify a resource of this type; the last is its physical id. None where it is unknown."""
    keys: tuple[str, ...] = changesets._IMPORT_LOOKUPS.get(type_name, ((), None))[0]
    return keys


def problem_of(type_name: str, identifier: dict[str, str]) -> str | None:
    """AWS's message if there is no resource to import, otherwise None."""
    keys, problem = changesets._IMPORT_LOOKUPS.get(type_name, ((), None))
    if problem is None:
        return None
    reason: str | None = problem(*(identifier[key] for key in keys))
    return reason


def adopt(type_name: str, identifier: dict[str, str]) -> Provisioned:
    """The physical id and the attributes of an existing resource. Raises HandlerFailed where there is none."""
    reason = problem_of(type_name, identifier)
    if reason is not None:
        raise HandlerFailed(reason, "NotFound")
    physical_id, attributes = provisioners._import_resource(type_name, identifier)
    return physical_id, attributes


def import_handler(type_name: str) -> Callable[[dict[str, str]], Provisioned] | None:
    """The handler that MiniStack calls to import a resource of one of the types above."""
    existing = IMPORTABLE.get(type_name)
    if existing is None:
        return None

    def adopt(identifier: dict[str, str]) -> Provisioned:
        found = existing.find(identifier[existing.identifier])
        if found is None:
            raise HandlerFailed(f"{type_name} {identifier[existing.identifier]} was not found", "NotFound")
        return found

    return adopt


def refuse_existing(type_name: str, properties: Properties) -> None:
    """Raise HandlerFailed if a resource of this name exists already."""
    name, is_taken = _name(type_name, properties)
    if name and is_taken(name):
        raise HandlerFailed(f"Resource of type '{type_name}' with identifier '{name}' already exists.", "AlreadyExists")


def _name(type_name: str, properties: Properties) -> tuple[str, Callable[[str], bool]]:
    if type_name in _NAMES:
        key, is_taken = _NAMES[type_name]
        return str(properties.get(key) or ""), is_taken
    keys, problem = changesets._IMPORT_LOOKUPS.get(type_name, ((), None))
    if len(keys) != 1 or problem is None:
        return "", lambda _: False
    return str(properties.get(keys[0]) or ""), lambda name: problem(name) is None


def _problem(type_name: str, existing: Existing) -> Callable[[str], str | None]:
    def problem(identifier: str) -> str | None:
        if existing.find(identifier) is not None:
            return None
        reason: str = changesets._IMPORT_NOT_FOUND.format(type=type_name, value=identifier)
        return reason

    return problem
