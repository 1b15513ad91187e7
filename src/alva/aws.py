"""Clients for AWS: the only module that knows whether the target is AWS or a local region.

All other modules get their clients from an `Aws` and wait with its `Poll`; none of them reads the target.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from alva.errors import AlvaError, PreflightRefused, TimedOut

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import RefreshableCredentials
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ecr.client import ECRClient
    from mypy_boto3_ecs.client import ECSClient
    from mypy_boto3_elbv2.client import ElasticLoadBalancingv2Client
    from mypy_boto3_logs.client import CloudWatchLogsClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_ssm.client import SSMClient
    from mypy_boto3_sts.client import STSClient

Value = TypeVar("Value")

AWS_ATTEMPTS = 5
LOCAL_ATTEMPTS = 3
"""The number of attempts per call. Botocore waits up to 1, 2, 4, ... seconds between attempts
(https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html). A local region does not throttle, and
does not restart by itself.
"""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where an environment runs: `endpoint_url` of a local region, or None for AWS.

    boto3 finds the credentials for AWS; a local region accepts any. `ca_bundle` (PEM) verifies the load balancers'
    certificates; None means the certificate authorities of this machine.
    """

    name: str
    region: str
    endpoint_url: str | None = None
    ca_bundle: Path | None = None

    @classmethod
    def local(cls, endpoint_url: str, region: str = "us-east-1", ca_bundle: Path | None = None) -> Target:
        """A local region at `endpoint_url`."""
        return cls(name="local", region=region, endpoint_url=endpoint_url, ca_bundle=ca_bundle)

    @classmethod
    def aws(cls, region: str | None = None) -> Target:
        """AWS, in `region` or in the one that AWS_REGION names."""
        return cls(name="aws", region=region or os.environ.get("AWS_REGION") or "us-east-1")


class Interrupted(BaseException):
    """A wait was cancelled by the user or by a failed parallel step."""


@dataclass
class Limit:
    """The time at which all waits end, whatever their own timeouts. There is none at first."""

    seconds: float = 0.0
    ends_at: float | None = None

    @property
    def has_passed(self) -> bool:
        """Whether the limit has passed."""
        return self.ends_at is not None and time.monotonic() >= self.ends_at


