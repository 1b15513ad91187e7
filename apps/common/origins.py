"""Same-origin check: a browser's unsafe request that carries our cookies must come from our own pages."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def normalise_origin(value: str) -> str | None:
    """`scheme://host[:port]` in lower case without a default port; None where it is no http(s) origin.

    The names of load balancers come in mixed case, while browsers send origins in lower case.
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
    """Whether the request comes from our own pages, or from one of the `allowed` origins.

    Origin decides, then Referer; a request with neither is refused: every browser sends one with an unsafe method.
    `Origin: null` is no origin: a form that was sent on from another host of ours (307, to renew a sign-in) comes with
    it, and its Referer still names the page it was filled in on (Fetch, "append a request `Origin` header"). No page
    can make up another's Referer, and ours send forms to our own hosts only (Content-Security-Policy, form-action).
    """
    named = request.headers.get("origin", "")
    source = named if named not in ("", "null") else request.headers.get("referer")
    origin = normalise_origin(source) if source else None
    if origin is None:
        return False
    return origin == own_origin(request) or origin in {normalise_origin(entry) for entry in allowed}


def own_origin(request: HTTPConnection) -> str | None:
    """The origin that the browser sees this request's service at; None where the host is none."""
    return normalise_origin(f"{request.url.scheme}://{request.headers.get('host', '')}")


def safe_next(value: str | None, default: str = "/", origins: Collection[str] = ()) -> str:
    """Where to go on to: a path of this site, or a URL of one of `origins` (as `normalise_origin` writes them).

    `default` for whatever else could lead elsewhere (`//host`, `/\\host`, a URL). A URL is put together anew from what
    was checked: a browser reads no other host out of it.
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
