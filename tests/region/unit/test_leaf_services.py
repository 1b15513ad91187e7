"""Secrets Manager, Parameter Store, IAM, SNS, STS, EC2 and CloudWatch Logs refuse the requests that AWS refuses, with
AWS's codes.

The facts are `aws_facts/leaf_refusals.json`, each with its source. The services answer in this process.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from ministack.services import cloudwatch_logs, ec2, iam, secretsmanager, sns, ssm, sts

from alva.region import iam_api, validation
from alva.region.constraints import service_model
from alva.region.query_protocol import flatten, read_error, read_xml
from alva.region.unexpected import answer_exceptions

FACTS = json.loads((Path(__file__).parents[1] / "aws_facts" / "leaf_refusals.json").read_text())
MODULES = {
    "ec2": ec2, "iam": iam, "logs": cloudwatch_logs, "secretsmanager": secretsmanager, "sns": sns, "ssm": ssm,
    "sts": sts,
}  # fmt: skip
TRUST = json.dumps(
    {"Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
)


class Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Services:
    """The region's seven services, without records."""

    def __init__(self) -> None:
        for module in MODULES.values():
            module.reset()
        self._handlers: dict[str, Any] = {name: module.handle_request for name, module in MODULES.items()}
        iam_api.install(self._handlers)
        validation.install(self._handlers)
        answer_exceptions(self._handlers)

    def __call__(self, service: str, action: str, **request: Any) -> Any:
        """Call an action; returns the response of a JSON service, or the XML of another one. Raises Refused."""
        metadata = service_model(service).metadata
        if metadata["protocol"] == "json":
            headers = {"x-amz-target": f"{metadata['targetPrefix']}.{action}"}
            body = json.dumps(request).encode()
        else:
            headers, body = {}, urlencode({"Action": action, **flatten(request)}).encode()
            # The form's parameters, as MiniStack's application passes them.
        status, _, answer = asyncio.run(self._handlers[service]("POST", "/", headers, body, {}))
        if metadata["protocol"] == "json":
            content = json.loads(answer)
            if status >= 400:
                raise Refused(content["__type"].rpartition("#")[2], content.get("message", ""))
            return content
        if status >= 400:
            raise Refused(*read_error(answer))
        return read_xml(answer)


@pytest.fixture
def call() -> Iterator[Services]:
    services = Services()
    yield services
    for module in MODULES.values():
        module.reset()


def fill(call: Services) -> dict[str, Any]:
    """Create one of each resource; returns the values of the facts' placeholders."""
    version = call("secretsmanager", "CreateSecret", Name="there", SecretString="value")["VersionId"]
    call("secretsmanager", "CreateSecret", Name="empty")
    call("secretsmanager", "CreateSecret", Name="deleted", SecretString="value")
    call("secretsmanager", "DeleteSecret", SecretId="deleted")
    call("ssm", "PutParameter", Name="/there", Value="x", Type="String")
    call("iam", "CreateRole", RoleName="there", AssumeRolePolicyDocument=TRUST)
    call("iam", "CreateServiceLinkedRole", AWSServiceName="ecs.amazonaws.com")
    call("sns", "CreateTopic", Name="there", Tags=[{"Key": "a", "Value": "b"}])
    call("logs", "CreateLogGroup", logGroupName="there")
    call("logs", "CreateLogStream", logGroupName="there", logStreamName="there")
    return {
        "version": version, "trust": TRUST, "now": int(time.time() * 1000), "longnoarn": "not-an-arn-of-a-policy",
        "tags51": [{"Key": str(number), "Value": "x"} for number in range(51)],
    }  # fmt: skip


def filled(value: Any, names: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, names) for item in value]
    if isinstance(value, str) and value.startswith("$"):
        return "x" * int(value[1:]) if value[1:].isdecimal() else names[value[1:]]
    return value


@pytest.mark.aws_fact
@pytest.mark.parametrize("fact", FACTS, ids=[f"{fact['service']}: {fact['claim']}" for fact in FACTS])
def test_request_that_aws_refuses_is_refused(call: Services, fact: dict[str, Any]) -> None:
    request = filled(fact["request"], fill(call))
    with pytest.raises(Refused) as refused:
        call(fact["service"], fact["action"], **request)
    assert refused.value.code == fact["code"]
    assert fact["message"] in refused.value.message


@pytest.mark.aws_fact
@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("ecs", "AWSServiceRoleForECS"),
        ("rds", "AWSServiceRoleForRDS"),
        ("elasticache", "AWSServiceRoleForElastiCache"),
        ("ecs.application-autoscaling", "AWSServiceRoleForApplicationAutoScaling_ECSService"),
        ("example", "AWSServiceRoleForExample"),
    ],
)
def test_service_linked_role_has_its_services_name(call: Services, service: str, name: str) -> None:
    made = call(
        "iam", "CreateServiceLinkedRole", AWSServiceName=f"{service}.amazonaws.com", Description="GetRole & <x>"
    )
    arn = f"arn:aws:iam::000000000000:role/aws-service-role/{service}.amazonaws.com/{name}"
    for shown in (made, call("iam", "GetRole", RoleName=name), call("iam", "ListRoles")):
        assert (shown.findtext(".//RoleName"), shown.findtext(".//Arn")) == (name, arn)
        assert shown.findtext(".//Description") == "GetRole & <x>"
    assert made.tag == "CreateServiceLinkedRoleResponse"
    suffixed = call("iam", "CreateServiceLinkedRole", AWSServiceName="autoscaling.amazonaws.com", CustomSuffix="x")
    assert suffixed.findtext(".//RoleName") == "AWSServiceRoleForAutoScaling_x"


