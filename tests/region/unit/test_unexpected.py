"""An exception of a handler becomes an error response in the protocol of the request."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from xml.etree import ElementTree

import pytest

from alva.region.unexpected import Handler, Response, answer_exceptions

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def broken(*_: Any) -> Response:
    raise KeyError("a\0<b>")


def answer(service: str, headers: dict[str, str]) -> Response:
    handlers: dict[str, Handler] = {service: broken}
    answer_exceptions(handlers)

    async def ask() -> Response:
        return await handlers[service]("POST", "/", headers, b"", {})

    return asyncio.run(ask())


def test_json_protocol_gets_its_error_with_the_exception() -> None:
    status, headers, body = answer("logs", {"x-amz-target": "Logs_20140328.PutLogEvents"})
    assert status == 500
    assert headers["x-amzn-ErrorType"] == json.loads(body)["__type"] == "InternalFailure"
    assert "the local region failed: KeyError" in json.loads(body)["message"]


@pytest.mark.parametrize(("service", "path"), [("rds", "Error/"), ("s3", "")])
def test_xml_protocols_get_readable_xml(service: str, path: str) -> None:
    status, _, body = answer(service, FORM)
    root = ElementTree.fromstring(body)  # noqa: S314 - our own text
    assert status == 500
    assert root.findtext(f"{path}Code") == "InternalFailure"
    assert "KeyError" in (root.findtext(f"{path}Message") or "")
    assert root.findtext("RequestId")


def test_response_of_a_working_handler_is_unchanged() -> None:
    async def works(*_: Any) -> Response:
        return 200, {}, b"fine"

    handlers: dict[str, Handler] = {"sns": works}
    answer_exceptions(handlers)

    async def ask() -> Response:
        return await handlers["sns"]("POST", "/", {}, b"", {})

    assert asyncio.run(ask()) == (200, {}, b"fine")
