"""Deletes an environment: decides from the deployed templates what is deleted and what stays.

What a template retains (images, secrets, a final snapshot of the database) stays, and the next release imports it;
`forget` deletes it, kind by kind.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from alva.aws import Aws, error_code, explained, pages
from alva.errors import PreflightRefused
from alva.release.manifest import Manifest
from alva.release.stack_state import ObservedStack
from alva.release.stacks import Stacks

Line = Callable[[str], None]

KEEPING = ("Retain", "RetainExceptOnCreate")


class Kind(enum.Enum):
    """A kind of retained resource."""

    IMAGES = "images"
    SECRETS = "secrets"
    SNAPSHOTS = "snapshots"
    LOGS = "logs"
    OTHER = "other"


KIND_OF_TYPE = {
    "AWS::ECR::Repository": Kind.IMAGES,
    "AWS::SecretsManager::Secret": Kind.SECRETS,
    "AWS::RDS::DBInstance": Kind.SNAPSHOTS,
    "AWS::ElastiCache::ReplicationGroup": Kind.SNAPSHOTS,
    "AWS::Logs::LogGroup": Kind.LOGS,
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource of a deployed stack."""

    stack: str
    type: str
    name: str
    """Its physical id."""

    def __str__(self) -> str:
        return f"{self.type.removeprefix('AWS::')} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Teardown:
    """The plan of a deletion."""

    waves: tuple[tuple[str, ...], ...]
    """The stacks to delete, in waves: a stack is deleted after those that use it."""
    goes: tuple[Resource, ...]
    stays: tuple[Resource, ...]
    buckets: tuple[Resource, ...]
    """The buckets to empty first: CloudFormation deletes only empty ones."""
    protected: tuple[str, ...]
    """Resources with deletion protection, as text: if there are any, nothing is deleted."""


def plan_teardown(
    manifest: Manifest,
    stacks: Mapping[str, ObservedStack | None],
    physical_ids: Mapping[str, Mapping[str, str]],
) -> Teardown:
    """Plan the deletion from the deployed templates; `physical_ids` are stack -> logical id -> physical id."""
    goes: list[Resource] = []
    stays: list[Resource] = []
    buckets: list[Resource] = []
    protected: list[str] = []
    there = [stack for stack in manifest.stacks if stacks.get(stack.name) is not None]
    for stack in there:
        observed = stacks[stack.name]
        assert observed is not None  # noqa: S101
        for logical_id, body in observed.template.get("Resources", {}).items():
            physical_id = physical_ids.get(stack.name, {}).get(logical_id)
            if physical_id is None:  # it was never created
                continue
            resource = Resource(stack=stack.name, type=body["Type"], name=physical_id)
            policy = body.get("DeletionPolicy", "Delete")
            if policy in KEEPING:
                stays.append(resource)
                continue
            goes.append(resource)
            if policy == "Snapshot":
                stays.append(resource)
            if resource.type == "AWS::S3::Bucket":
                buckets.append(resource)
            if _is_protected(body.get("Properties", {})):
                protected.append(str(resource))
    remaining = {stack.name: set(stack.depends_on) for stack in there}
    waves: list[tuple[str, ...]] = []
    while remaining:
        used = {other for depends_on in remaining.values() for other in depends_on}
        wave = tuple(name for name in remaining if name not in used)
        waves.append(wave)
        for name in wave:
            del remaining[name]
    return Teardown(
        waves=tuple(waves),
        goes=tuple(goes),
        stays=tuple(stays),
        buckets=tuple(buckets),
        protected=tuple(protected),
    )


def _is_protected(properties: Mapping[str, Any]) -> bool:
    if properties.get("DeletionProtection") in (True, "true"):
        return True
    return any(
        attribute.get("Key") == "deletion_protection.enabled" and str(attribute.get("Value")).lower() == "true"
        for attribute in properties.get("LoadBalancerAttributes", [])
        if isinstance(attribute, Mapping)
    )


def read_teardown(aws: Aws, manifest: Manifest) -> Teardown:
    """Read the deployed stacks and plan the deletion. Changes nothing."""
    stacks = Stacks(aws)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="teardown") as pool:
        names = [stack.name for stack in manifest.stacks]
        observed = dict(zip(names, pool.map(stacks.observe, names), strict=True))
        present = [name for name, stack in observed.items() if stack is not None]
        ids = dict(zip(present, pool.map(lambda name: _physical_ids(aws, name), present), strict=True))
    return plan_teardown(manifest, observed, ids)


