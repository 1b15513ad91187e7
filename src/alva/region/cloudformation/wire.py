"""The CloudFormation API: requests of the query protocol in, XML out."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from botocore.model import ServiceModel

from alva.region import query_protocol
from alva.region.aws_error import AwsError
from alva.region.cloudformation import events, submissions
from alva.region.cloudformation.intrinsics import Json, TemplateError

Action = Callable[[Json], Json | Awaitable[Json]]


class Wire:
    """Answers requests with the region's actions, and refuses those without one."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = actions

    @property
    def _model(self) -> ServiceModel:
        return query_protocol.service_model("cloudformation")

    async def handle_request(
        self,
        method: str,  # noqa: ARG002
        path: str,  # noqa: ARG002
        headers: dict[str, str],  # noqa: ARG002
        body: bytes,
        query_params: dict[str, Any],
    ) -> query_protocol.Response:
        """Answer one request."""
        form = query_protocol.read_form(body, query_params)
        name = form.get("Action", "")
        if name not in self._actions:
            unknown = AwsError("InvalidAction", f"the local region does not have {name or 'a call without an action'}")
            return query_protocol.refuse(self._model, unknown)
        try:
            request = await submissions.with_template(query_protocol.parse(self._model, name, form))
            token = events.client_request_token.set(request.get("ClientRequestToken", ""))
            try:
                answer = self._actions[name](request)
                if inspect.isawaitable(answer):
                    answer = await answer
            finally:
                events.client_request_token.reset(token)
        except (TemplateError, query_protocol.ConstraintViolated) as error:
            return query_protocol.refuse(self._model, AwsError("ValidationError", str(error)))
        except RecursionError:
            too_deep = AwsError("ValidationError", "Template format error: unsupported structure.")
            return query_protocol.refuse(self._model, too_deep)
        except AwsError as error:
            return query_protocol.refuse(self._model, error)
        return query_protocol.answer(self._model, name, answer)
