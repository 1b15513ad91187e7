"""Makes MiniStack's services refuse the requests that AWS refuses.

Requests are checked against AWS's models (`constraints`). Rules that only AWS's documentation states are functions in
the service's module here, with their source. MiniStack's handler answers accepted requests.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from alva.region import constraints, json_protocol, query_protocol
from alva.region.aws_error import AwsError
from alva.region.validation import ec2, iam, logs, secrets_manager, sns, ssm, sts

if TYPE_CHECKING:
    from alva.region.unexpected import Handler, Response

Json = dict[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]
"""Calls MiniStack's handler for an action of the same service; the response of a query protocol is not parsed. Raises
AwsError."""
Answer = Callable[[Json, Forward], Awaitable[Json]]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of one service, and the actions that are handled here."""

    code: str
    """The error code for a violation of the model."""
    checks: Mapping[str, Callable[[Json], None]] = field(default_factory=dict)
    """Action -> raises AwsError for a request that AWS refuses."""
    references: Mapping[str, Callable[[Json, Forward], Awaitable[None]]] = field(default_factory=dict)
    """Action -> raises AwsError if the request names a resource that does not exist."""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """Action -> its handler, with or without MiniStack's. For services with a JSON protocol."""
    shows_values: bool = True
    """Whether messages contain the sent values."""


RULES: Mapping[str, Rules] = {
    "iam": Rules(code="ValidationError", checks=iam.CHECKS, references=iam.REFERENCES, shows_values=False),
    "logs": Rules(code="InvalidParameterException", checks=logs.CHECKS, answers=logs.ANSWERS),
    "secretsmanager": Rules(code="ValidationException", checks=secrets_manager.CHECKS, answers=secrets_manager.ANSWERS),
    "sns": Rules(code="ValidationError", checks=sns.CHECKS, references=sns.REFERENCES),
    "ssm": Rules(code="ValidationException", checks=ssm.CHECKS),
    "sts": Rules(code="ValidationError", checks=sts.CHECKS),
}


def install(handlers: dict[str, Handler], more: Mapping[str, Mapping[str, Answer]] | None = None) -> None:
    """Apply the rules before MiniStack's handlers; `more` are actions that MiniStack does not have."""
    for service, rules in RULES.items():
        rules = replace(rules, answers={**rules.answers, **(more or {}).get(service, {})})
        handlers[service] = _guard(service, rules, handlers[service])
    handlers["ec2"] = ec2.guard(handlers["ec2"])


def _guard(service: str, rules: Rules, theirs: Handler) -> Handler:
    """Wrap MiniStack's handler of a service. The service's model is read at the first request."""

    json_guard, query_guard = guard_json(service, rules, theirs), _guard_query(service, rules, theirs)

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        is_json = constraints.service_model(service).metadata["protocol"] == "json"
        return await (json_guard if is_json else query_guard)(method, path, headers, body, query_params)

    return handle


def _guard_query(service: str, rules: Rules, theirs: Handler) -> Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        model = constraints.service_model(service)
        form = query_protocol.read_form(body, query_params)

        async def forward(action: str, request: Json) -> Json:
            encoded = urlencode({"Action": action, **query_protocol.flatten(request)}).encode()
            status, _, answer = await theirs(method, path, headers, encoded, {})
            if status >= 400:
                code, message = query_protocol.read_error(answer)
                raise AwsError(code, message, status)
            return {}

        action = form.get("Action", "")
        try:
            if action in model.operation_names:
                request = query_protocol.parse(model, action, form, shows_values=rules.shows_values)
                if check := rules.checks.get(action):
                    check(request)
                if reference := rules.references.get(action):
                    await reference(request, forward)
        except constraints.ConstraintViolated as error:
            return query_protocol.refuse(model, AwsError(rules.code, str(error)))
        except AwsError as error:
            return query_protocol.refuse(model, error)
        return await theirs(method, path, headers, body, query_params)

    return handle


def guard_json(service: str, rules: Rules, theirs: Handler) -> Handler:
    """Wrap MiniStack's handler `theirs` of a service with a JSON protocol, so that the rules apply first."""

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        model = constraints.service_model(service)
        prefix, _, action = headers.get("x-amz-target", "").rpartition(".")
        if action not in model.operation_names:
            return await theirs(method, path, headers, body, query_params)

        async def forward(action: str, request: Json) -> Json:
            target = {**headers, "x-amz-target": f"{prefix}.{action}"}
            status, _, answer = await theirs(method, path, target, json.dumps(request).encode(), query_params)
            content: Json = json.loads(answer or b"{}")
            if status >= 400:
                code = str(content.get("__type", "")).rpartition("#")[2]
                raise AwsError(code, str(content.get("message") or content.get("Message") or ""), status)
            return content

        try:
            request = json_protocol.read(body)
            constraints.check(model.operation_model(action).input_shape, request, shows_values=rules.shows_values)
            if check := rules.checks.get(action):
                check(request)
            if answer := rules.answers.get(action):
                return json_protocol.answer(await answer(request, forward))
        except constraints.WrongType as error:
            return json_protocol.refuse(AwsError("SerializationException", str(error)))
        except constraints.ConstraintViolated as error:
            return json_protocol.refuse(AwsError(rules.code, str(error)))
        except AwsError as error:
            return json_protocol.refuse(error)
        return await theirs(method, path, headers, body, query_params)

    return handle
