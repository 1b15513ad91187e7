"""The environment of a service with pages: where browsers and where this task find api and auth."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from common.origins import normalise_origin
from common.settings import CommaJoined, ServiceSettings


def _check_public_url(value: str) -> str:
    if value.startswith("/") and not value.startswith("//"):
        return value.rstrip("/")
    if normalise_origin(value):
        return value.rstrip("/")
    raise ValueError("must be a path of this host (/api) or an http(s) URL")


def _check_internal_url(value: str) -> str:
    if normalise_origin(value) is None or urlsplit(value).path not in {"", "/"}:
        raise ValueError("must be an http(s) URL without a path, such as http://api.alva-staging.local:3001")
    return value.rstrip("/")


PublicUrl = Annotated[str, AfterValidator(_check_public_url)]
InternalUrl = Annotated[str, AfterValidator(_check_internal_url)]


class SiteSettings(ServiceSettings):
    """What web and admin are given (docs/architecture.md, the environment of a task)."""

    next_public_api_url: PublicUrl = "/api"
    next_public_auth_url: PublicUrl = "/auth"
    """Where browsers find the api and auth: a path of the same host, or absolute when hosts are split."""
    api_internal_url: InternalUrl
    auth_internal_url: InternalUrl
    """Where this task finds them: Cloud Map names. Paths there keep their service's prefix (`/api/...`)."""
    page_origins: CommaJoined = ()
    """Origins of all services with pages: a form may end at any of them (signing in, on the way to the back office)."""

    @property
    def public_origins(self) -> tuple[str, ...]:
        """Origins of api and auth, which pages may call; none where one host serves all."""
        return _origins(self.next_public_api_url, self.next_public_auth_url)

    @property
    def form_origins(self) -> tuple[str, ...]:
        """Origins that forms may be sent to, and redirected to: Chromium holds each step to `form-action`."""
        return _origins(*self.public_origins, *self.page_origins)


def _origins(*urls: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(origin for origin in map(normalise_origin, urls) if origin))
