"""The dispatch of the region's own APIs with the query protocol. Every input is checked before anything changes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from botocore.model import ServiceModel
from ministack.core.responses import get_account_id, get_region

from alva.region import query_protocol
from alva.region.aws_error import AwsError

Json = dict[str, Any]
Call = Callable[[Json], Json | Awaitable[Json]]
READS = ("Describe", "List")
"""The beginnings of the names of actions that change nothing."""


class QueryApi:
    """The actions of a service."""

    def __init__(
        self,
        service: str,
        home: tuple[str, str],
        calls: Mapping[str, Call],
        calls_elsewhere: Mapping[str, Call],
        not_offered: Callable[[str, str], AwsError],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`home` is the account and region of `calls`; requests for others get `calls_elsewhere`.

        `not_offered` returns the error for an action without a call, and where it has none ("" is everywhere).
        `changed` is called after every action that may have changed something.
        """
        self._service = service
        self._home = home
        self._calls = calls
        self._calls_elsewhere = calls_elsewhere
        self._not_offered = not_offered
        self._changed = changed

    @property
    def _model(self) -> ServiceModel:
        return query_protocol.service_model(self._service)

    async def handle_request(
        self,
        method: str,  # noqa: ARG002 - MiniStack's signature of a service
        path: str,  # noqa: ARG002
        headers: dict[str, str],  # noqa: ARG002
        body: bytes,
        query_params: dict[str, Any],
    ) -> query_protocol.Response:
        """Answer one request."""
        form = query_protocol.read_form(body, query_params)
        action = form.get("Action", "")
        try:
            return query_protocol.answer(self._model, action, await self._perform(action, form))
        except AwsError as error:
            return query_protocol.refuse(self._model, error)

    async def _perform(self, action: str, parameters: query_protocol.Parameters) -> Json:
        """Carry out an action for the running request's account and region. Raises AwsError."""
        if action not in self._model.operation_names:
            version = self._model.metadata.get("apiVersion")
            raise AwsError("InvalidAction", f"Could not find operation {action} for version {version}")
        if action not in self._calls:
            raise self._not_offered(action, "")
        calls = self._calls if (get_account_id(), get_region()) == self._home else self._calls_elsewhere
        if action not in calls:
            account, region = self._home
            raise self._not_offered(action, f" outside account {account} and region {region}")
        try:
            request = query_protocol.parse(self._model, action, parameters)
        except query_protocol.ConstraintViolated as error:
            raise AwsError("ValidationError", str(error)) from error
        answer = calls[action](request)
        if inspect.isawaitable(answer):
            answer = await answer
        if not action.startswith(READS):
            self._changed()
        return answer
