"""The API's port: HTTP for Docker and the AWS SDKs, HTTPS for clients that begin with a TLS handshake."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import ExitStack
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError

from alva.region import daemon
from tests.conftest import RunningRegion


def secure_client(region: RunningRegion, service: str, *, host: str = "127.0.0.1", trusts: bool = True) -> Any:
    make_client: Any = boto3.client
    return make_client(
        service,
        endpoint_url=f"https://{host}:{region.config.api_port}",
        verify=str(region.config.trust_bundle_file) if trusts else None,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name=region.config.region,
        config=Config(retries={"max_attempts": 0}),
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_api_answers_over_tls(region: RunningRegion, host: str) -> None:
    caller = secure_client(region, "sts", host=host).get_caller_identity()
    assert caller["Account"] == region.config.account_id


def test_registry_answers_several_requests_on_a_tls_connection(region: RunningRegion) -> None:
    context = ssl.create_default_context(cafile=str(region.config.trust_bundle_file))
    registry = http.client.HTTPSConnection("127.0.0.1", region.config.api_port, context=context)
    for _ in range(2):
        registry.request("GET", "/v2/")
        answer = registry.getresponse()
        answer.read()
        assert (answer.status, answer.version) == (401, 11)
    registry.close()


def test_client_that_does_not_trust_the_certificate_leaves_no_failure(region: RunningRegion) -> None:
    before = daemon.failures(region.config)
    with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        secure_client(region, "sts", trusts=False).get_caller_identity()
    assert daemon.failures(region.config) == before


def test_silent_and_broken_connections_do_not_delay_others(region: RunningRegion) -> None:
    before = daemon.failures(region.config)
    address = ("127.0.0.1", region.config.api_port)
    with ExitStack() as open_until_end:
        for begin in (b"", b"\x16", b"\x16\x03\x01 no handshake", b"GET /half a request"):
            connection = open_until_end.enter_context(socket.create_connection(address))
            connection.sendall(begin)
        with socket.create_connection(address):
            pass  # closed before a byte was sent
        assert region.client("sts").get_caller_identity()["Account"] == region.config.account_id
    assert daemon.failures(region.config) == before


def test_upload_over_tls_is_read_back_over_http(region: RunningRegion) -> None:
    s3 = region.client("s3")
    s3.create_bucket(Bucket="over-tls")
    content = bytes(range(256)) * 32768
    secure_client(region, "s3").put_object(Bucket="over-tls", Key="upload", Body=content)
    assert s3.get_object(Bucket="over-tls", Key="upload")["Body"].read() == content


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "answer"),
    [
        ("POST", "/", {"X-Amz-Target": "Nothing_20200101.Do"}, "{}", 400, "UnknownOperationException"),
        ("PUT", "/malformed", {}, "<not xml", 400, "MalformedXML"),
        (
            "POST",
            "/?Action=ListRoles&Version=1999-01-01",
            {},
            "",
            400,
            "Could not find operation ListRoles for version",
        ),
        ("POST", "/", {"Smithy-Protocol": "rpc-v2-cbor"}, "\0", 415, "does not honour the protocol"),
        ("POST", "/?Action=GetPolicy&PolicyArn=arn:aws:iam::000000000000:policy/a%26b", {}, "", 404, "a&amp;b"),
    ],
    ids=["unknown service", "malformed XML", "other version", "CBOR", "unescaped text"],
)
def test_request_that_no_service_reads_is_refused_readably(
    region: RunningRegion, method: str, path: str, headers: dict[str, str], content: str, status: int, answer: str
) -> None:
    service = "monitoring" if status == 415 else "iam" if "Action" in path else "s3"
    signed = f"AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/{service}/aws4_request, SignedHeaders=, Signature="
    said = httpx.request(
        method,
        region.config.endpoint_url + path,
        content=content,
        headers={"Authorization": signed, **headers},
        timeout=60,
    )
    assert said.status_code == status
    assert answer in str(said.headers) + said.text
