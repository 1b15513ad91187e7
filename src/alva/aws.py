"""The one place that knows where AWS is: a local region's endpoint, or AWS's own.

Everything above asks an `Aws` for clients and waits with its `Poll`; nothing above asks which target it talks to.
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
"""How often a call is tried, in all. Botocore waits up to 1, 2, 4, ... seconds between attempts
(https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html). A local region neither throttles nor
comes back by itself.
"""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the environment is: `endpoint_url` of a local region, or None for AWS itself.

    AWS's own credentials come from where boto3 looks for them; a local region takes any. `ca_bundle` is what the
    certificates of load balancers are verified against, PEM; None for this machine's authorities.
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
    """A wait ended because the person, or a failing sibling step, asked everything to end."""


@dataclass
class Limit:
    """When all waits end, however long each of them may take alone; none at first."""

    seconds: float = 0.0
    ends_at: float | None = None

    @property
    def has_passed(self) -> bool:
        """Whether nothing may be waited for any more."""
        return self.ends_at is not None and time.monotonic() >= self.ends_at


@dataclass(frozen=True)
class Poll:
    """How waits behave: quick at first, slower the longer they take; ended by `interrupt` and by the `limit`.

    `shortest_seconds` and `longest_seconds` bound the pause between two looks, which is a tenth of the time waited.
    """

    interrupt: threading.Event = field(default_factory=threading.Event)
    shortest_seconds: float = 0.15
    longest_seconds: float = 3.0
    limit: Limit = field(default_factory=Limit)

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Give everything that is waited for in the block, in any thread, so many seconds together."""
        former = (self.limit.seconds, self.limit.ends_at)
        self.limit.seconds, self.limit.ends_at = seconds, time.monotonic() + seconds
        try:
            yield
        finally:
            self.limit.seconds, self.limit.ends_at = former

    def until(
        self, look: Callable[[], Value | None], *, timeout_seconds: float, what: str, is_limited: bool = True
    ) -> Value:
        """Return the first answer of `look` that is not None.

        Raises `TimedOut` ("cannot wait any longer for {what}") after `timeout_seconds`, and once the limit has passed
        unless this wait is not limited by it; `Interrupted` when told to end.
        """
        started = time.monotonic()
        while True:
            answer = look()
            if answer is not None:
                return answer
            waited = time.monotonic() - started
            if waited >= timeout_seconds:
                raise TimedOut(f"cannot wait any longer for {what}: {timeout_seconds:.0f} s have passed")
            if is_limited and self.limit.has_passed:
                raise TimedOut(
                    f"cannot wait any longer for {what}: the {self.limit.seconds:.0f} s for everything have passed"
                )
            self.pause(min(self.longest_seconds, max(self.shortest_seconds, waited / 10)))

    def pause(self, seconds: float) -> None:
        """Sleep, or raise `Interrupted` at once when told to end."""
        if self.interrupt.wait(seconds):
            raise Interrupted


class Aws:
    """Clients for one target, made when first used and shared between threads."""

    def __init__(
        self,
        target: Target,
        poll: Poll | None = None,
        *,
        role: AssumedRole | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """`tell` gets a line when an endpoint stops answering, and when it answers again."""
        self.target = target
        self.poll = poll or Poll()
        self._role = role
        self._tell = tell
        self._silent: set[str] = set()
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._made: dict[Any, Any] = {}

    def once(self, make: Callable[[Aws], Value]) -> Value:
        """What `make` makes of this: made once, kept as long as this is."""
        with self._lock:
            if make not in self._made:
                self._made[make] = make(self)
            made: Value = self._made[make]
            return made

    def assuming(self, role_arn: str, session_name: str) -> Aws:
        """The same target with the rights of a role, renewed before they expire.

        Raises `PreflightRefused` when the role cannot be assumed.
        """
        role = AssumedRole(self, role_arn, session_name)
        role.load_credentials()
        return Aws(self.target, self.poll, role=role, tell=self._tell)

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
                        # S3 addresses buckets by path at a local endpoint, where BUCKET.127.0.0.1 is no name.
                        s3={"addressing_style": "path" if self.target.endpoint_url else "auto"},
                    ),
                )
                self._clients[service].meta.events.register("needs-retry", self._tell_connection)
            return self._clients[service]

    def _tell_connection(self, endpoint: Any, caught_exception: Exception | None, **_: Any) -> None:
        """Botocore's event after each attempt of a call: say at once what it would try again in silence."""
        from botocore import exceptions

        host = endpoint.host
        with self._lock:
            was_silent = host in self._silent
            is_silent = isinstance(caught_exception, exceptions.ConnectionError | exceptions.HTTPClientError)
            (self._silent.add if is_silent else self._silent.discard)(host)
        if self._tell is not None and is_silent != was_silent:
            self._tell(f"{caught_exception}: trying again" if is_silent else f"{host} answers again")

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
        """The headers that sign a GET of `url` as a call of `service`, for what boto3 has no operation for."""
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
        """The account that the credentials belong to; raises `PreflightRefused` when there is no answer."""
        with explained("find out which AWS account this is"):
            return self.sts.get_caller_identity()["Account"]


class AssumedRole:
    """A role's credentials, as botocore asks for them (its component `credential_provider`)."""

    DURATION_SECONDS = 3600
    """What AWS allows a role that was itself assumed by a role ("role chaining"), as a pipeline's is."""

    def __init__(self, aws: Aws, role_arn: str, session_name: str) -> None:
        self._aws = aws
        self._role_arn = role_arn
        self._session_name = session_name
        self._lock = threading.Lock()
        self._credentials: RefreshableCredentials | None = None

    def load_credentials(self) -> RefreshableCredentials:
        """The credentials, which renew themselves; raises `PreflightRefused` when the role cannot be assumed."""
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
    """Turn what boto3 raises inside the block into an `AlvaError`: "cannot {what}", with AWS's own words."""
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
    """The code in an answer of AWS, such as `ParameterNotFound`; empty when it is not an answer of AWS."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))


def pages(client: Any, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
    """Every item under `key` of a paginated operation."""
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(key, [])
