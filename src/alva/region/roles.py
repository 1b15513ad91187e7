"""Enforces IAM roles: trust policies when a role is assumed, and the role's policies for requests with its credentials.

Requests signed with any other key have the account's full permissions. `iam_policies` evaluates the policies, as for
tasks' execution roles (`ecs/permissions.py`); this module adds the resources of ECS's requests. CloudFormation acts
with the account's permissions, also when it has a role.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from alva.region import iam_policies
from alva.region.asgi import ASGIApplication
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.requests import Request, Response, intercept

NAMESPACES = {"monitoring": "cloudwatch", "acm": "acm"}
"""Signing name of a service -> prefix of its actions in a policy, where they differ."""

RIGHTS = {
    "budgets:CreateBudget": "budgets:ModifyBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
    "budgets:DescribeBudget": "budgets:ViewBudget",
    "budgets:DescribeBudgets": "budgets:ViewBudget",
    "budgets:UpdateBudget": "budgets:ModifyBudget",
}
"""Operations whose IAM action has another name.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsbudgetservice.html
"""

_CLOUDFORMATION = "cloudformation.amazonaws.com"
ALWAYS_ALLOWED = frozenset({"sts:GetCallerIdentity"})

# By action, the members of ECS's requests that name the resources on which a policy is evaluated.
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
ECS_RESOURCES: dict[str, tuple[str, str]] = {
    "DescribeClusters": ("cluster", "clusters"),
    "DescribeServices": ("service", "services"),
    "DescribeServiceDeployments": ("service-deployment", "serviceDeploymentArns"),
    "DescribeServiceRevisions": ("service-revision", "serviceRevisionArns"),
    "DescribeTasks": ("task", "tasks"),
    "ExecuteCommand": ("task", "task"),
    "ListServiceDeployments": ("service", "service"),
    "RunTask": ("task-definition", "taskDefinition"),
    "StopServiceDeployment": ("service-deployment", "serviceDeploymentArn"),
    "StopTask": ("task", "task"),
    "UpdateService": ("service", "service"),
}


class Roles:
    """Checks the permissions of callers, for one account and region."""

    def __init__(self, account_id: str, region: str) -> None:
        self._account_id = account_id
        self._region = region
        self._services = ControlPlane(account_id, region)

    def guard(self, application: ASGIApplication) -> ASGIApplication:
        """Wrap the application with a permission check. A request without permission gets AWS's refusal."""
        return intercept(application, lambda request, _: self.refuse(request))

    async def refuse(self, request: Request) -> Response | None:
        """AWS's refusal of a request, or None."""
        if request.is_session:
            refused = await self._refuse_session(request)
            if refused is not None:
                return refused
        if (request.service, request.action) == ("sts", "AssumeRole"):
            return await self._refuse_assuming(request)
        if request.service == "cloudformation" and (role := request.member("RoleARN")):
            return await self._refuse_passing_to_cloudformation(request, str(role))
        return None

    async def _refuse_session(self, request: Request) -> Response | None:
        from ministack.core import iam_actions, iam_evaluator

        action = self._action(request)
        if action in ALWAYS_ALLOWED:
            return None
        principal = iam_evaluator.resolve_principal(request.access_key, self._account_id)
        if isinstance(principal, iam_evaluator.AuthError):
            return self._answer(request, action, "", code=principal.code, message=principal.message)
        wanted = [(action, resource, self._context(request)) for resource in self._resources(request)]
        wanted += [("iam:PassRole", arn, {"iam:passedtoservice": to}) for arn, to in await self._passed_roles(request)]
        for each, resource, context in wanted:
            keys = {"aws:resourceaccount": self._account_id, **context}
            decision = iam_policies.decide(principal, each, resource, self._region, keys)
            if decision != "Allow":
                message = iam_actions.identity_denial_message(each, principal.arn, resource, decision == "Deny")
                return self._answer(request, each, principal.arn, message=message, resource=resource)
        return None

    async def _refuse_assuming(self, request: Request) -> Response | None:
        """AccessDenied for a role that does not exist or does not trust the caller, as on AWS."""
        arn, caller = str(request.member("RoleArn")), self._caller(request)
        context = {"sts:externalid": request.member("ExternalId")}
        if await iam_policies.trusts_caller(self._services, arn, caller, context):
            return None
        message = f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        return self._answer(request, "sts:AssumeRole", caller, message=message)

    async def _refuse_passing_to_cloudformation(self, request: Request, arn: str) -> Response | None:
        """CloudFormation's ValidationError for a role that it cannot assume."""
        session = f"arn:aws:sts::{self._account_id}:assumed-role/{arn.rpartition('/')[2]}/AWSCloudFormation"
        if await iam_policies.trusts_service(self._services, arn, _CLOUDFORMATION, session):
            return None
        message = f"Role {arn} is invalid or cannot be assumed"
        return self._answer(request, "cloudformation", "", code="ValidationError", message=message)

    def _caller(self, request: Request) -> str:
        from ministack.core import iam_evaluator

        identity = iam_evaluator.resolve_caller_identity(request.access_key)
        return str(identity["userArn"]) if identity else f"arn:aws:iam::{self._account_id}:root"

    def _action(self, request: Request) -> str:
        from ministack.core import iam_actions

        if request.service == "s3":
            # Another service's name of an action, in the query or a header, does not count.
            query = {name: values for name, values in request.query.items() if name != "Action"}
            return str(iam_actions.extract_iam_action("s3", request.method, request.path, {}, b"", query))
        action = f"{NAMESPACES.get(request.service, request.service)}:{request.action}"
        return RIGHTS.get(action, action)

    def _resources(self, request: Request) -> list[str]:
        from ministack.core import iam_actions

        if request.service == "ecs":
            return self._ecs_resources(request)
        if (request.service, request.action) == ("ecr", "DescribeRepositories"):
            # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
            names = request.member("repositoryNames") or ["*"]
            return [f"arn:aws:ecr:{self._region}:{self._account_id}:repository/{name}" for name in names]
        if (request.service, request.action) == ("iam", "SimulatePrincipalPolicy"):
            return [str(request.member("PolicySourceArn"))]
        found = iam_actions.extract_resource_arn(
            request.service,
            request.method,
            request.path,
            dict(request.headers),
            request.body,
            {**request.form, **request.query},
            self._region,
            self._account_id,
        )
        return [found]

    def _ecs_resources(self, request: Request) -> list[str]:
        kind, member = ECS_RESOURCES.get(request.action, ("", ""))
        names = request.member(member) if member else None
        cluster = str(request.member("cluster") or "default").rpartition("/")[2]
        base = f"arn:aws:ecs:{self._region}:{self._account_id}:{kind}/"
        within = "" if kind in ("cluster", "task-definition") else f"{cluster}/"
        found = [
            name if name.startswith("arn:") else f"{base}{within}{name}"
            for name in ([names] if isinstance(names, str) else names or [])
        ]
        return found or ["*"]

    def _context(self, request: Request) -> dict[str, Any]:
        if request.service == "ecs" and (cluster := request.member("cluster")):
            name = str(cluster).rpartition("/")[2]
            return {"ecs:cluster": f"arn:aws:ecs:{self._region}:{self._account_id}:cluster/{name}"}
        return {}

    async def _passed_roles(self, request: Request) -> list[tuple[str, str]]:
        """The roles that the request passes to a service, with that service; the caller needs iam:PassRole."""
        if request.service == "cloudformation" and (role := request.member("RoleARN")):
            return [(str(role), _CLOUDFORMATION)]
        if (request.service, request.action) == ("ecs", "RunTask"):
            definition = await self._task_definition(request.member("taskDefinition"))
            roles = (definition.get(member) for member in ("executionRoleArn", "taskRoleArn"))
            return [(str(role), "ecs-tasks.amazonaws.com") for role in roles if role]
        return []

    async def _task_definition(self, name: object) -> Mapping[str, Any]:
        """ECS's description of a task definition; empty for an unknown one."""
        try:
            answer = await self._services.call("ecs", "DescribeTaskDefinition", taskDefinition=name)
        except ServiceError:
            return {}
        found: Mapping[str, Any] = answer["taskDefinition"]
        return found

    def _answer(
        self,
        request: Request,
        action: str,
        principal: str,
        *,
        code: str = "",
        message: str = "",
        resource: str = "*",
    ) -> Response:
        from ministack.core import iam_actions

        answer: Response = iam_actions.access_denied_response(
            request.service,
            action,
            principal,
            str(uuid.uuid4()),
            error_code=code,
            message=message,
            headers=dict(request.headers),
            resource_arn=resource,
        )
        return (400, *answer[1:]) if code == "ValidationError" else answer
