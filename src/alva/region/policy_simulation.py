"""iam:SimulatePrincipalPolicy for every requested resource, within the role's permissions boundary.

MiniStack evaluates only the first resource, and no boundary. The evaluator is the same as for execution roles when a
task starts (`ecs/permissions.py`). https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

DECISIONS = {"Allow": "allowed", "Deny": "explicitDeny"}


def install() -> None:
    """Replace two functions of MiniStack's IAM with these."""
    from ministack.services import iam

    iam._extract_simulate_params = read_parameters
    iam._build_simulate_results_real = evaluate


def read_parameters(parameters: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The actions and resources of the request; without a resource, `*`."""
    return _members(parameters, "ActionNames"), _members(parameters, "ResourceArns") or ["*"]


def evaluate(actions: list[str], resources: list[str], principal: str, account: str, policies: list[Any]) -> str:
    """An evaluation result for each action on each resource."""
    from ministack.core import iam_evaluator
    from ministack.core.responses import get_region
    from ministack.services import iam

    boundary: list[Any] = []
    if ":role/" in principal:
        boundary = iam_evaluator._permissions_boundary(iam._roles, principal.rpartition("/")[2], account)
    results = []
    for action in actions:
        for resource in resources:
            found = iam_evaluator.evaluate(
                iam_evaluator.EvalContext(
                    principal_arn=principal,
                    principal_type="AssumedRole" if ":role/" in principal else "User",
                    principal_account=account,
                    action=action,
                    resource_arn=resource,
                    region=get_region(),
                ),
                policies,
                *boundary,
            )
            results.append(
                f"<member><EvalActionName>{escape(action)}</EvalActionName>"
                f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
                f"<EvalDecision>{DECISIONS.get(found.decision, 'implicitDeny')}</EvalDecision>"
                "<MatchedStatements></MatchedStatements><MissingContextValues></MissingContextValues></member>"
            )
    return "".join(results)


def _members(parameters: dict[str, Any], name: str) -> list[str]:
    from ministack.services import iam

    found: list[str] = []
    while value := iam._p(parameters, f"{name}.member.{len(found) + 1}"):
        found.append(value)
    return found
