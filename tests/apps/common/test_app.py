"""The common app, tested with a small service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import APIRouter

from common import app, logs
from common.refusal import Refusal
from common.settings import ServiceSettings


class SmallSettings(ServiceSettings):
    service: ClassVar[str] = "small"


class Away(Exception):
    pass


router = APIRouter()


@router.get("/")
async def home() -> dict[str, str]:
    return {"page": "home"}


@router.get("/boom")
async def boom() -> None:
    raise RuntimeError("the key is sk-very-secret-key")


@router.get("/away")
async def away() -> None:
    raise Away("connection refused")


@router.get("/no")
async def no() -> None:
    raise Refusal(429, "Not now.", retry_after_seconds=7)


def get(path: str, *, peer: str = "10.0.1.7", broken: bool = False, **headers: str) -> httpx.Response:
    return get_all(path, peer=peer, broken=broken, **headers)[0]


def get_all(*paths: str, peer: str = "10.0.1.7", broken: bool = False, **headers: str) -> list[httpx.Response]:
    """Return the responses of one process to a sequence of requests."""
    settings = SmallSettings(
        port=3000, path_prefix="/small", vpc_cidr=IPv4Network("10.0.0.0/16"), image_digest="sha256:abc"
    )

    async def check() -> None:
        if broken:
            raise ConnectionError("refused")

    small = app.create(
        settings, title="Small", routers=[router], checks={"thing": check}, unavailable=(Away,), serve_openapi=True
    )

    async def call() -> list[httpx.Response]:
        transport = httpx.ASGITransport(small, client=(peer, 1), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://small.test") as client:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return [await client.get(path, headers=sent) for path in paths]

    return asyncio.run(call())


@pytest.fixture
def log_lines() -> Iterator[list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    handler = Keep()
    handler.setFormatter(logs.JsonFormatter("small", ["sk-very-secret-key"]))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


def test_prefix_answers_with_and_without_a_slash() -> None:
    assert get("/small").json() == get("/small/").json() == {"page": "home"}
    assert get("/").status_code == get("/smaller").status_code == 404


def test_every_response_has_the_digest_and_security_headers() -> None:
    for path in ("/small", "/small/boom", "/small/nowhere", "/health"):
        answer = get(path)
        assert answer.headers["x-alva-service"] == "small"
        assert answer.headers["x-alva-digest"] == "sha256:abc"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers


def test_unexpected_error_is_500_without_its_reason_and_logged_without_the_secret(
    log_lines: list[dict[str, Any]],
) -> None:
    answer = get("/small/boom", X_Request_Id="request-1234")
    assert (answer.status_code, answer.json()) == (500, {"detail": "Something went wrong on our side."})
    error = next(line for line in log_lines if line["level"] == "ERROR")
    assert error["request_id"] == "request-1234"
    assert "RuntimeError: the key is ***" in error["exception"]
    assert "sk-very-secret-key" not in json.dumps(log_lines)


def test_unavailable_dependency_is_503_with_retry_after() -> None:
    answer = get("/small/away")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "refused" not in answer.text


def test_refusal_has_its_status_and_message() -> None:
    answer = get("/small/no")
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, {"detail": "Not now."}, "7")


def test_request_is_logged_with_identity_and_without_its_query(log_lines: list[dict[str, Any]]) -> None:
    get(
        "/small/?token=abc",
        X_Request_Id="request-1234",
        X_Amzn_Trace_Id="Root=1-67891233-abc",
        X_Forwarded_For="203.0.113.9",
    )
    line = next(line for line in log_lines if line["logger"] == "request")
    assert line["request_id"] == "request-1234"
    assert line["trace_id"] == "Root=1-67891233-abc"
    assert (line["path"], line["status"], line["client"]) == ("/small/", 200, "203.0.113.9")
    assert line["duration_ms"] >= 0
    own = [line for line in log_lines if line["logger"] != "httpx"]  # the client of this test
    assert "token" not in json.dumps(own)


@pytest.mark.parametrize("made_up", ["short", "x" * 65, "with space 12", 'quote"12345'])
def test_malformed_request_id_is_replaced(made_up: str) -> None:
    assert get("/small", X_Request_Id=made_up).headers["x-request-id"] != made_up


def test_deep_health_is_visible_inside_the_network_only() -> None:
    assert get("/health").json() == {"status": "ok", "service": "small"}
    deep = get("/health?deep=1", broken=True)
    assert deep.status_code == 503
    assert deep.json()["checks"] == {"thing": "ConnectionError: refused"}
    assert get("/health?deep=1").json()["checks"] == {"thing": "ok"}
    for outside in (
        get("/health?deep=1", broken=True, X_Forwarded_For="203.0.113.9"),
        get("/health?deep=1", broken=True, peer="203.0.113.9"),
    ):
        assert outside.json() == {"status": "ok", "service": "small"}


def test_openapi_is_under_the_prefix() -> None:
    document = get("/small/openapi.json").json()
    assert "/small/boom" in document["paths"]
    assert "/health" not in document["paths"]


def test_metrics_count_by_route_for_the_inside_only() -> None:
    text = get_all("/small", "/small/boom", "/small/nowhere", "/small/elsewhere", "/metrics")[-1].text
    assert 'alva_request_duration_seconds_count{method="GET",route="/small/",status="200"} 1' in text
    assert 'alva_request_duration_seconds_count{method="GET",route="/small/boom",status="500"} 1' in text
    assert 'alva_request_duration_seconds_count{method="GET",route="unmatched",status="404"} 2' in text
    assert "alva_requests_in_flight 1" in text, "the request for the metrics itself"
    assert get("/metrics", X_Forwarded_For="203.0.113.9").status_code == 404


def test_documentation_page_loads_no_other_resource_and_lists_every_operation() -> None:
    page, document = get_all("/small/docs", "/small/openapi.json")
    assert page.headers["content-type"].startswith("text/html")
    for path in document.json()["paths"]:
        assert path in page.text
    assert "src=" not in page.text
    assert "http" not in page.text.replace("HTTP", "")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
