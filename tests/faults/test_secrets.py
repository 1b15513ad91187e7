"""A secret is changed in Secrets Manager, without `./alva`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from . import breaking
from .catalogue import API_ALONE, MIGRATION_FAILED, REFUSED
from .conftest import Environment

DATABASE_SECRET = "alva-staging-database"
NEXT_STEP = "next: ./alva secrets rotate database"


@pytest.mark.nightly
def test_restart_is_refused_when_a_new_task_cannot_sign_in_and_names_the_next_step(environment: Environment) -> None:
    tasks = environment.tasks()
    with environment.unharmed(), password_changed_by_hand(environment):
        restarted = environment.alva("secrets", "restart", "database")
        assert restarted.returncode == REFUSED, restarted.stderr
        assert "no task was replaced" in restarted.stderr
        assert "password authentication failed" in restarted.stderr
        assert NEXT_STEP in restarted.stderr
        assert environment.tasks() == tasks

        verified = environment.alva("verify")
        assert verified.returncode == 7, verified.stdout
        assert "FAIL  inside: database" in verified.stdout
        assert NEXT_STEP in verified.stderr

        with breaking.new_version("api")(environment):
            released = environment.alva(*API_ALONE)
        assert released.returncode == MIGRATION_FAILED, released.stderr
        # A log line alone never leads to advice that changes something; `verify` confirms the cause first.
        assert "next: ./alva verify signs in with the same secret" in released.stderr

        rotated = environment.alva("secrets", "rotate", "database")
        assert rotated.returncode == 0, rotated.stderr
        assert environment.tasks()["auth"] != tasks["auth"]


@contextmanager
def password_changed_by_hand(environment: Environment) -> Iterator[None]:
    """The database's secret has another password than the database; restored at the end, if the test did not."""
    secrets = environment.client("secretsmanager")
    before = secrets.get_secret_value(SecretId=DATABASE_SECRET)["SecretString"]
    wrong = json.dumps({**json.loads(before), "password": "x" * 40})
    secrets.put_secret_value(SecretId=DATABASE_SECRET, SecretString=wrong)
    try:
        yield
    finally:
        if secrets.get_secret_value(SecretId=DATABASE_SECRET)["SecretString"] == wrong:
            secrets.put_secret_value(SecretId=DATABASE_SECRET, SecretString=before)
