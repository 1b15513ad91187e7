"""Same origin, and paths that stay on this site."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from common.origins import is_same_origin, normalise_origin, safe_next


def request(scheme: str = "http", **headers: str) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {
            "type": "http",
            "method": "POST",
            "scheme": scheme,
            "path": "/",
            "query_string": b"",
            "headers": raw,
            "server": ("127.0.0.1", 80),
        }
    )


@pytest.mark.parametrize(
    ("headers", "scheme", "expected"),
    [
        ({"host": "Alva-123.elb.amazonaws.com", "origin": "http://alva-123.elb.amazonaws.com"}, "http", True),
        ({"host": "alva.example", "origin": "https://alva.example"}, "https", True),
        ({"host": "alva.example:443", "origin": "https://alva.example"}, "https", True),
        ({"host": "127.0.0.1:8080", "referer": "http://127.0.0.1:8080/onboarding?x=1"}, "http", True),
        ({"host": "alva.example", "origin": "http://alva.example"}, "https", False),
        ({"host": "alva.example", "origin": "https://alva.example.evil.example"}, "https", False),
        ({"host": "alva.example", "origin": "null"}, "https", False),
        ({"host": "alva.example"}, "https", False),
        (
            {"host": "alva.example", "origin": "https://evil.example", "referer": "https://alva.example/"},
            "https",
            False,
        ),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8081"}, "http", False),
        ({"host": "alva.example", "origin": "https://partner.example"}, "https", True),
        # A form that auth's host redirected (307): `Origin: null`, and the Referer names the page.
        ({"host": "alva.example", "origin": "null", "referer": "https://alva.example/"}, "https", True),
        ({"host": "alva.example", "origin": "null", "referer": "https://evil.example/"}, "https", False),
        ({"host": "alva.example", "origin": "null", "referer": "null"}, "https", False),
    ],
)
def test_origin_decides(headers: dict[str, str], scheme: str, expected: bool) -> None:
    assert is_same_origin(request(scheme, **headers), {"https://partner.example"}) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("HTTPS://Alva.Example:443", "https://alva.example"),
        ("http://a.example:8080/path", "http://a.example:8080"),
        ("ftp://a.example", None),
        ("https://", None),
        ("http://[bad", None),
        ("http://a.example:notaport", None),
    ],
)
def test_origins_are_compared_in_one_form(value: str, expected: str | None) -> None:
    assert normalise_origin(value) == expected


@pytest.mark.parametrize("path", ["/", "/plans", "/plans?page=2#top", "/a//b", "/%2f%2fevil.example"])
def test_own_path_is_followed(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "plans",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example",
        "/\n/evil.example",
        "/ /x",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/a\\b",
        "/\x7f",
    ],
)
def test_redirect_to_another_site_is_refused(path: str | None) -> None:
    assert safe_next(path, "/home") == "/home"


HOSTS = ("https://staging.alva.example", "https://admin-staging.alva.example")


@pytest.mark.parametrize(
    ("url", "followed"),
    [
        ("https://staging.alva.example/plans?page=2#top", "https://staging.alva.example/plans?page=2#top"),
        ("HTTPS://Staging.Alva.Example:443/plans", "https://staging.alva.example/plans"),
        ("https://admin-staging.alva.example", "https://admin-staging.alva.example/"),
        ("https://admin-staging.alva.example?x=1", "https://admin-staging.alva.example/?x=1"),
        ("https://staging.alva.example//evil.example", "https://staging.alva.example//evil.example"),
        ("https://evil.example@staging.alva.example/", "https://staging.alva.example/"),
        ("/plans", "/plans"),
    ],
)
def test_url_of_one_of_our_hosts_is_followed(url: str, followed: str) -> None:
    assert safe_next(url, "/home", HOSTS) == followed


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://api-staging.alva.example/api/docs",
        "https://alva.example/",
        "http://staging.alva.example/",
        "https://staging.alva.example:8443/",
        "https://staging.alva.example.evil.example/",
        "https://staging.alva.example@evil.example/",
        "https://evil.example#@staging.alva.example/",
        "https://evil.example\\@staging.alva.example/",
        "https://staging.alva.example\\.evil.example/",
        "https:staging.alva.example",
        "https:///staging.alva.example",
        "https:/\\staging.alva.example",
        "//staging.alva.example/",
        "\thttps://staging.alva.example/",
        "https://staging.alva\n.example/",
        "https://staging。alva.example/",
        "https://[staging.alva.example/",
        "javascript://staging.alva.example/%0aalert(1)",
    ],
)
def test_url_of_another_host_is_refused(url: str) -> None:
    assert safe_next(url, "/home", HOSTS) == "/home"
