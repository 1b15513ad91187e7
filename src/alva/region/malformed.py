"""Refuses requests that no service of AWS reads: of another version of an API, of an unknown service, without XML.

MiniStack answers the first as if it were the current version, and gives the other two to S3.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from botocore.loaders import Loader

from alva.region import json_protocol, query_protocol
from alva.region.aws_error import AwsError
from alva.region.control_plane import MODELS
from alva.region.unexpected import Handler, Response, error_response

VERSIONED = frozenset({
    "cloudformation", "elasticache", "elasticloadbalancing", "iam", "monitoring", "rds", "sns", "sqs", "sts",
})  # fmt: skip
"""The services with one version. EC2 has several, and older ones are still valid."""


def install(handlers: dict[str, Handler]) -> None:
    """Refuse such requests before the handlers."""
    for service in handlers.keys() & VERSIONED:
        version = Loader().determine_latest_version(MODELS.get(service, service), "service-2")
        handlers[service] = _with_version(service, version, handlers[service])
    if "s3" in handlers:
        handlers["s3"] = _with_xml(handlers["s3"])


def _with_version(service: str, version: str, theirs: Handler) -> Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        form = {} if "x-amz-target" in headers else query_protocol.read_form(body, query_params)
        if form.get("Version", version) != version:
            message = f"Could not find operation {form.get('Action')} for version {form['Version']}"
            return error_response(service, headers, AwsError("InvalidAction", message))
        return await theirs(method, path, headers, body, query_params)

    return handle


def _with_xml(theirs: Handler) -> Handler:
    """A request that names no other service is for S3. Its CreateBucket has a body of XML, or none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (MalformedXML)
    """

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        if "x-amz-target" in headers:
            return json_protocol.refuse(AwsError("UnknownOperationException", ""))
        if method == "PUT" and body and not query_params and "/" not in path.strip("/"):
            try:
                ElementTree.fromstring(body)  # noqa: S314 - it is not kept
            except ElementTree.ParseError:
                message = "The XML you provided was not well-formed or did not validate against our published schema"
                return error_response("s3", headers, AwsError("MalformedXML", message))
        return await theirs(method, path, headers, body, query_params)

    return handle
