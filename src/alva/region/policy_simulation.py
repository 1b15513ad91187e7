"""iam:SimulatePrincipalPolicy and SimulateCustomPolicy for every requested resource, within the permissions boundary.

MiniStack evaluates only the first resource, and ignores the boundary.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from typing import Any

from ministack import app
from ministack.core.iam_evaluator import PrincipalInfo, parse_policy_document
from ministack.core.responses import get_account_id, get_region

from alva.region import iam_policies, query_protocol
from alva.region.query_protocol import Json, Response

DECISIONS = {"Allow": "allowed", "Deny": "explicitDeny"}


def install() -> None:
    """Answer both actions, and pass all others to IAM."""
    others = app.SERVICE_HANDLERS["iam"]
    model = query_protocol.service_model("iam")

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        form = query_protocol.read_form(body, query_params)
        action = form.get("Action", "")
        if action not in ("SimulatePrincipalPolicy", "SimulateCustomPolicy"):
            answer: Response = await others(method, path, headers, body, query_params)
            return answer
        request = query_protocol.parse(model, action, form)
        results = {"EvaluationResults": evaluate(request), "IsTruncated": False}
        return query_protocol.answer(model, action, results)

    app.SERVICE_HANDLERS["iam"] = handle


def evaluate(request: Json) -> list[Json]:
    """An evaluation result for each action on each resource; without a resource, `*`."""
    account_id = get_account_id()
    if "PolicySourceArn" in request:
        principal = iam_policies.principal_of(request["PolicySourceArn"], account_id)
    else:
        policies = [parse_policy_document(document) for document in request["PolicyInputList"]]
        principal = PrincipalInfo(f"arn:aws:iam::{account_id}:root", "User", account_id, policies)
    return [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": DECISIONS.get(
                iam_policies.decide(principal, action, resource, get_region(), {}), "implicitDeny"
            ),
            "MatchedStatements": [],
            "MissingContextValues": [],
        }
        for action in request["ActionNames"]
        for resource in request.get("ResourceArns") or ["*"]
    ]
