"""A resource that cannot be read is not taken for one that does not exist."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ministack import app as ministack_app

from alva.region.cloudformation import importing, imports
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.store import StackRecords

REPOSITORY = "AWS::ECR::Repository"


def refuse(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Answer every call of ECR with this error."""

    async def handle_request(*_: Any) -> tuple[int, dict[str, str], bytes]:
        return 400, {}, json.dumps({"__type": code, "message": "because"}).encode()

    monkeypatch.setitem(ministack_app.SERVICE_HANDLERS, "ecr", handle_request)


def of_existing() -> Any:
    """The change set that imports a repository if it exists."""
    definition = {"Type": REPOSITORY, "Properties": {"RepositoryName": "web"}, "DeletionPolicy": "Retain"}
    submission: Any = type("Submission", (), {"template": {"Resources": {"Web": definition}}})
    change = {"Action": "Add", "LogicalResourceId": "Web", "ResourceType": REPOSITORY}
    return asyncio.run(importing.of_existing(StackRecords(), submission, [change]))


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "InvalidParameterException"])
def test_a_refused_call_is_reported(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, code)
    told = rf"because \(Service: ecr, Status Code: 400, Error Code: {code}\)"
    with pytest.raises(HandlerFailed, match=told):
        asyncio.run(imports.adopt(REPOSITORY, "web"))
    with pytest.raises(HandlerFailed, match=told):
        asyncio.run(imports.refuse_existing(REPOSITORY, {"RepositoryName": "web"}))
    assert f"Error Code: {code}" in str(asyncio.run(imports.problem_of(REPOSITORY, "web")))
    change_set = of_existing()
    assert (change_set["Status"], change_set["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert f"Error Code: {code}" in change_set["StatusReason"]


def test_a_missing_resource_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "RepositoryNotFoundException")
    with pytest.raises(HandlerFailed, match="was not found"):
        asyncio.run(imports.adopt(REPOSITORY, "web"))
    asyncio.run(imports.refuse_existing(REPOSITORY, {"RepositoryName": "web"}))
    assert "was not found" in str(asyncio.run(imports.problem_of(REPOSITORY, "web")))
    assert [change["Action"] for change in of_existing()["Changes"]] == ["Add"]


@pytest.mark.parametrize("type_name", sorted(imports.IMPORTABLE))
def test_every_type_tells_what_does_not_exist(type_name: str) -> None:
    identifier = "arn:aws:x:us-east-1:000000000000:nothing"
    value = identifier if imports.identifier(type_name) in ("TopicArn", "Id") else "nothing"
    problem = asyncio.run(imports.problem_of(type_name, value))
    assert problem is not None
    assert "Error Code" not in problem