@pytest.mark.aws_fact
def test_permissions_boundary_is_a_policy(call: Services) -> None:
    """https://docs.aws.amazon.com/cli/latest/reference/iam/get-user.html (the example)"""
    boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    call("iam", "CreateRole", RoleName="r", AssumeRolePolicyDocument=TRUST, PermissionsBoundary=boundary)
    assert call("iam", "GetRole", RoleName="r").findtext(".//PermissionsBoundaryType") == "Policy"


def labels_of(call: Services, secret: str) -> dict[str, list[str]]:
    return dict(call("secretsmanager", "DescribeSecret", SecretId=secret).get("VersionIdsToStages", {}))


def test_secret_without_a_value_has_no_version_and_its_first_one_is_current(call: Services) -> None:
    made = call("secretsmanager", "CreateSecret", Name="empty")
    assert "VersionId" not in made
    shown = call("secretsmanager", "DescribeSecret", SecretId="empty")
    assert set(shown) == {"ARN", "CreatedDate", "LastChangedDate", "Name"}
    put = call("secretsmanager", "PutSecretValue", SecretId="empty", SecretString="x", VersionStages=["AWSPENDING"])
    assert sorted(put["VersionStages"]) == ["AWSCURRENT", "AWSPENDING"]
    assert call("secretsmanager", "GetSecretValue", SecretId="empty")["SecretString"] == "x"
    listed = call("secretsmanager", "ListSecretVersionIds", SecretId="empty")["Versions"]
    assert [each["VersionId"] for each in listed] == [put["VersionId"]]


def test_staging_label_is_on_one_version_at_a_time(call: Services) -> None:
    first = call("secretsmanager", "CreateSecret", Name="rotates", SecretString="1")["VersionId"]
    for stages in (["AWSPENDING"], ["AWSPENDING", "MINE"], ["MINE"]):
        last = call("secretsmanager", "PutSecretValue", SecretId="rotates", SecretString="2", VersionStages=stages)
        assert last["VersionStages"] == stages
        held = [label for labels in labels_of(call, "rotates").values() for label in labels]
        assert len(held) == len(set(held)), held
    assert labels_of(call, "rotates")[first] == ["AWSCURRENT"]
    current = call("secretsmanager", "PutSecretValue", SecretId="rotates", SecretString="3")["VersionId"]
    assert labels_of(call, "rotates")[current] == ["AWSCURRENT"]
    assert labels_of(call, "rotates")[first] == ["AWSPREVIOUS"]


def test_same_token_and_value_again_make_no_second_version(call: Services) -> None:
    call("secretsmanager", "CreateSecret", Name="there", SecretString="1")
    token = "11111111-1111-1111-1111-111111111111"
    for _ in range(2):
        put = call("secretsmanager", "PutSecretValue", SecretId="there", SecretString="2", ClientRequestToken=token)
        assert put["VersionId"] == token
    assert len(labels_of(call, "there")) == 2


def test_forced_deletion_of_a_missing_secret_succeeds(call: Services) -> None:
    assert call("secretsmanager", "DeleteSecret", SecretId="nowhere", ForceDeleteWithoutRecovery=True)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        call("secretsmanager", "DeleteSecret", SecretId="nowhere")


DAY = 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("offsets", "retention", "rejected", "kept"),
    [
        ((-15 * DAY, -15 * DAY + 1), None, {"tooOldLogEventEndIndex": 2}, 0),
        ((-14 * DAY - 1000, -14 * DAY + 60_000), None, {"tooOldLogEventEndIndex": 1}, 1),
        ((0, 3 * DAY // 24), None, {"tooNewLogEventStartIndex": 1}, 1),
        ((-3 * DAY, -3 * DAY), 1, {"expiredLogEventEndIndex": 2}, 0),
        ((-3 * DAY, -3 * DAY), 7, None, 2),
        ((-1000, 0), None, None, 2),
    ],
)
def test_events_with_an_invalid_time_are_rejected_and_reported(
    call: Services, offsets: tuple[int, ...], retention: int | None, rejected: dict[str, int] | None, kept: int
) -> None:
    stream = {"logGroupName": "web", "logStreamName": "1"}
    call("logs", "CreateLogGroup", logGroupName="web")
    call("logs", "CreateLogStream", **stream)
    if retention:
        call("logs", "PutRetentionPolicy", logGroupName="web", retentionInDays=retention)
    now = int(time.time() * 1000)
    events = [{"timestamp": now + offset, "message": "x"} for offset in offsets]
    assert call("logs", "PutLogEvents", **stream, logEvents=events).get("rejectedLogEventsInfo") == rejected
    assert len(call("logs", "GetLogEvents", **stream, startFromHead=True)["events"]) == kept


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_filtered_events_page_to_the_end(call: Services, limit: int) -> None:
    call("logs", "CreateLogGroup", logGroupName="web")
    now = int(time.time() * 1000)
    for stream in ("1", "2"):
        call("logs", "CreateLogStream", logGroupName="web", logStreamName=stream)
        events = [{"timestamp": now + number // 3, "message": f"{stream}-{number}"} for number in range(10)]
        call("logs", "PutLogEvents", logGroupName="web", logStreamName=stream, logEvents=events)
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = call("logs", "FilterLogEvents", logGroupName="web", limit=limit, **token)
        assert len(page["events"]) <= limit
        seen += [event["message"] for event in page["events"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert sorted(seen) == sorted(f"{stream}-{number}" for stream in ("1", "2") for number in range(10))