def _physical_ids(aws: Aws, stack: str) -> dict[str, str]:
    with explained(f"list the resources of stack {stack}"):
        return {
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for each in pages(aws.cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=stack)
            if each.get("PhysicalResourceId") and each["ResourceStatus"] != "DELETE_COMPLETE"
        }


def take_down(aws: Aws, teardown: Teardown, line: Callable[[str, str], None]) -> None:
    """Delete all stacks, wave by wave; `line` receives the stack and its events.

    Raises PreflightRefused before the first change if a resource is protected, StackFailed with the remaining
    resources.
    """
    if teardown.protected:
        raise PreflightRefused(
            "cannot destroy: deletion protection is on; nothing was changed",
            evidence=list(teardown.protected),
            next_step="switch the setting off, run ./alva deploy, then ./alva destroy again",
        )
    stacks = Stacks(aws)
    for wave in teardown.waves:
        for bucket in teardown.buckets:
            if bucket.stack in wave:
                line(bucket.stack, f"emptying bucket {bucket.name}")
                empty_bucket(aws, bucket.name)
        with ThreadPoolExecutor(max_workers=len(wave), thread_name_prefix="delete") as pool:

            def delete(name: str) -> None:
                stacks.delete(name, lambda text: line(name, text))
                line(name, "is gone")

            for future in [pool.submit(delete, name) for name in wave]:
                future.result()


def empty_bucket(aws: Aws, bucket: str) -> None:
    """Delete all versions of all objects; raises PreflightRefused with one that cannot be deleted."""
    with explained(f"empty bucket {bucket}"):
        for page in aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if versions:
                answer = aws.s3.delete_objects(
                    Bucket=bucket,
                    Delete={
                        "Objects": [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in versions],
                        "Quiet": True,
                    },
                )
                for error in answer.get("Errors", []):
                    raise PreflightRefused(
                        f"cannot empty bucket {bucket}", evidence=[f"{error.get('Key')}: {error.get('Message')}"]
                    )


def forget(aws: Aws, kept: Sequence[Resource], kinds: frozenset[Kind], line: Line) -> None:
    """Permanently delete the retained resources of the given kinds, without a recovery window or a final image."""
    for resource in kept:
        kind = KIND_OF_TYPE.get(resource.type, Kind.OTHER)
        if kind not in kinds:
            continue
        with explained(f"delete {resource}"):
            try:
                _delete(aws, resource, kind, line)
            except Exception as error:
                if not error_code(error).endswith(("NotFoundException", "NotFound", "NotFoundFault")):
                    raise


def _delete(aws: Aws, resource: Resource, kind: Kind, line: Line) -> None:
    if kind is Kind.IMAGES:
        aws.ecr.delete_repository(repositoryName=resource.name, force=True)
    elif kind is Kind.SECRETS:
        # With a recovery window, the name would stay taken for days, and the next release could not create the secret.
        aws.secretsmanager.delete_secret(SecretId=resource.name, ForceDeleteWithoutRecovery=True)
    elif kind is Kind.LOGS:
        aws.logs.delete_log_group(logGroupName=resource.name)
    elif resource.type == "AWS::RDS::DBInstance":
        for snapshot in snapshots_of(aws, resource.name):
            aws.client("rds").delete_db_snapshot(DBSnapshotIdentifier=snapshot)
            line(f"deleted snapshot {snapshot}")
        return
    else:
        line(f"{resource} must be deleted by hand")
        return
    line(f"deleted {resource}")


def snapshots_of(aws: Aws, instance: str) -> list[str]:
    """Return the manual snapshots of a DB instance, oldest first."""
    with explained(f"look for snapshots of {instance}"):
        found = list(
            pages(
                aws.client("rds"),
                "describe_db_snapshots",
                "DBSnapshots",
                DBInstanceIdentifier=instance,
                SnapshotType="manual",
            )
        )
    return [
        each["DBSnapshotIdentifier"]
        for each in sorted(found, key=lambda each: str(each.get("SnapshotCreateTime", "")))
        if each["DBInstanceIdentifier"] == instance
    ]
