"""Auth and api against their OpenAPI documents, with generated inputs (schemathesis).

Tests import schemathesis in functions: that takes 0.4 s, and each of pytest's processes collects this module.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import HealthCheck, Phase, given, settings

import api.admin_endpoints
import api.endpoints
import auth.endpoints
from tests.apps.api.conftest import sign_token
from tests.apps.conftest import KeyPair, PostgresServer, RunningProcess, new_email

EFFORT = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
EXAMPLES = pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.nightly)])


@pytest.fixture(scope="module")
def administrator(postgres: PostgresServer, database: str, keys: KeyPair) -> dict[str, str]:
    """Headers of an administrator with an account at auth."""
    with postgres.connect(database) as connection:
        query = "INSERT INTO auth.users (email, role, verified_at) VALUES (%s, 'admin', now()) RETURNING id"
        row = connection.execute(query, [new_email("admin")]).fetchone()
    assert row is not None
    return sign_token(keys, "admin", str(row[0]))


def operations(prefix: str, *routers: APIRouter) -> list[tuple[str, str]]:
    """Return path and method of all operations."""
    app = FastAPI()
    for router in routers:
        app.include_router(router, prefix=prefix)
    return [(path, method) for path, entry in app.openapi()["paths"].items() for method in entry]


@functools.cache
def read_document(url: str) -> Any:
    """The OpenAPI document of a service, as schemathesis needs it."""
    import schemathesis

    return schemathesis.openapi.from_url(url)


def probe(url: str, path: str, method: str, headers: dict[str, str], examples: int) -> None:
    """Call one operation with this many valid and invalid inputs, and validate the responses against the document."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    document = read_document(url)
    applied = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]

    @settings(EFFORT, max_examples=examples)
    @given(case=document[path][method].as_strategy())
    def call(case: Any) -> None:
        case.call_and_validate(checks=applied, headers=headers, timeout=60)

    call()


@EXAMPLES
@pytest.mark.parametrize(("path", "method"), operations("/api", api.endpoints.router, api.admin_endpoints.router))
def test_api_conforms_to_its_openapi_document(
    api: RunningProcess, keys: KeyPair, path: str, method: str, examples: int
) -> None:
    probe(f"{api.url}/api/openapi.json", path, method, sign_token(keys, "admin"), examples)


@EXAMPLES
@pytest.mark.parametrize(("path", "method"), operations("/auth", auth.endpoints.router))
def test_auth_conforms_to_its_openapi_document(
    auth: RunningProcess, administrator: dict[str, str], path: str, method: str, examples: int
) -> None:
    probe(f"{auth.url}/auth/openapi.json", path, method, administrator, examples)
