"""The client address comes from trusted proxies only."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from common.proxies import Caller, find_caller

VPC = IPv4Network("10.0.0.0/16")


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        pytest.param(
            "10.0.1.7",
            {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"},
            Caller("203.0.113.9", "https", is_inside=False),
            id="through the load balancer",
        ),
        pytest.param(
            "10.0.1.7",
            {"x-forwarded-for": "1.2.3.4, 203.0.113.9", "x-forwarded-proto": "https"},
            Caller("203.0.113.9", "https", is_inside=False),
            id="a client that made up a hop",
        ),
        pytest.param(
            "10.0.10.5",
            {"x-forwarded-for": "203.0.113.9, 10.0.1.7", "x-forwarded-proto": "http"},
            Caller("203.0.113.9", "http", is_inside=False),
            id="through the load balancer and web",
        ),
        pytest.param("10.0.10.5", {}, Caller("10.0.10.5", "http", is_inside=True), id="a health check"),
        pytest.param("127.20.10.5", {}, Caller("127.20.10.5", "http", is_inside=True), id="the local region's"),
        pytest.param(
            "203.0.113.9",
            {"x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "https"},
            Caller("203.0.113.9", "http", is_inside=False),
            id="a stranger who pretends",
        ),
        pytest.param(
            "10.0.1.7",
            {"x-forwarded-for": "unknown", "x-forwarded-proto": "gopher"},
            Caller("unknown", "http", is_inside=False),
            id="nonsense",
        ),
    ],
)
def test_client_address_is_the_one_that_trusted_proxies_report(
    peer: str, headers: dict[str, str], expected: Caller
) -> None:
    assert find_caller(peer, "http", headers, VPC) == expected


def test_without_a_vpc_only_loopback_is_trusted() -> None:
    assert find_caller("10.0.1.7", "http", {"x-forwarded-for": "1.2.3.4"}, None).client == "10.0.1.7"
