"""Every answer is readable: exceptions become error responses, and texts that MiniStack does not escape are escaped."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from ministack.services import cloudwatch, ec2, iam, sns

from alva.region.query_protocol import flatten, read_xml
from alva.region.unexpected import Handler, Response, answer_exceptions

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def broken(*_: Any) -> Response:
    raise KeyError("a\0<b>")


def answer(service: str, headers: dict[str, str]) -> Response:
    handlers: dict[str, Handler] = {service: broken}
    answer_exceptions(handlers)

    async def call() -> Response:
        return await handlers[service]("POST", "/", headers, b"", {})

    return asyncio.run(call())


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

    async def call() -> Response:
        return await handlers["sns"]("POST", "/", {}, b"", {})

    assert asyncio.run(call()) == (200, {}, b"fine")


MODULES = {"iam": iam, "ec2": ec2, "sns": sns, "monitoring": cloudwatch}
ALLOW = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [ALLOW]})
TEXTS = ("a & b", "a < b > c", "<b>&", "</Description", "<Role", "a\0b\x1f", "&amp", '"&quot"\'', "<!-- <?x <![CDATA[")
TAGS = [{"Key": "k", "Value": "$"}]
ALARM = {"MetricName": "m", "Namespace": "n", "Threshold": 1, "EvaluationPeriods": 1, "Period": 60, "Statistic": "Sum"}
POLICY = "arn:aws:iam::000000000000:policy/p"
TOPIC = "arn:aws:sns:us-east-1:000000000000:t"


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("service", "create", "read", "path"),
    [
        ("iam", {"Action": "CreateRole", "RoleName": "r", "AssumeRolePolicyDocument": TRUST, "Description": "$"},
         {"Action": "ListRoles"}, "Description"),
        ("iam", {"Action": "CreateRole", "RoleName": "r", "AssumeRolePolicyDocument": TRUST, "Tags": TAGS},
         {"Action": "GetRole", "RoleName": "r"}, "Value"),
        ("iam", {"Action": "CreatePolicy", "PolicyName": "p", "PolicyDocument": TRUST, "Description": "$"},
         {"Action": "GetPolicy", "PolicyArn": POLICY}, "Description"),
        ("iam", {}, {"Action": "GetRole", "RoleName": "$"}, "Message"),
        ("ec2", {"Action": "CreateSecurityGroup", "GroupName": "g", "GroupDescription": "$"},
         {"Action": "DescribeSecurityGroups", "GroupName.1": "g"}, "groupDescription"),
        ("sns", {"Action": "CreateTopic", "Name": "t", "Tags": TAGS},
         {"Action": "ListTagsForResource", "ResourceArn": TOPIC}, "Value"),
        ("monitoring", {"Action": "PutMetricAlarm", "AlarmName": "$", **ALARM},
         {"Action": "DescribeAlarms"}, "AlarmName"),
    ],
    ids=lambda value: value["Action"] if isinstance(value, dict) and value else None,
)  # fmt: skip
def test_text_is_readable_in_every_answer(
    service: str, create: dict[str, Any], read: dict[str, Any], path: str, text: str
) -> None:
    module = MODULES[service]
    module.reset()
    handlers: dict[str, Handler] = {service: module.handle_request}
    answer_exceptions(handlers)

    def call(request: dict[str, Any]) -> ElementTree.Element:
        body = urlencode({key: value.replace("$", text) for key, value in flatten(request).items()}).encode()
        _, _, answer = asyncio.run(handlers[service]("POST", "/", FORM, body, {}))
        return read_xml(answer)

    try:
        if create and (refused := call(create).findtext("Error/Code")):
            # IAM's descriptions have no control characters.
            assert (refused, "\0" in text) == ("ValidationError", True)
            return
        found = "".join(element.text or "" for element in call(read).iter(path))
    finally:
        module.reset()
    assert text.replace("\0", "\ufffd").replace("\x1f", "\ufffd") in found
