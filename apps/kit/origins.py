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
    """
    source = request.headers.get("origin") or request.headers.get("referer")
    origin = normalise_origin(source) if source else None
    if origin is None:
        return False
    own = normalise_origin(f"{request.url.scheme}://{request.headers.get('host', '')}")
    return origin == own or origin in {normalise_origin(entry) for entry in allowed}


def safe_next(value: str | None, default: str = "/") -> str:
    """A path on this site to go on to; `default` for what could lead elsewhere (`//host`, `/\\host`, a URL)."""
    if not value or not value.startswith("/") or value.startswith(("//", "/\\")):
        return default
    if "\\" in value or any(ord(character) < 0x21 or ord(character) == 0x7F for character in value):
        return default
    return value
