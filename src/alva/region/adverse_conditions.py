"""Simulates AWS under load: reads lag behind writes, requests are throttled, roles work some seconds after their
creation, and tasks need as long to start as on Fargate.

`ALVA_ADVERSE_CONDITIONS` turns this on; its value divides AWS's seconds. Without it, nothing here runs. Calls between
services within the region are not affected, since AWS's own services retry them.
"""

from __future__ import annotations

import json
import random
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable

from alva.region import json_protocol
from alva.region.asgi import READ_ONLY, ASGIApplication
from alva.region.aws_error import AwsError
from alva.region.config import RegionConfig
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.requests import Request, Response, intercept
from alva.region.unexpected import error_response

READ_LAG_SECONDS = 5.0
"""How long reads may return former values and miss new records. AWS publishes no figure.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html ("eventual consistency model")
"""

ROLE_SECONDS = 10.0
"""How long a new role cannot be assumed. AWS publishes no figure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html ("Changes that I make are not always immediately
visible")
"""

NAME_IS_TAKEN_SECONDS = 30.0
"""https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DeleteParameter.html"""

TASK_START_SECONDS = (30.0, 60.0)
"""From RunTask to RUNNING on Fargate. An estimate: AWS publishes no figure."""

THROTTLE_EVERY = 20
"""Every n-th request to a service is throttled."""

LAGGING = ("ecs", "iam", "ssm")
MOST_ANSWERS = 1000


def task_start_seconds(config: RegionConfig, task_id: str) -> float:
    """How long a task waits before it starts; 0 without adverse conditions."""
    if not config.adverse_conditions:
        return 0.0
    return random.Random(task_id).uniform(*TASK_START_SECONDS) / config.adverse_conditions  # noqa: S311


class AdverseConditions:
    """Delays and refuses requests, for one account and region."""

    def __init__(self, config: RegionConfig) -> None:
        self._scale = config.adverse_conditions
        self._services = ControlPlane(config.account_id, config.region)
        self._requests: defaultdict[str, int] = defaultdict(int)
        self._answers: OrderedDict[tuple[object, ...], tuple[float, Response]] = OrderedDict()
        self._created: dict[str, float] = {}
        """When tasks, parameters and roles were created, by ARN or name."""
        self._deleted: dict[str, float] = {}
        """When parameters were deleted."""

    def guard(self, application: ASGIApplication) -> ASGIApplication:
        """Wrap the application so that its requests are delayed and refused."""
        return intercept(application, self._answer)

    async def _answer(self, request: Request, respond: Callable[[], Awaitable[Response]]) -> Response | None:
        refused = await self._refuse(request)
        if refused is not None or request.service not in LAGGING:
            return refused
        return await self._lagging(request, respond)

    async def _refuse(self, request: Request) -> Response | None:
        if not request.service:
            return None
        self._requests[request.service] += 1
        if self._requests[request.service] % THROTTLE_EVERY == 0:
            return _throttled(request)
        if (request.service, request.action) == ("sts", "AssumeRole"):
            return await self._refuse_new_role(request)
        if (request.service, request.action) == ("ssm", "PutParameter") and not request.member("Overwrite"):
            deleted = self._deleted.get(str(request.member("Name")), float("-inf"))
            if time.monotonic() - deleted < NAME_IS_TAKEN_SECONDS / self._scale:
                message = (
                    "The parameter already exists. To overwrite this value, set the overwrite option in the request to"
                    " true."
                )
                return json_protocol.refuse(AwsError("ParameterAlreadyExists", message))
        return None

    async def _refuse_new_role(self, request: Request) -> Response | None:
        arn = str(request.member("RoleArn"))
        try:
            found = await self._services.call("iam", "GetRole", RoleName=arn.rpartition("/")[2])
        except ServiceError:
            return None
        age = time.time() - found["Role"]["CreateDate"].timestamp()
        if age >= ROLE_SECONDS / self._scale:
            return None
        message = f"User is not authorized to perform: sts:AssumeRole on resource: {arn}"
        return error_response(request.service, request.headers, AwsError("AccessDenied", message, 403))

    async def _lagging(self, request: Request, respond: Callable[[], Awaitable[Response]]) -> Response:
        key = (request.service, request.action, request.body)
        is_read = request.action.startswith(READ_ONLY)
        kept = self._answers.get(key) if is_read else None
        if kept is not None and time.monotonic() - kept[0] < READ_LAG_SECONDS / self._scale:
            return self._without_new(request, kept[1])
        response = await respond()
        if is_read:
            self._answers[key] = (time.monotonic(), response)
            self._answers.move_to_end(key)
            while len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
            return self._without_new(request, response)
        if response[0] < 300:
            self._note_changes(request, response)
        return response

    def _note_changes(self, request: Request, response: Response) -> None:
        now = time.monotonic()
        match request.service, request.action:
            case "ecs", "RunTask":
                for task in json.loads(response[2])["tasks"]:
                    self._created[task["taskArn"]] = now
            case "ssm", "PutParameter" if json.loads(response[2]).get("Version") == 1:
                self._created[str(request.member("Name"))] = now
            case "ssm", "DeleteParameter":
                self._deleted[str(request.member("Name"))] = now
            case "ssm", "DeleteParameters":
                self._deleted |= dict.fromkeys(request.member("Names") or (), now)
            case "iam", "CreateRole":
                self._created[str(request.member("RoleName"))] = now

    def _is_new(self, name: str) -> bool:
        return time.monotonic() - self._created.get(name, float("-inf")) < READ_LAG_SECONDS / self._scale

    def _without_new(self, request: Request, response: Response) -> Response:
        """The response of a read, without records that were created within the lag."""
        status, headers, body = response
        if status >= 300:
            return response
        match request.service, request.action:
            case "iam", "GetRole" if self._is_new(name := str(request.member("RoleName"))):
                message = f"The role with name {name} cannot be found."
                return error_response("iam", request.headers, AwsError("NoSuchEntity", message, 404))
            case "ssm", "GetParameter" if self._is_new(str(request.member("Name"))):
                return json_protocol.refuse(AwsError("ParameterNotFound", ""))
            case "ssm", "GetParametersByPath" | "GetParameters":
                content = json.loads(body)
                new = [each["Name"] for each in content["Parameters"] if self._is_new(each["Name"])]
                content["Parameters"] = [each for each in content["Parameters"] if each["Name"] not in new]
                if "InvalidParameters" in content:
                    content["InvalidParameters"] += new
            case "ecs", "DescribeTasks":
                content = json.loads(body)
                new = [task["taskArn"] for task in content["tasks"] if self._is_new(task["taskArn"])]
                content["tasks"] = [task for task in content["tasks"] if task["taskArn"] not in new]
                content["failures"] += [{"arn": arn, "reason": "MISSING"} for arn in new]
            case "ecs", "ListTasks":
                content = json.loads(body)
                content["taskArns"] = [arn for arn in content["taskArns"] if not self._is_new(arn)]
            case _:
                return response
        return status, headers, json.dumps(content).encode()


def _throttled(request: Request) -> Response:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html and each service's own name for it."""
    if request.service == "s3":
        error = AwsError("SlowDown", "Please reduce your request rate.", 503)
    elif request.service == "ec2":
        error = AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)
    elif "x-amz-target" in request.headers:
        error = AwsError("ThrottlingException", "Rate exceeded")
    else:
        error = AwsError("Throttling", "Rate exceeded")
    return error_response(request.service, request.headers, error)
