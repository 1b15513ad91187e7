"""Evaluates the IAM policies of a task's roles, with AWS's error messages.

MiniStack evaluates them (`ministack.core.iam_evaluator`, with private names; `test_permissions.py` checks that they
exist). The region acts as the account itself, except for calls that the Fargate agent makes with the role: these fail
as on AWS. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
"""

from __future__ import annotations

import json
from typing import Any

from alva.region.control_plane import ServiceError
from alva.region.ecs.errors import TaskStartError
from alva.region.ecs.model import Json

_SERVICE = "ecs-tasks.amazonaws.com"


class Role:
    """A role that a task has assumed."""

    def __init__(self, arn: str, task_id: str, *, account_id: str, region: str) -> None:
        """Assume the role. Raises TaskStartError when it does not exist or does not trust ECS tasks."""
        self._name = arn.rpartition("/")[2]
        self._session_arn = f"arn:aws:sts::{account_id}:assumed-role/{self._name}/{task_id}"
        self._account_id = account_id
        self._region = region
        if not self._trusts_tasks():
            raise TaskStartError(
                f"ECS was unable to assume the role '{arn}' that was provided for this task. Please verify that the "
                "role being passed has the proper trust relationship and permissions and that your IAM user has "
                "permissions to pass this role."
            )

    def check(self, action: str, resource_arn: str) -> None:
        """Raise ServiceError AccessDeniedException, in IAM's words, unless the role allows `action` on the resource."""
        from ministack.core import iam_evaluator
        from ministack.services import iam

        policies = iam_evaluator._gather_role_policies(self._name, self._account_id)
        boundary = iam_evaluator._permissions_boundary(iam._roles, self._name, self._account_id)
        result = iam_evaluator.evaluate(self._context(action, resource_arn), policies, *boundary)
        if result.decision == "Allow":
            return
        why = (
            "with an explicit deny in an identity-based policy"
            if result.decision == "Deny"
            else f"because no identity-based policy allows the {action} action"
        )
        raise ServiceError(
            action.partition(":")[0],
            action.partition(":")[2],
            "AccessDeniedException",
            f"User: {self._session_arn} is not authorized to perform: {action} on resource: {resource_arn} {why}",
        )

    def _context(self, action: str, resource_arn: str) -> Any:
        from ministack.core import iam_evaluator

        return iam_evaluator.EvalContext(
            principal_arn=self._session_arn,
            principal_type="AssumedRole",
            principal_account=self._account_id,
            action=action,
            resource_arn=resource_arn,
            region=self._region,
            service_context={"aws:sourceaccount": self._account_id},
        )

    def _trusts_tasks(self) -> bool:
        from ministack.core import iam_evaluator
        from ministack.services import iam

        role: Json | None = iam._roles.get_scoped(self._account_id, None, self._name)
        if role is None:
            return False
        document = role["AssumeRolePolicyDocument"]
        statements = (json.loads(document) if isinstance(document, str) else document).get("Statement", [])
        context = self._context("sts:AssumeRole", "*")
        allowed = False
        for statement in statements if isinstance(statements, list) else [statements]:
            principal = statement.get("Principal", {})
            services = principal.get("Service", []) if isinstance(principal, dict) else [_SERVICE]
            if _SERVICE not in ([services] if isinstance(services, str) else services):
                continue
            if not iam_evaluator._conditions_met(statement.get("Condition", {}), context):
                continue
            if statement["Effect"] == "Deny":
                return False
            allowed = True
        return allowed
