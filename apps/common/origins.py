"""Same-origin check: an unsafe request with this site's cookies must come from this site's pages."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def normalise_origin(value: str) -> str | None:
    """Return `scheme://host[:port]` in lower case without a default port, or None if it is not an http(s) origin.

    Load balancers have DNS names in mixed case, and browsers send origins in lower case.
    """
    try:
        parts = urlsplit(value.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host:
        return None
    default_port = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default_port) else "")


def is_same_origin(request: HTTPConnection, allowed: Collection[str] = ()) -> bool:
    """Return whether the request comes from this site's pages or from one of the `allowed` origins.

    `Origin` decides, else `Referer`. A request with neither is refused: every browser sends one of them with an unsafe
    method. With `Origin: null` the Referer decides: a form that another host of this site redirects here (307, to renew
    a sign-in) has `Origin: null`, and its Referer names the page with the form (Fetch, "append a request `Origin`
    header"). A page cannot forge another page's Referer, and this site's pages send forms to its own hosts only
    (Content-Security-Policy, form-action).
    """
    named = request.headers.get("origin", "")
    source = named if named not in ("", "null") else request.headers.get("referer")
    origin = normalise_origin(source) if source else None
    if origin is None:
        return False
    return origin == own_origin(request) or origin in {normalise_origin(entry) for entry in allowed}


def own_origin(request: HTTPConnection) -> str | None:
    """Return the service's origin as the browser sees it, or None if the Host header is invalid."""
    return normalise_origin(f"{request.url.scheme}://{request.headers.get('host', '')}")


def safe_next(value: str | None, default: str = "/", origins: Collection[str] = ()) -> str:
    """Return a redirect target: a path of this site, or a URL of one of `origins` (in `normalise_origin`'s form).

    Return `default` for anything that could lead to another site (`//host`, `/\\host`, another URL). A URL is rebuilt
    from its checked parts, so that a browser cannot read another host from it.
    """
    if not value or "\\" in value or any(ord(character) < 0x21 or ord(character) == 0x7F for character in value):
        return default
    if value.startswith("/"):
        return default if value.startswith("//") else value
    origin = normalise_origin(value)
    if origin is None or origin not in origins:
        return default
    parts = urlsplit(value)
    query, fragment = parts.query and f"?{parts.query}", parts.fragment and f"#{parts.fragment}"
    return f"{origin}{parts.path or '/'}{query}{fragment}"
