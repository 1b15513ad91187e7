"""Secrets: recognised when unset, generated where possible, never shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alva.aws import Aws
from alva.errors import PreflightRefused, UsageError
from alva.release.manifest import Manifest, Secret
from alva.release.secret_audit import SecretAudit
from alva.release.secrets import UNSET, Secrets, State


@pytest.fixture
def secrets(aws: Aws, manifest: Manifest) -> Secrets:
    """All secrets exist and hold the placeholder."""
    for secret in manifest.secrets:
        aws.secretsmanager.create_secret(Name=secret.name, SecretString=UNSET)
    return Secrets(aws, manifest)


def states(secrets: Secrets) -> list[State]:
    return [status.state for status in secrets.check()]


def value(aws: Aws, name: str) -> str:
    return aws.secretsmanager.get_secret_value(SecretId=name)["SecretString"]


def test_missing_secrets_are_distinguished_from_unset_ones(aws: Aws, manifest: Manifest) -> None:
    assert states(Secrets(aws, manifest)) == [State.MISSING] * 4


def test_placeholder_stops_a_release_and_every_secret_is_named(secrets: Secrets, manifest: Manifest) -> None:
    with pytest.raises(PreflightRefused) as caught:
        secrets.require()
    assert all(secret.name in str(caught.value) for secret in manifest.secrets)
    assert caught.value.exit_code == 3


def test_init_generates_secrets_and_leaves_external_keys_unset(secrets: Secrets, manifest: Manifest) -> None:
    made = secrets.initialise()
    assert f"{manifest.prefix}-openai-api-key" not in made
    assert states(secrets) == [State.SET, State.SET, State.SET, State.UNSET]
    secrets.assign("openai-api-key", "sk-given")
    secrets.require()


def test_init_twice_changes_nothing(aws: Aws, secrets: Secrets, manifest: Manifest) -> None:
    secrets.initialise({f"{manifest.prefix}-openai-api-key": "sk-standin"})
    before = [value(aws, secret.name) for secret in manifest.secrets]
    assert secrets.initialise({f"{manifest.prefix}-openai-api-key": "sk-other"}) == []
    assert [value(aws, secret.name) for secret in manifest.secrets] == before


def test_missing_public_key_is_derived_from_the_private_one(aws: Aws, secrets: Secrets, manifest: Manifest) -> None:
    secrets.initialise()
    private_key, public_key = (value(aws, secret.name) for secret in manifest.secrets[:2])
    aws.secretsmanager.put_secret_value(SecretId=manifest.secrets[1].name, SecretString=UNSET)
    secrets.initialise()
    assert value(aws, manifest.secrets[0].name) == private_key
    assert value(aws, manifest.secrets[1].name) == public_key


def test_keys_of_different_pairs_are_malformed(aws: Aws, secrets: Secrets, manifest: Manifest) -> None:
    secrets.initialise()
    first_public = value(aws, manifest.secrets[1].name)
    for secret in manifest.secrets[:2]:
        aws.secretsmanager.put_secret_value(SecretId=secret.name, SecretString=UNSET)
    secrets.initialise()
    aws.secretsmanager.put_secret_value(SecretId=manifest.secrets[1].name, SecretString=first_public)
    status = secrets.check()[1]
    assert status.state is State.MALFORMED
    assert "not the public half" in status.problem


@pytest.mark.parametrize(
    ("which", "bad"),
    [
        ("jwt-private-key", "no key"),
        ("jwt-public-key", "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----"),
        ("cookie-secret", "tiny"),
        ("openai-api-key", " sk-blank"),
        ("openai-api-key", UNSET),
    ],
)
def test_invalid_value_is_refused_and_not_shown(secrets: Secrets, which: str, bad: str) -> None:
    with pytest.raises(UsageError) as caught:
        secrets.assign(which, bad)
    assert bad not in str(caught.value)


def test_unknown_name_lists_those_that_exist(secrets: Secrets) -> None:
    with pytest.raises(UsageError, match="cookie-secret"):
        secrets.find("nonsense")


def test_audit_shows_secret_and_user_without_values(aws: Aws, secrets: Secrets, manifest: Manifest) -> None:
    audit = SecretAudit(aws, manifest)
    assert audit.history() == []
    secrets.assign("openai-api-key", "sk-first")
    secrets.assign("openai-api-key", "sk-second")
    history = audit.history()
    assert [entry.secret for entry in history] == [f"{manifest.prefix}-openai-api-key"] * 2
    assert history[0].at >= history[1].at
    assert history[0].by
    stored = aws.ssm.get_parameter_history(Name=audit.parameter_name)["Parameters"]
    assert not any("sk-" in version["Value"] for version in stored)


def test_unset_is_the_value_that_the_templates_write() -> None:
    # docs/reference/manifest.md: an unset secret has this value. The templates' side is in tests/infrastructure.
    assert UNSET == "alva:unset"


@pytest.mark.parametrize(
    ("urls", "state", "problem"),
    [
        ('{"api_DATABASE_URL": "postgresql://u:secret1@host:5432/alva?sslmode=require"}', State.SET, ""),
        (
            '{"a": "postgresql://u:secret1@h/alva", "b": "postgresql://u:old@h/alva"}',
            State.MALFORMED,
            "another password",
        ),
        ('{"a": "rediss://:old@h:6379/0"}', State.MALFORMED, "another password"),
        ('{"a": "postgresql://u@h/alva"}', State.MALFORMED, "without a password"),
        ("postgresql://u:secret1@h/alva", State.MALFORMED, "not a JSON object"),
        ("{}", State.MALFORMED, "without a password"),
    ],
    ids=["as generated", "one is old", "the token is old", "none", "no object", "empty"],
)
def test_url_must_contain_the_generated_password(
    aws: Aws, manifest: Manifest, urls: str, state: State, problem: str
) -> None:
    generated = Secret(name=f"{manifest.prefix}-database", short_name="database", kind="generated", used_by=("api",))
    url = Secret(name=f"{manifest.prefix}-database-url", short_name="database-url", kind="url", used_by=("api",))
    aws.secretsmanager.create_secret(Name=generated.name, SecretString='{"password": "secret1"}')
    aws.secretsmanager.create_secret(Name=url.name, SecretString=urls)
    secrets = Secrets(aws, replace(manifest, secrets=(generated, url)))
    found = {status.secret.kind: status for status in secrets.check()}["url"]
    assert found.state is state
    assert problem in found.problem
    assert "secret1" not in found.problem
    with pytest.raises(UsageError, match="the template builds it from the generated password"):
        secrets.assign("database-url", urls)
