"""Requests that no service of AWS accepts are refused by name, without an unexpected exception."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from ministack.services import cloudwatch_logs

from alva.region import json_protocol, malformed, validation
from alva.region.aws_error import AwsError
from alva.region.cloudformation import submissions
from alva.region.query_protocol import read_error, service_model
from alva.region.requests import Request
from alva.region.unexpected import MODELS, Handler, Response

DEEP = b"[" * 100_000


async def works(*_: Any) -> Response:
    return 200, {}, b""


def call(service: str, method: str, path: str, headers: dict[str, str], body: bytes, **query: list[str]) -> Response:
    handlers: dict[str, Handler] = {service: works}
    malformed.install(handlers)

    async def answer() -> Response:
        return await handlers[service](method, path, headers, body, query)

    return asyncio.run(answer())


@pytest.mark.parametrize("service", sorted(malformed.VERSIONED))
def test_another_version_of_an_api_is_refused(service: str) -> None:
    version = str(service_model(MODELS.get(service, service)).metadata["apiVersion"])
    for given in ({}, {"Version": version}):
        assert call(service, "POST", "/", {}, urlencode({"Action": "X", **given}).encode())[0] == 200
    status, _, answer = call(service, "POST", "/", {}, b"Action=X&Version=1999-01-01")
    assert (status, *read_error(answer)) == (400, "InvalidAction", "Could not find operation X for version 1999-01-01")
    assert call(service, "GET", "/", {}, b"", Action=["X"], Version=["1999-01-01"])[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "headers", "query", "code"),
    [
        ("POST", "/", {"x-amz-target": "Nothing_20200101.Do"}, {}, "UnknownOperationException"),
        ("PUT", "/bucket", {}, {}, "MalformedXML"),
        ("PUT", "/bucket/", {}, {}, "MalformedXML"),
        ("PUT", "/bucket/key", {}, {}, ""),
        ("PUT", "/bucket", {}, {"acl": [""]}, ""),
    ],
)
def test_s3_reads_only_its_own_requests(
    method: str, path: str, headers: dict[str, str], query: dict[str, list[str]], code: str
) -> None:
    status, answered, answer = call("s3", method, path, headers, b"<not xml", **query)
    assert status == (400 if code else 200)
    assert code in str(answered) + answer.decode()
    assert call("s3", method, path, {}, b"<CreateBucketConfiguration/>", **query)[0] == 200
    assert call("s3", method, path, {}, b"", **query)[0] == 200


def test_json_that_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(AwsError, match="Could not read the request") as refused:
        json_protocol.read(DEEP)
    assert refused.value.code == "SerializationException"
    guarded = validation.guard_json("logs", validation.RULES["logs"], cloudwatch_logs.handle_request)
    headers = {"x-amz-target": "Logs_20140328.DescribeLogGroups"}

    async def answer() -> Response:
        return await guarded("POST", "/", headers, DEEP, {})

    status, _, body = asyncio.run(answer())
    assert (status, json.loads(body)["__type"]) == (400, "SerializationException")
    deep = b'{"RoleArn":' * 100_000
    request = Request("sts", "AssumeRole", "", "POST", "/", {}, {}, deep)
    assert request.member("RoleArn") is None


def test_a_template_that_is_too_long_is_not_repeated_in_full() -> None:
    with pytest.raises(AwsError, match="Member must have length less than or equal to 51200") as refused:
        asyncio.run(submissions.with_template({"TemplateBody": "x" * 10_000_000}))
    assert len(refused.value.message) < 2000
