"""DATABASE_URL and REDIS_URL with their passwords: docs/decisions/credentials-beside-urls.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lib.config.environments import STAGING
from lib.config.secrets import DatabaseUrl, RedisUrl, SecretKey
from lib.config.services import SERVICES

from alva.release.rotation import pinned
from tests.infrastructure.test_template_rules import assembly_of, found

QUERY = "sslmode=verify-full&sslrootcert=/app/rds.pem"


@pytest.fixture(scope="module")
def whole(synthesise: Callable[..., Any]) -> Any:
    """Staging, in which api gets full URLs and auth gets URL and password separately."""
    api = replace(
        STAGING.service("api"),
        environment={},
        secrets={
            "DATABASE_URL": DatabaseUrl(query=QUERY),
            "REDIS_URL": RedisUrl(),
            "OPENAI_API_KEY": SecretKey(secret="openai-api-key"),
        },
    )
    return synthesise(replace(STAGING, services=tuple(api if each.name == "api" else each for each in SERVICES)))


def text(value: Any) -> str:
    """A property with its references in angle brackets."""
    if isinstance(value, dict):
        if "Fn::Join" in value:
            separator, parts = value["Fn::Join"]
            return str(separator).join(map(text, parts))
        return f"<{next(iter(value.values()))}>"
    return str(value)


def secret(synthesis: Any, stack: str) -> dict[str, Any]:
    (resource,) = synthesis.resources(stack, "SecretsManager::Secret")
    return resource.properties  # type: ignore[no-any-return]


def container(synthesis: Any, stack: str, name: str) -> dict[str, Any]:
    (only,) = [
        each
        for definition in synthesis.resources(stack, "ECS::TaskDefinition")
        for each in definition.properties["ContainerDefinitions"]
        if each["Name"] == name
    ]
    return only  # type: ignore[no-any-return]


def given(definition: dict[str, Any]) -> dict[str, str]:
    """Variable -> the end of its ValueFrom: a key of a secret."""
    return {each["Name"]: text(each["ValueFrom"]).partition(">")[2] for each in definition.get("Secrets", [])}


def test_full_urls_are_secrets_whose_password_cloudformation_inserts(whole: Any) -> None:
    database, redis = secret(whole, "database"), secret(whole, "cache")
    assert (database["Name"], redis["Name"]) == ("alva-staging-database-url", "alva-staging-redis-url")
    (key, url), *others = json.loads(text(database["SecretString"])).items()
    assert (key, others) == ("api_DATABASE_URL", [])
    assert url.startswith("postgresql://alva_admin:{{resolve:secretsmanager:<")
    assert ":SecretString:password}}@<" in url
    assert url.endswith(f"/alva?{QUERY}")
    (url,) = json.loads(text(redis["SecretString"])).values()
    assert url.startswith("rediss://:{{resolve:secretsmanager:<")
    assert url.endswith("/0")


def test_only_its_service_and_the_migration_may_read_a_url(whole: Any) -> None:
    wanted = {"DATABASE_URL": ":api_DATABASE_URL::", "REDIS_URL": ":api_REDIS_URL::", "OPENAI_API_KEY": ""}
    for name in ("api", "worker"):
        assert given(container(whole, "services", name)) == wanted
        assert not {"DATABASE_URL", "REDIS_URL"} & {
            each["Name"] for each in container(whole, "services", name)["Environment"]
        }
    migrations = container(whole, "ecs", "migrations")
    assert given(migrations) == {"DATABASE_URL": ":api_DATABASE_URL::"}
    assert "DATABASE_URL" not in {each["Name"] for each in migrations["Environment"]}
    assert given(container(whole, "services", "auth"))["PGPASSWORD"] == ":password::"
    readers = [
        role.logical_id
        for role in whole.resources("services", "IAM::Role")
        if "database:ExportsOutputRefUrls" in json.dumps(role.properties)
    ]
    assert [each.startswith("Api") for each in readers] == [True]


def test_rotation_changes_the_password_and_both_urls_and_restarts_their_services(whole: Any) -> None:
    for stack in ("database", "cache"):
        template = whole.template(stack)
        held = json.dumps(template).count(":SecretString:password}}")
        assert held == 2, "one of the engine, one of the URL"
        assert json.dumps(pinned(template, "v1")).count(":SecretString:password::v1}}") == held
    used_by = {each["name"]: each["used_by"] for each in whole.manifest["secrets"]}
    assert used_by["alva-staging-database"] == ["api", "auth"]
    assert used_by["alva-staging-database-url"] == used_by["alva-staging-redis-url"] == ["api"]


def test_template_rules_have_no_finding_about_full_urls(whole: Any, tmp_path: Path) -> None:
    assert found(assembly_of(whole), tmp_path) == {}


def test_url_secret_exists_only_for_a_service_that_needs_it(staging: Any) -> None:
    assert not [each for stack in ("database", "cache") for each in staging.resources(stack, "SecretsManager::Secret")]
