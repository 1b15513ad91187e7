"""IAM's policies: what a principal can do, and who can assume a role. MiniStack evaluates the statements.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from ministack.core import iam_evaluator
from ministack.core.iam_evaluator import PrincipalInfo

from alva.region.control_plane import ControlPlane, ServiceError


def principal_of(arn: str, account_id: str) -> PrincipalInfo:
    """A user, a role or a session of a role, with its policies and its permissions boundary."""
    kind, _, name = arn.rpartition(":")[2].partition("/")
    role = name.partition("/")[0] if kind == "assumed-role" else name.rpartition("/")[2]
    found = iam_evaluator.resolve_principal(
        "",
        account_id,
        iam_evaluator.ResolvedCredential(
            access_key_id="",
            secret_access_key="",
            account_id=account_id,
            principal_arn=f"arn:aws:sts::{account_id}:assumed-role/{role}/session",
            principal_id="",
            principal_type="User" if kind == "user" else "AssumedRole",
            principal_name=role,
        ),
    )
    return replace(found, arn=arn)


def decide(principal: PrincipalInfo, action: str, resource: str, region: str, context: Mapping[str, Any]) -> str:
    """`Allow`, `Deny` or `ImplicitDeny`; `context` are condition keys in lower case."""
    request = _request(principal.arn, principal.account, action, resource, region, context)
    request.principal_type, request.principal_keys = principal.type, principal.keys
    return str(iam_evaluator.evaluate(request, principal.policies or [], *principal.limits).decision)


async def trusts_caller(services: ControlPlane, role_arn: str, caller: str, context: Mapping[str, Any]) -> bool:
    """Whether the role exists and its trust policy names the caller, who is no service."""
    statements = [each for each in await _trust(services, role_arn) if _names_callers(each.get("Principal"))]
    request = _request(caller, services.account_id, "sts:AssumeRole", role_arn, services.region, context)
    return _allows(statements, request)


async def trusts_service(services: ControlPlane, role_arn: str, service: str, caller: str) -> bool:
    """Whether the role exists and its trust policy names the service, which assumes it for the account.

    `caller` is the ARN of the session that the service begins.
    """
    named = [each for each in await _trust(services, role_arn) if _names_service(each.get("Principal"), service)]
    statements = [{**each, "Principal": "*"} for each in named]
    context = {"aws:sourceaccount": services.account_id}
    request = _request(caller, services.account_id, "sts:AssumeRole", role_arn, services.region, context)
    return _allows(statements, request)


async def _trust(services: ControlPlane, role_arn: str) -> list[dict[str, Any]]:
    """The statements of a role's trust policy; none for a role that does not exist."""
    try:
        answer = await services.call("iam", "GetRole", RoleName=role_arn.rpartition("/")[2])
    except ServiceError:
        return []
    statements = json.loads(unquote(answer["Role"]["AssumeRolePolicyDocument"])).get("Statement", [])
    return statements if isinstance(statements, list) else [statements]


def _names_callers(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, dict) and "AWS" in principal)


def _names_service(principal: Any, service: str) -> bool:
    named = principal.get("Service", []) if isinstance(principal, dict) else service
    return service in ([named] if isinstance(named, str) else named)


def _allows(statements: list[dict[str, Any]], request: iam_evaluator.EvalContext) -> bool:
    return bool(iam_evaluator.evaluate_trust_policy({"Statement": statements}, request.principal_arn, request))


def _request(
    principal: str, account_id: str, action: str, resource: str, region: str, context: Mapping[str, Any]
) -> iam_evaluator.EvalContext:
    return iam_evaluator.EvalContext(
        principal_arn=principal,
        principal_type="AssumedRole" if ":assumed-role/" in principal else "User",
        principal_account=account_id,
        action=action,
        resource_arn=resource,
        region=region,
        service_context=dict(context),
    )