@dataclass(frozen=True)
class Poll:
    """The behaviour of waits: short pauses at first, then longer ones; `interrupt` and `limit` end a wait.

    The pause between two polls is a tenth of the time waited so far, between `shortest_seconds` and `longest_seconds`.
    """

    interrupt: threading.Event = field(default_factory=threading.Event)
    shortest_seconds: float = 0.15
    longest_seconds: float = 3.0
    limit: Limit = field(default_factory=Limit)

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Limit all waits in the block, in all threads, to this time in total."""
        former = (self.limit.seconds, self.limit.ends_at)
        self.limit.seconds, self.limit.ends_at = seconds, time.monotonic() + seconds
        try:
            yield
        finally:
            self.limit.seconds, self.limit.ends_at = former

    def until(
        self, poll: Callable[[], Value | None], *, timeout_seconds: float, what: str, is_limited: bool = True
    ) -> Value:
        """Call `poll` until it returns a value other than None, and return that value.

        Raises `TimedOut` ("cannot wait longer for {what}") after `timeout_seconds`, or when the limit has passed
        and `is_limited` is true. Raises `Interrupted` when the wait is cancelled.
        """
        started = time.monotonic()
        while True:
            answer = poll()
            if answer is not None:
                return answer
            waited = time.monotonic() - started
            if waited >= timeout_seconds:
                raise TimedOut(
                    f"cannot wait longer for {what}: its time limit of {timeout_seconds:.0f} s has passed",
                    next_step="./alva status",
                )
            if is_limited and self.limit.has_passed:
                raise TimedOut(
                    f"cannot wait longer for {what}: the time limit of {self.limit.seconds:.0f} s has passed",
                    next_step="./alva status",
                )
            self.pause(min(self.longest_seconds, max(self.shortest_seconds, waited / 10)))

    def pause(self, seconds: float) -> None:
        """Sleep; raise `Interrupted` as soon as the wait is cancelled."""
        if self.interrupt.wait(seconds):
            raise Interrupted


class Aws:
    """The boto3 clients of one target. Each is created at its first use; threads share them."""

    def __init__(
        self,
        target: Target,
        poll: Poll | None = None,
        *,
        role: AssumedRole | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """`report` receives a line when an endpoint stops answering and when it answers again."""
        self.target = target
        self.poll = poll or Poll()
        self._role = role
        self._report = report
        self._silent: set[str] = set()
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._made: dict[Any, Any] = {}

    def once(self, make: Callable[[Aws], Value]) -> Value:
        """Return `make(self)`, computed once and cached."""
        with self._lock:
            if make not in self._made:
                self._made[make] = make(self)
            made: Value = self._made[make]
            return made

    def assuming(self, role_arn: str, session_name: str) -> Aws:
        """Return an `Aws` for the same target with the credentials of a role, which are renewed before they expire."""
        role = AssumedRole(self, role_arn, session_name)
        role.load_credentials()
        return Aws(self.target, self.poll, role=role, report=self._report)

    @functools.cached_property
    def _session(self) -> boto3.Session:
        import boto3

        if self._role is not None:
            from botocore.session import get_session

            session = get_session()
            session.register_component("credential_provider", self._role)
            return boto3.Session(botocore_session=session, region_name=self.target.region)
        if self.target.endpoint_url is None:
            return boto3.Session(region_name=self.target.region)
        return boto3.Session(
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106
            region_name=self.target.region,
        )

    def client(self, service: str) -> Any:
        """The boto3 client of `service`, with time limits and AWS's standard retries."""
        from botocore.config import Config

        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,  # type: ignore[call-overload]
                    endpoint_url=self.target.endpoint_url,
                    config=Config(
                        connect_timeout=5,
                        read_timeout=60,
                        retries={
                            "mode": "standard",
                            "total_max_attempts": LOCAL_ATTEMPTS if self.target.endpoint_url else AWS_ATTEMPTS,
                        },
                        max_pool_connections=20,
                        user_agent_extra="alva",
                        # Path-style addressing: BUCKET.127.0.0.1 does not resolve.
                        s3={"addressing_style": "path" if self.target.endpoint_url else "auto"},
                    ),
                )
                self._clients[service].meta.events.register("needs-retry", self._report_connection)
            return self._clients[service]

    def _report_connection(self, endpoint: Any, caught_exception: Exception | None, **_: Any) -> None:
        """Report a lost connection at once: botocore calls this after each attempt, and would retry silently."""
        from botocore import exceptions

        host = endpoint.host
        with self._lock:
            was_silent = host in self._silent
            is_silent = isinstance(caught_exception, exceptions.ConnectionError | exceptions.HTTPClientError)
            (self._silent.add if is_silent else self._silent.discard)(host)
        if self._report is not None and is_silent != was_silent:
            self._report(f"{caught_exception}: trying again" if is_silent else f"{host} answers again")

    @property
    def cloudformation(self) -> CloudFormationClient:
        """CloudFormation."""
        return self.client("cloudformation")  # type: ignore[no-any-return]

    @property
    def ec2(self) -> EC2Client:
        """EC2."""
        return self.client("ec2")  # type: ignore[no-any-return]

    @property
    def ecr(self) -> ECRClient:
        """ECR."""
        return self.client("ecr")  # type: ignore[no-any-return]

    @property
    def ecs(self) -> ECSClient:
        """ECS."""
        return self.client("ecs")  # type: ignore[no-any-return]

    @property
    def elbv2(self) -> ElasticLoadBalancingv2Client:
        """Elastic Load Balancing v2."""
        return self.client("elbv2")  # type: ignore[no-any-return]

    @property
    def logs(self) -> CloudWatchLogsClient:
        """CloudWatch Logs."""
        return self.client("logs")  # type: ignore[no-any-return]

    @property
    def s3(self) -> S3Client:
        """S3."""
        return self.client("s3")  # type: ignore[no-any-return]

    @property
    def secretsmanager(self) -> SecretsManagerClient:
        """Secrets Manager."""
        return self.client("secretsmanager")  # type: ignore[no-any-return]

    @property
    def ssm(self) -> SSMClient:
        """Systems Manager."""
        return self.client("ssm")  # type: ignore[no-any-return]

    @property
    def sts(self) -> STSClient:
        """STS."""
        return self.client("sts")  # type: ignore[no-any-return]

    def signature(self, service: str, url: str) -> dict[str, str]:
        """Return the headers that sign a GET of `url` for `service`, for APIs that boto3 does not cover."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import NoCredentialsError

        with explained("sign a request"):
            credentials = self._session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            request = AWSRequest("GET", url)
            SigV4Auth(credentials, service, self.target.region).add_auth(request)
            return dict(request.headers.items())

    def account_id(self) -> str:
        """Return the account of the credentials; raises `PreflightRefused` without credentials."""
        with explained("find out which AWS account this is"):
            return self.sts.get_caller_identity()["Account"]


class AssumedRole:
    """The credentials of an assumed role, in the form of botocore's component `credential_provider`."""

    DURATION_SECONDS = 3600
    """AWS's maximum for a role assumed by another role ("role chaining"), which is the case in a pipeline."""

    def __init__(self, aws: Aws, role_arn: str, session_name: str) -> None:
        self._aws = aws
        self._role_arn = role_arn
        self._session_name = session_name
        self._lock = threading.Lock()
        self._credentials: RefreshableCredentials | None = None

    def load_credentials(self) -> RefreshableCredentials:
        """Return credentials that renew themselves; raises `PreflightRefused` when the role cannot be assumed."""
        from botocore.credentials import RefreshableCredentials

        with self._lock:
            if self._credentials is None:
                self._credentials = RefreshableCredentials.create_from_metadata(
                    metadata=self._assume(), refresh_using=self._assume, method="sts-assume-role"
                )
            return self._credentials

    def _assume(self) -> dict[str, str]:
        name = self._role_arn.rpartition("/")[2]
        try:
            with explained(f"assume {name}"):
                given = self._aws.sts.assume_role(
                    RoleArn=self._role_arn, RoleSessionName=self._session_name, DurationSeconds=self.DURATION_SECONDS
                )["Credentials"]
        except PreflightRefused:
            raise
        except AlvaError as error:
            raise PreflightRefused(
                error.message,
                evidence=error.evidence,
                next_step=f"sign in as somebody who may sts:AssumeRole {self._role_arn} (the root user may assume no "
                "role); ./alva bootstrap makes the roles and allows the pipeline's to",
            ) from error
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn boto3's exceptions in the block into an `AlvaError`: "cannot {what}", with AWS's message as evidence."""
    try:
        yield
    except AlvaError:
        raise
    except Exception as error:
        explanation = _explain(what, error)
        if explanation is None:
            raise
        raise explanation from error


def _explain(what: str, error: Exception) -> AlvaError | None:
    from botocore import exceptions

    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return PreflightRefused(
            f"cannot {what}: no AWS credentials",
            evidence=[str(error)],
            next_step="sign in (aws sso login, or AWS_PROFILE), or leave --target aws out for the local region",
        )
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return AlvaError(
            f"cannot {what}: no connection to AWS's endpoint",
            evidence=[str(error)],
            next_step="./alva up starts the local region; with --target aws, check the network",
        )
    if isinstance(error, exceptions.ClientError):
        return AlvaError(
            f"cannot {what}", evidence=[f"{error_code(error)}: {error.response.get('Error', {}).get('Message', '')}"]
        )
    if isinstance(error, exceptions.BotoCoreError):
        return AlvaError(f"cannot {what}", evidence=[str(error)])
    return None


def error_code(error: Exception) -> str:
    """Return the error code of an AWS response, such as `ParameterNotFound`; empty for any other exception."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))


def pages(client: Any, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
    """Yield all items under `key` of a paginated operation."""
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(key, [])
