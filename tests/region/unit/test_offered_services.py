"""Services that the region does not have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ministack import app

from alva.region import offered_services
from alva.region.constraints import service_model
from alva.region.control_plane import MODELS


def answer(service: str) -> bytes:
    """The response to a request that is signed for a service; empty if it reaches MiniStack."""
    sent: list[dict[str, Any]] = []

    async def ministack(*_: object) -> None:
        pass

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    signed = f"AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/{service}/aws4_request".encode()
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"authorization", signed)]}
    asyncio.run(offered_services.refuse_others(ministack)(scope, None, send))
    assert not sent or sent[0]["status"] == 400
    return sent[1]["body"] if sent else b""


@pytest.mark.parametrize("service", ["glacier", "email", "nonsense"])
def test_request_to_a_service_that_is_not_offered_is_refused_by_its_name(service: str) -> None:
    assert f"Unsupported service: {service}".encode() in answer(service)


@pytest.mark.parametrize("service", [name for name in offered_services.OFFERED if name in app.SERVICE_HANDLERS])
def test_request_to_an_offered_service_is_passed_on(service: str) -> None:
    models = {**MODELS, "tagging": "resourcegroupstaggingapi"}
    model = service_model(models.get(service, service))
    assert answer(model.signing_name) == b""
