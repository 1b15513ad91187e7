"""Settings of a service with pages: the addresses of api and auth for browsers and for this task."""

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
    """The variables of web and admin (docs/reference/environment-variables.md)."""

    next_public_api_url: PublicUrl = "/api"
    next_public_auth_url: PublicUrl = "/auth"
    """Where browsers reach api and auth: a path on the same host, or a URL if each service has its own host."""
    api_internal_url: InternalUrl
    auth_internal_url: InternalUrl
    """Where this task reaches them: their Cloud Map names. Paths keep the service's prefix (`/api/...`)."""
    page_origins: CommaJoined = ()
    """Origins of all services with pages. A form may redirect to any of them, as the sign-in form does."""

    @property
    def public_origins(self) -> tuple[str, ...]:
        """The origins of api and auth, which pages may call. Empty if all services share one host."""
        return _origins(self.next_public_api_url, self.next_public_auth_url)

    @property
    def form_origins(self) -> tuple[str, ...]:
        """The origins that forms may be sent or redirected to. Chromium applies `form-action` to every redirect."""
        return _origins(*self.public_origins, *self.page_origins)


def _origins(*urls: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(origin for origin in map(normalise_origin, urls) if origin))
