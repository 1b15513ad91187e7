"""Repositories, secrets, database and cache."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from lib.config.environments import STAGING, Environment

RESOLVED_PASSWORD = {
    "Fn::Join": [
        "",
        [
            "{{resolve:secretsmanager:",
            {"Fn::ImportValue": "alva-staging-secrets:ExportsOutputRefDatabase8534DE71"},
            ":SecretString:password}}",
        ],
    ]
}


def test_each_service_has_a_repository_with_immutable_tags_and_scans(staging: Any) -> None:
    repositories = {
        each.properties["RepositoryName"]: each for each in staging.resources("registry", "ECR::Repository")
    }
    assert sorted(repositories) == ["alva-admin", "alva-api", "alva-auth", "alva-web"]
    for repository in repositories.values():
        assert repository.properties["ImageTagMutability"] == "IMMUTABLE"
        assert repository.properties["ImageScanningConfiguration"] == {"ScanOnPush": True}
        assert repository.definition["DeletionPolicy"] == "Retain"


def test_lifecycle_deletes_untagged_images_after_a_day_and_keeps_thirty(staging: Any) -> None:
    repository = staging.one("registry", "ECR::Repository", RepositoryName="alva-api")
    rules = {
        rule["selection"]["tagStatus"]: (rule["rulePriority"], rule["selection"])
        for rule in json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    }
    assert (
        rules["untagged"][1] | {"countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1}
        == (rules["untagged"][1])
    )
    assert rules["any"][1]["countNumber"] == 30
    assert rules["any"][0] == max(priority for priority, _ in rules.values()), "ECR demands it"


def test_released_images_do_not_expire_because_of_unreleased_builds(staging: Any) -> None:
    repository = staging.one("registry", "ECR::Repository", RepositoryName="alva-api")
    first, *_ = sorted(
        json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"], key=lambda rule: rule["rulePriority"]
    )
    assert first["selection"]["tagPrefixList"] == ["released-"]
    assert first["selection"]["countNumber"] == 30

    images = [["built"] for _ in range(100)]
    images[0] += ["released-1", "released-102"]  # Pushed first and released again, so it is in use.
    kept = retained_by(repository, images)
    assert kept == [0, *range(70, 100)]
    images = [["built", f"released-{number}"] for number in range(40)] + [["built"]] * 40
    kept = retained_by(repository, images)
    assert kept == [*range(10, 40), *range(50, 80)], "the last 30 releases, and the last 30 builds that never ran"


def retained_by(repository: Any, images: list[list[str]]) -> list[int]:
    """The images that the policy keeps, of these with their tags, in the order in which they were pushed.

    AWS: "An image that matches the tagging requirements of a rule cannot be expired by a rule with a lower priority",
    and a count keeps the images that were pushed last.
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
    """
    rules = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    left, expired = list(range(len(images))), set()
    for rule in sorted(rules, key=lambda rule: rule["rulePriority"]):
        wanted = rule["selection"]
        matching = [
            index
            for index in left
            if wanted["tagStatus"] == "any"
            or (wanted["tagStatus"] == "untagged" and not images[index])
            or any(tag.startswith(tuple(wanted.get("tagPrefixList", ()))) for tag in images[index])
        ]
        left = [index for index in left if index not in matching]
        if wanted["countType"] == "imageCountMoreThan":
            expired |= set(matching[: -wanted["countNumber"]])
    return [index for index in range(len(images)) if index not in expired]


def test_secrets_are_exactly_the_seven(staging: Any) -> None:
    names = sorted(each.properties["Name"] for each in staging.resources("secrets", "SecretsManager::Secret"))
    assert names == [
        "alva-staging-cookie-secret",
        "alva-staging-database",
        "alva-staging-jwt-private-key",
        "alva-staging-jwt-public-key",
        "alva-staging-jwt-secret",
        "alva-staging-openai-api-key",
        "alva-staging-resend-api-key",
    ]
    others = [each for each in staging.all_resources() if each.type == "AWS::SecretsManager::Secret"]
    assert len(others) == 7


def test_only_the_database_secret_is_generated_and_the_others_are_recognisably_unset(staging: Any) -> None:
    for each in staging.resources("secrets", "SecretsManager::Secret"):
        if each.properties["Name"] == "alva-staging-database":
            assert "SecretString" not in each.properties
        else:
            assert each.properties["SecretString"] == "alva:unset"
            assert "GenerateSecretString" not in each.properties


def test_secrets_survive_the_stack(staging: Any) -> None:
    for each in staging.resources("secrets", "SecretsManager::Secret"):
        assert each.definition["DeletionPolicy"] == "Retain"
        assert each.definition["UpdateReplacePolicy"] == "Retain"


def test_generated_password_is_valid_for_the_database_the_cache_and_a_url(staging: Any) -> None:
    generated = staging.one("secrets", "SecretsManager::Secret", Name="alva-staging-database")["GenerateSecretString"]
    assert json.loads(generated["SecretStringTemplate"]) == {"username": "alva_admin"}
    assert generated["GenerateStringKey"] == "password"
    # Letters and digits only; RDS takes 8 to 128 characters, an AUTH token has 16 to 128.
    assert generated["ExcludePunctuation"] is True
    assert generated.get("IncludeSpace") in (None, False)
    assert 16 <= generated["PasswordLength"] <= 128


def test_every_secret_is_read_by_a_service_or_the_migration(staging: Any) -> None:
    used = {secret["name"]: secret["used_by"] for secret in staging.manifest["secrets"]}
    assert all(used.values()), used
    templates = staging.template_file("services").read_text() + staging.template_file("ecs").read_text()
    for logical_id in staging.template("secrets")["Resources"]:
        assert re.search(rf"alva-staging-secrets:ExportsOutputRef{logical_id}[0-9A-F]{{8}}", templates), logical_id


def test_database_has_the_expected_settings(staging: Any) -> None:
    (instance,) = staging.resources("database", "RDS::DBInstance")
    expected = {
        "Engine": "postgres",
        "EngineVersion": "16",
        "DBInstanceClass": "db.t3.micro",
        "AllocatedStorage": "20",
        "StorageType": "gp2",
        "StorageEncrypted": True,
        "MultiAZ": False,
        "PubliclyAccessible": False,
        "BackupRetentionPeriod": 7,
        "DBName": "alva",
        "MasterUsername": "alva_admin",
        "Port": "5432",
        "DeletionProtection": False,
        "EnableCloudwatchLogsExports": ["postgresql", "upgrade"],
        "CopyTagsToSnapshot": True,
        "AutoMinorVersionUpgrade": True,
    }
    assert {name: instance.properties[name] for name in expected} == expected
    assert instance.properties["MasterUserPassword"] == RESOLVED_PASSWORD
    assert instance.definition["DeletionPolicy"] == "Snapshot"
    assert instance.definition["UpdateReplacePolicy"] == "Snapshot"


def test_database_from_a_snapshot_sets_no_property_of_the_snapshot(
    synthesise: Callable[[Environment], Any],
) -> None:
    restored = synthesise(STAGING.with_settings(database__snapshot="before-the-risk"))
    properties = restored.one("database", "RDS::DBInstance")
    assert properties["DBSnapshotIdentifier"] == "before-the-risk"
    assert not {"DBName", "MasterUsername", "StorageEncrypted"} & set(properties)
    assert properties["MasterUserPassword"] == RESOLVED_PASSWORD


def test_database_refuses_connections_without_tls(staging: Any) -> None:
    group = staging.one("database", "RDS::DBParameterGroup")
    assert group["Family"] == "postgres16"
    assert group["Parameters"]["rds.force_ssl"] == "1"
    assert staging.one("database", "RDS::DBInstance")["DBParameterGroupName"] == {"Ref": "ParameterGroup"}


def test_database_log_groups_are_created_with_retention_before_the_database(staging: Any) -> None:
    groups = {each.logical_id: each.properties for each in staging.resources("database", "Logs::LogGroup")}
    assert sorted(each["LogGroupName"] for each in groups.values()) == [
        "/aws/rds/instance/alva-staging-database/postgresql",
        "/aws/rds/instance/alva-staging-database/upgrade",
    ]
    (instance,) = staging.resources("database", "RDS::DBInstance")
    assert set(groups) <= set(instance.definition["DependsOn"])


def test_secret_gets_the_databases_address(staging: Any) -> None:
    attachment = staging.one("database", "SecretsManager::SecretTargetAttachment")
    assert attachment["TargetId"] == {"Ref": "Instance"}
    assert attachment["TargetType"] == "AWS::RDS::DBInstance"


def test_cache_has_the_expected_settings(staging: Any) -> None:
    group = staging.one("cache", "ElastiCache::ReplicationGroup")
    expected = {
        "Engine": "redis",
        "EngineVersion": "7.1",
        "CacheNodeType": "cache.t3.micro",
        "NumCacheClusters": 1,
        "AutomaticFailoverEnabled": False,
        "MultiAZEnabled": False,
        "TransitEncryptionEnabled": True,
        "TransitEncryptionMode": "required",
        "AtRestEncryptionEnabled": True,
        "Port": 6379,
        "SnapshotRetentionLimit": 0,
    }
    assert {name: group[name] for name in expected} == expected
    assert group["AuthToken"] == RESOLVED_PASSWORD


def test_cache_never_evicts_a_job(staging: Any) -> None:
    group = staging.one("cache", "ElastiCache::ParameterGroup")
    assert group["CacheParameterGroupFamily"] == "redis7"
    assert group["Properties"] == {"maxmemory-policy": "noeviction"}
    assert staging.one("cache", "ElastiCache::ReplicationGroup")["CacheParameterGroupName"] == {"Ref": "ParameterGroup"}


@pytest.mark.parametrize(
    ("part", "resource_type"), [("database", "RDS::DBSubnetGroup"), ("cache", "ElastiCache::SubnetGroup")]
)
def test_data_stores_are_in_the_private_subnets(staging: Any, part: str, resource_type: str) -> None:
    subnets = json.dumps(staging.one(part, resource_type)["SubnetIds"])
    assert subnets.count("PrivateSubnet") == 2
    assert "PublicSubnet" not in subnets


def test_cache_snapshots_are_a_setting(synthesise: Callable[..., Any]) -> None:
    kept = synthesise(STAGING.with_settings(cache__snapshot_retention_days=3))
    (group,) = kept.resources("cache", "ElastiCache::ReplicationGroup")
    assert group.properties["SnapshotRetentionLimit"] == 3
    assert group.definition["DeletionPolicy"] == "Snapshot"
