"""Calls from a page to api and auth, on behalf of the signed-in user."""

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
"""Idle connections are closed before the server's keep-alive of 75 s ends."""
_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class Unavailable(Exception):
    """A backend is not available, or answered with 5xx."""

    def __init__(self, service: str, evidence: str) -> None:
        super().__init__(f"cannot reach {service}: {evidence}")
        self.service = service


class Refused(Exception):
    """A backend refused the request with 4xx and a reason."""

    def __init__(
        self, service: str, status: int, reason: str, fields: Mapping[str, str], retry_after: str = ""
    ) -> None:
        super().__init__(f"{service} answered {status}: {reason}")
        self.service = service
        self.status = status
        self.reason = reason
        self.fields = dict(fields)
        """Field name -> problem, from a 422 response."""
        self.retry_after = retry_after


class Backend:
    """A client of one service. The app opens it at start and closes it at its end."""

    def __init__(self, name: str, base_url: str) -> None:
        """`name` is also the service's path prefix: `api` has the prefix `/api`."""
        self.name = name
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=_TIMEOUT,
            limits=_LIMITS,
            trust_env=False,
            # All visitors share one client. It must not store cookies, or one visitor's would be sent for another.
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            # Connection attempts are repeated: DNS may still return the address of a stopped task.
            transport=httpx.AsyncHTTPTransport(retries=1, limits=_LIMITS, trust_env=False),
        )

    @property
    def client(self) -> httpx.AsyncClient:
        """The HTTP client, for calls without a user (JWKS, health)."""
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self, request: Request, method: str, path: str, *, json: Any = None, idempotency_key: str = ""
    ) -> httpx.Response:
        """Call the service on behalf of the page's visitor and return its 2xx response.

        If the connection breaks, an idempotent call (by its method or its idempotency key) is repeated once. Raises
        Refused for 4xx, and Unavailable for 5xx or no response.
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
    """Read FastAPI's error body: `detail` is a sentence, or a list with a `loc` and a `msg` for each field."""
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
