"""The CloudFormation API: requests of the query protocol in, XML out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region import query_protocol
from alva.region.cloudformation import events, submissions
from alva.region.cloudformation.errors import Refused
from alva.region.cloudformation.intrinsics import Json, TemplateError

logger = logging.getLogger("alva.cloudformation")

Action = Callable[[Json], Json]
Response = tuple[int, dict[str, str], bytes]
RequestHandler = Callable[..., Awaitable[Response]]

_CONTENT_TYPE = "text/xml"


class Wire:
    """Answers requests with the region's own actions, and with MiniStack's service where there is none."""

    def __init__(self, actions: Mapping[str, Action], others: RequestHandler) -> None:
        self._actions = actions
        self._others = others
        self._model = query_protocol.service_model("cloudformation")

    async def handle_request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        """Answer one request."""
        form = query_protocol.read_form(body, query_params)
        name = form.get("Action", "")
        if name not in self._actions:
            return await self._others(method, path, headers, body, query_params)
        try:
            request = await submissions.with_template(query_protocol.parse(self._model, name, form))
            token = events.client_request_token.set(request.get("ClientRequestToken", ""))
            try:
                answer = self._actions[name](request)
            finally:
                events.client_request_token.reset(token)
        except (TemplateError, query_protocol.ConstraintViolated) as error:
            return self._error("ValidationError", str(error), 400)
        except Refused as error:
            return self._error(error.code, str(error), error.status)
        except Exception:
            logger.exception("cannot answer %s", name)
            return self._error("InternalFailure", "The local region failed; its log says why.", 500)
        return 200, {"Content-Type": _CONTENT_TYPE}, query_protocol.render(self._model, name, answer)

    def _error(self, code: str, message: str, status: int) -> Response:
        return status, {"Content-Type": _CONTENT_TYPE}, query_protocol.render_error(self._model, code, message)
