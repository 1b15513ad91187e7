"""Calls from a page's request to the services behind it, in the name of who is signed in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from starlette.requests import Request

from common.logs import trace_headers
from common.tokens import ACCESS_COOKIE

log = logging.getLogger(__name__)

_TIMEOUT = httpx.Timeout(10.0, connect=2.0)
_LIMITS = httpx.Limits(max_connections=50, max_keepalive_connections=10, keepalive_expiry=30.0)
"""Idle connections end before the other side's keep-alive (75 s) would end them under a request."""
_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class Unavailable(Exception):
    """A service behind the page does not answer, or answers with an error of its own."""

    def __init__(self, service: str, evidence: str) -> None:
        super().__init__(f"cannot reach {service}: {evidence}")
        self.service = service


class Refused(Exception):
    """A service answered that this request cannot be done as it is: 4xx, with the service's reason."""

    def __init__(
        self, service: str, status: int, reason: str, fields: Mapping[str, str], retry_after: str = ""
    ) -> None:
        super().__init__(f"{service} answered {status}: {reason}")
        self.service = service
        self.status = status
        self.reason = reason
        self.fields = dict(fields)
        """Field name -> what is wrong with it (of a 422)."""
        self.retry_after = retry_after


class Backend:
    """One service behind the pages. Open at start, closed at the end of the app."""

    def __init__(self, name: str, base_url: str) -> None:
        """`name` is also the service's path prefix: `api` answers under `/api`."""
        self.name = name
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=_TIMEOUT,
            limits=_LIMITS,
            trust_env=False,
            # One client serves all visitors: what auth sets for one of them must never be sent in another's name.
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            # Connections that cannot be made are tried again: a task that has just stopped may still be in the name.
            transport=httpx.AsyncHTTPTransport(retries=1, limits=_LIMITS, trust_env=False),
        )

    @property
    def client(self) -> httpx.AsyncClient:
        """The HTTP client, for calls that are not in anybody's name (JWKS, health)."""
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self, request: Request, method: str, path: str, *, json: Any = None, idempotency_key: str = ""
    ) -> httpx.Response:
        """Call the service in the name of the page's visitor and return its 2xx answer.

        Repeatable calls (by method, or by an idempotency key) are made a second time where the connection broke.
        Raises Refused for 4xx, Unavailable for 5xx and where there is no answer.
        """
        headers = trace_headers() | {"X-Forwarded-Proto": request.url.scheme}
        token = request.cookies.get(ACCESS_COOKIE)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        attempts = 2 if method in _REPEATABLE_METHODS or idempotency_key else 1
        response = await self._send(attempts, method, path, headers, json)
        if response.is_success:
            return response
        if response.is_client_error:
            reason, fields = _read_refusal(response)
            raise Refused(self.name, response.status_code, reason, fields, response.headers.get("retry-after", ""))
        raise Unavailable(self.name, f"{method} {path} answered {response.status_code}")

    async def _send(
        self, attempts: int, method: str, path: str, headers: Mapping[str, str], json: Any
    ) -> httpx.Response:
        for attempt in range(1, attempts + 1):
            try:
                return await self._client.request(method, path, headers=dict(headers), json=json)
            except httpx.TimeoutException as error:
                raise Unavailable(self.name, f"{method} {path}: {type(error).__name__}") from error
            except httpx.TransportError as error:
                if attempt == attempts:
                    raise Unavailable(self.name, f"{method} {path}: {error or type(error).__name__}") from error
                log.info("%s %s of %s is repeated: %s", method, path, self.name, error or type(error).__name__)
        raise AssertionError("unreachable")


def _read_refusal(response: httpx.Response) -> tuple[str, dict[str, str]]:
    """The reason in FastAPI's error body: `detail` is a sentence, or a list with a `loc` and a `msg` per field."""
    try:
        detail = response.json().get("detail", "")
    except (ValueError, AttributeError):
        return "", {}
    if isinstance(detail, str):
        return detail, {}
    if not isinstance(detail, list):
        return "", {}
    fields = {
        str(entry["loc"][-1]): str(entry["msg"]).removeprefix("Value error, ")
        for entry in detail
        if isinstance(entry, dict) and entry.get("loc") and entry.get("msg")
    }
    return "", fields
