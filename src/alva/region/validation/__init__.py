"""Makes the services that MiniStack serves refuse what AWS refuses.

What a request must be is read from AWS's own models (`constraints`). What only AWS's documentation states is a function
for the action in the service's module here, with its source. MiniStack's handler answers what is left.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from alva.region import json_protocol, query_protocol
from alva.region.aws_error import AwsError
from alva.region.unexpected import Handler, Response
from alva.region.validation import constraints, iam, logs, secrets_manager, ssm, sts

Json = dict[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]
"""Has MiniStack answer an action of the same service; the answer of a query protocol is not read. Raises AwsError."""
Answer = Callable[[Json, Forward], Awaitable[Json]]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one service refuses, and which of its actions are answered here."""

    code: str
    """The code of the errors that the model gives rise to."""
    checks: Mapping[str, Callable[[Json], None]] = field(default_factory=dict)
    """Action -> raises AwsError for a request that AWS refuses."""
    references: Mapping[str, Callable[[Json, Forward], Awaitable[None]]] = field(default_factory=dict)
    """Action -> raises AwsError where the request names what does not exist."""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """Action -> answers it, by way of MiniStack or without. For services with a JSON protocol."""
    shows_values: bool = True
    """Whether messages repeat what was sent."""


RULES: Mapping[str, Rules] = {
    "iam": Rules(code="ValidationError", checks=iam.CHECKS, references=iam.REFERENCES, shows_values=False),
    "logs": Rules(code="InvalidParameterException", checks=logs.CHECKS, answers=logs.ANSWERS),
    "secretsmanager": Rules(code="ValidationException", checks=secrets_manager.CHECKS, answers=secrets_manager.ANSWERS),
    "ssm": Rules(code="ValidationException", checks=ssm.CHECKS),
    "sts": Rules(code="ValidationError", checks=sts.CHECKS),
}


def install(handlers: dict[str, Handler], more: Mapping[str, Mapping[str, Answer]] | None = None) -> None:
    """Put the rules before MiniStack's handlers of these services; `more` are actions that MiniStack does not have."""
    for service, rules in RULES.items():
        rules = replace(rules, answers={**rules.answers, **(more or {}).get(service, {})})
        guard = guard_json if constraints.service_model(service).metadata["protocol"] == "json" else _guard_query
        handlers[service] = guard(service, rules, handlers[service])


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
    """The handler of a service with a JSON protocol: `theirs`, behind the rules."""

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
