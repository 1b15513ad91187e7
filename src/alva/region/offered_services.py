"""The services of MiniStack that the region offers. The others are not imported, and refuse every call.

MiniStack's CloudFormation imports all of its 60 services, which costs a second and 20 MB. An empty module replaces each
service that is not offered: it has no resources, and its functions refuse.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from alva.region.asgi import ASGIApplication, answer_json, requested_action

# The names are those of MiniStack's SERVICE_REGISTRY.
OFFERED = (
    "account", "acm", "budgets", "cloudformation", "ec2", "ecr", "ecs", "elasticache", "elasticloadbalancing", "events",
    "iam", "kms", "logs", "monitoring", "rds", "resource-groups", "route53", "s3", "secretsmanager", "servicediscovery",
    "sns", "sqs", "ssm", "sts", "tagging", "wafv2",
)  # fmt: skip

# Modules of services that are not offered but that MiniStack's CloudFormation or an offered service imports.
ABSENT = (
    "apigateway", "apigateway_v1", "appconfig", "appsync", "appsync_events", "athena", "autoscaling", "backup", "batch",
    "cloudfront", "codebuild", "cognito", "dynamodb", "dynamodb_streams", "ecs_metadata", "efs", "eks",
    "emr", "firehose", "glue", "iot", "iot_data", "kinesis", "kinesisanalyticsv2", "kinesisanalyticsv2_flink",
    "lambda_svc", "lambda_durable", "location", "opensearch", "pipes", "rds_iam_plugin", "s3tables", "s3files",
    "scheduler", "ses", "ses_v2", "signer", "stepfunctions", "transfer",
)  # fmt: skip
_PACKAGE = "ministack.services."


class ServiceNotOffered(Exception):
    """A call of a service that the region does not have."""


class MissingName(dict[Any, Any]):
    """The value of every name in an absent service: an empty store when read, a refusal when called."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __call__(self, *_: object, **__: object) -> Any:
        raise ServiceNotOffered(f"the local region does not have {self._name}")

    def __getattr__(self, name: str) -> MissingName:
        if name.startswith("__"):
            raise AttributeError(name)
        return MissingName(f"{self._name}.{name}")

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class _MissingModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports an empty module for each absent service."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.startswith(_PACKAGE) and fullname.removeprefix(_PACKAGE) in ABSENT:
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        service = spec.name.removeprefix(_PACKAGE)

        def missing(name: str) -> MissingName:
            if name.startswith("__") or name in ("get_state", "load_persisted_state", "reset"):
                raise AttributeError(name)
            return MissingName(f"{service}.{name}")

        module.__getattr__ = missing  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is empty."""


def restrict() -> None:
    """Make MiniStack serve only the offered services. Must be called before MiniStack is imported."""
    loaded = [name for name in sys.modules if name.startswith(_PACKAGE)]
    if loaded:
        raise RuntimeError(f"MiniStack's services are imported already: {', '.join(loaded[:3])}")
    os.environ["SERVICES"] = ",".join(OFFERED)
    sys.meta_path.insert(0, _MissingModules())


def disable_other_entry_points(application: ModuleType) -> None:
    """Disable MiniStack's entry points beside AWS's API: data planes of other services, and its reset.

    `application` is `ministack.app`.
    """

    async def s3_only(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any], request_id: str,
        **_: object,
    ) -> Any:  # fmt: skip
        """Allow only buckets in the host name, and S3's control API; others (such as MiniStack's ALB) are disabled."""
        if response := await application._handle_s3_control_request(
            path, method, body, query_params, request_id, headers
        ):
            return response
        host = headers.get("host", "")
        if response := await application._handle_s3_vhost_request(host, path, method, headers, body, query_params):
            return application._with_data_plane_headers(response, request_id, include_s3_id=True)
        return None

    async def refuse_reset(path: str, *_: object) -> Any:
        if not path.startswith("/_ministack/"):
            return None
        return 404, {"Content-Type": "text/plain"}, b"the local region does not have this\n"

    async def nothing(*_: object) -> None:
        return None

    application._handle_special_data_plane_request = s3_only  # type: ignore[attr-defined]
    application._resolve_custom_domain_request = lambda host, path: None  # type: ignore[attr-defined]  # noqa: ARG005
    application._handle_admin_reset = refuse_reset  # type: ignore[attr-defined]
    application._handle_admin_config_request = nothing  # type: ignore[attr-defined]


def refuse_others(application: ASGIApplication) -> ASGIApplication:
    """Wrap MiniStack's application: a request that is signed for a service that is not offered is refused here.

    MiniStack would read the models of all of AWS's services at the first such name: 10 s and 400 MB.
    """
    from ministack.app import SERVICE_HANDLERS

    async def offered(scope: dict[str, Any], receive: Any, send: Any) -> None:
        service, _ = requested_action(scope, b"")
        if service and service not in SERVICE_HANDLERS:
            await answer_json(send, {"error": f"Unsupported service: {service}"}, 400)
        else:
            await application(scope, receive, send)

    return offered
