"""IAM's rules that are not in its model: invalid trust policies and ARNs.

Messages: recorded from AWS in LocalStack's snapshots (tests/aws/services/iam), and
https://github.com/99designs/iamy/issues/74 (`Syntax errors in policy.`),
https://github.com/devopsacademyau/academy/pull/1368 (`Has prohibited field Resource`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region.aws_error import AwsError

Json = dict[str, Any]

Forward = Callable[[str, Json], Awaitable[Json]]

_VERSIONS = (None, "2012-10-17", "2008-10-17")
# For the services of the region; recorded from AWS in LocalStack's snapshots (test_service_role_lifecycle_*).
_WITHOUT_SUFFIX = frozenset(
    f"{name}.amazonaws.com"
    for name in (
        "acm", "ecr", "ecs", "elasticache", "elasticloadbalancing", "pullthroughcache.ecr", "rds", "replication.ecr",
        "ssm", "wafv2",
    )
)  # fmt: skip


def check_trust_policy(request: Json) -> None:
    """CreateRole and UpdateAssumeRolePolicy: the grammar of a policy, with a principal and without a resource.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
    """
    document = request.get("AssumeRolePolicyDocument") or request.get("PolicyDocument") or ""
    try:
        policy = json.loads(document)
    except ValueError as error:
        raise _malformed("This policy contains invalid Json") from error
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    listed = statements if isinstance(statements, list) else [statements]
    if not listed or policy.get("Version") not in _VERSIONS:
        raise _malformed("Syntax errors in policy.")
    for statement in listed:
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise _malformed("Syntax errors in policy.")
        for name in ("Action", "Principal"):
            if name not in statement and f"Not{name}" not in statement:
                raise _malformed(f"Missing required field {name}")
        for name in ("Resource", "NotResource"):
            if name in statement:
                raise _malformed(f"Has prohibited field {name}")


def check_policy_arn(request: Json) -> None:
    """AttachRolePolicy: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html"""
    if request["PolicyArn"].count(":") < 5 or not request["PolicyArn"].startswith("arn:"):
        raise AwsError("ValidationError", "Invalid ARN:  Could not be parsed!")


async def check_policy_exists(request: Json, forward: Forward) -> None:
    """AttachRolePolicy: a policy of the account must exist. AWS's managed policies are not checked."""
    if request["PolicyArn"].startswith("arn:aws:iam::aws:"):
        return
    try:
        await forward("GetPolicy", {"PolicyArn": request["PolicyArn"]})
    except AwsError as error:
        message = f"Policy {request['PolicyArn']} does not exist or is not attachable."
        raise AwsError("NoSuchEntity", message, 404) from error


def check_suffix(request: Json) -> None:
    """CreateServiceLinkedRole: most services allow no suffix."""
    service = request["AWSServiceName"]
    if request.get("CustomSuffix") and service in _WITHOUT_SUFFIX:
        raise AwsError("InvalidInput", f"Custom suffix is not allowed for {service}")


def _malformed(message: str) -> AwsError:
    return AwsError("MalformedPolicyDocument", message)


CHECKS: Mapping[str, Callable[[Json], None]] = {
    "AttachRolePolicy": check_policy_arn,
    "CreateRole": check_trust_policy,
    "CreateServiceLinkedRole": check_suffix,
    "DetachRolePolicy": check_policy_arn,
    "UpdateAssumeRolePolicy": check_trust_policy,
}
REFERENCES: Mapping[str, Callable[[Json, Forward], Awaitable[None]]] = {"AttachRolePolicy": check_policy_exists}
