"""The resources that are deleted, and those that are retained, when an environment is destroyed. No calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alva.aws import Aws
from alva.errors import PreflightRefused
from alva.release.adoption import import_template, retained_secrets
from alva.release.manifest import Manifest
from alva.release.stack_state import ObservedStack
from alva.release.teardown import Teardown, plan_teardown, take_down

from .conftest import manifest_values

MANIFEST = Manifest.from_values(manifest_values("t"), Path())

RESOURCES: dict[str, dict[str, Any]] = {
    "t-registry": {"Repository": {"Type": "AWS::ECR::Repository", "DeletionPolicy": "Retain"}},
    "t-secrets": {
        "Key": {"Type": "AWS::SecretsManager::Secret", "DeletionPolicy": "Retain", "Properties": {"Name": "t-key"}},
        "Dynamic": {
            "Type": "AWS::SecretsManager::Secret",
            "DeletionPolicy": "Retain",
            "Properties": {"Name": {"Fn::Sub": "${AWS::StackName}-key"}},
        },
        "Loose": {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": "t-loose"}},
    },
    "t-database": {"Instance": {"Type": "AWS::RDS::DBInstance", "DeletionPolicy": "Snapshot"}},
    "t-alb": {
        "Logs": {"Type": "AWS::S3::Bucket"},
        "Never": {"Type": "AWS::S3::Bucket"},
        "LoadBalancer": {"Type": "AWS::ElasticLoadBalancingV2::LoadBalancer", "Properties": {}},
    },
}


def planned(**changes: dict[str, Any]) -> Teardown:
    resources = {**RESOURCES, **changes}
    stacks: dict[str, ObservedStack | None] = {
        stack.name: ObservedStack(
            name=stack.name, status="CREATE_COMPLETE", template={"Resources": resources.get(stack.name, {})}
        )
        for stack in MANIFEST.stacks
    }
    stacks["t-monitoring"] = None
    ids = {
        stack: {logical_id: f"{stack}/{logical_id}" for logical_id in each if logical_id != "Never"}
        for stack, each in resources.items()
    }
    return plan_teardown(MANIFEST, stacks, ids)


def test_stack_is_deleted_after_those_that_use_it() -> None:
    waves = planned().waves
    place = {name: number for number, wave in enumerate(waves) for name in wave}
    for stack in MANIFEST.stacks:
        for other in stack.depends_on:
            if stack.name in place:
                assert place[stack.name] < place[other]
    assert waves[0] == ("t-services",)
    assert "t-monitoring" not in place  # it does not exist


def test_retained_resources_stay_and_a_deleted_database_leaves_a_snapshot() -> None:
    teardown = planned()
    assert [r.name for r in teardown.stays if r not in teardown.goes] == [
        "t-registry/Repository",
        "t-secrets/Key",
        "t-secrets/Dynamic",
    ]
    assert [r.name for r in teardown.stays if r in teardown.goes] == ["t-database/Instance"]


def test_only_existing_buckets_to_delete_are_emptied() -> None:
    assert [bucket.name for bucket in planned().buckets] == ["t-alb/Logs"]


@pytest.mark.parametrize(
    "properties",
    [
        {"DeletionProtection": True},
        {"LoadBalancerAttributes": [{"Key": "deletion_protection.enabled", "Value": "true"}]},
    ],
)
def test_protection_refuses_before_anything_is_touched(properties: dict[str, Any], aws: Aws) -> None:
    teardown = planned(**{"t-alb": {"Lb": {"Type": "AWS::X::Y", "Properties": properties}}})
    with pytest.raises(PreflightRefused, match="nothing was changed") as caught:
        take_down(aws, teardown, lambda _stack, _text: None)
    assert caught.value.evidence == ("X::Y t-alb/Lb",)


def test_secrets_are_adopted_where_the_template_names_and_keeps_them() -> None:
    assert retained_secrets({"Resources": RESOURCES["t-secrets"]}) == {"Key": "t-key"}


def test_import_contains_only_the_imported_resources() -> None:
    template = {"Description": "x", "Resources": RESOURCES["t-secrets"], "Outputs": {"Arn": {"Value": "y"}}}
    assert import_template(template, frozenset({"Key"})) == {
        "Description": "x",
        "Resources": {"Key": RESOURCES["t-secrets"]["Key"]},
    }
