"""Evaluates the IAM policies of a task's roles, with AWS's error messages.

The region acts as the account itself, except for calls that the Fargate agent makes with the role: these fail as on
AWS. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
"""

from __future__ import annotations

from alva.region import iam_policies
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs.errors import TaskStartError

_SERVICE = "ecs-tasks.amazonaws.com"


class Role:
    """A role that a task has assumed."""

    def __init__(self, session_arn: str, account_id: str, region: str) -> None:
        self._session_arn = session_arn
        self._account_id = account_id
        self._region = region

    def check(self, action: str, resource_arn: str) -> None:
        """Raise ServiceError AccessDeniedException, in IAM's words, unless the role allows `action` on the resource."""
        principal = iam_policies.principal_of(self._session_arn, self._account_id)
        context = {"aws:sourceaccount": self._account_id}
        decision = iam_policies.decide(principal, action, resource_arn, self._region, context)
        if decision == "Allow":
            return
        why = (
            "with an explicit deny in an identity-based policy"
            if decision == "Deny"
            else f"because no identity-based policy allows the {action} action"
        )
        raise ServiceError(
            action.partition(":")[0],
            action.partition(":")[2],
            "AccessDeniedException",
            f"User: {self._session_arn} is not authorized to perform: {action} on resource: {resource_arn} {why}",
        )


async def assume(control_plane: ControlPlane, arn: str, task_id: str) -> Role:
    """Assume a role for a task. Raises TaskStartError when it does not exist or does not trust ECS tasks."""
    session_arn = f"arn:aws:sts::{control_plane.account_id}:assumed-role/{arn.rpartition('/')[2]}/{task_id}"
    if not await iam_policies.trusts_service(control_plane, arn, _SERVICE, session_arn):
        raise TaskStartError(
            f"ECS was unable to assume the role '{arn}' that was provided for this task. Please verify that the "
            "role being passed has the proper trust relationship and permissions and that your IAM user has "
            "permissions to pass this role."
        )
    return Role(session_arn, control_plane.account_id, control_plane.region)
