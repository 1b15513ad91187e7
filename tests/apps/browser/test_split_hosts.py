"""The product with a domain: each of the four services has its own host, over HTTPS."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.apps import envoy
from tests.apps.authority import Authority
from tests.apps.conftest import PostgresServer, RunningProcess, launch, wait_until_ready
from tests.ports import free_port

from .conftest import chromium_at, opening_tabs

pytestmark = [pytest.mark.browser, pytest.mark.nightly]

DOMAIN = "alva.test"
HOSTS = {"web": "staging", "api": "api-staging", "auth": "auth-staging", "admin": "admin-staging"}
URLS = {service: f"https://{label}.{DOMAIN}" for service, label in HOSTS.items()}
PREFIXES = {"web": "", "api": "/api", "auth": "/auth", "admin": "/admin"}
PASSWORD = "correct horse battery staple"
SISTER = f"https://blog.{DOMAIN}"
"""A host of the same domain that does not belong to the site."""
OpenTab = Callable[..., Page]


def _environment(service: str, ports: dict[str, int], common: dict[str, str]) -> dict[str, str]:
    """Return the service's environment variables as the templates set them with a domain."""
    internal = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    pages = {
        "NEXT_PUBLIC_API_URL": f"{URLS['api']}/api",
        "NEXT_PUBLIC_AUTH_URL": f"{URLS['auth']}/auth",
        "API_INTERNAL_URL": internal["api"],
        "AUTH_INTERNAL_URL": internal["auth"],
        "WEB_INTERNAL_URL": internal["web"],
        "PAGE_ORIGINS": f"{URLS['web']},{URLS['admin']}",
    }
    calls = {"CORS_ORIGINS": f"{URLS['web']},{URLS['admin']}"}
    mails = {"PUBLIC_URL": URLS["auth"], "SITE_URL": URLS["web"], "COOKIE_DOMAIN": DOMAIN}
    own = {"web": pages, "admin": pages, "api": calls, "auth": calls | mails}[service]
    return {**common, "PORT": str(ports[service]), "PATH_PREFIX": PREFIXES[service], **own}


@pytest.fixture(scope="module")
def split_services(
    service_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RunningProcess]]:
    """The four services with the variables of split hosts."""
    folder = tmp_path_factory.mktemp("split")
    ports = {service: free_port() for service in HOSTS}
    running = {
        service: launch(
            [sys.executable, "-m", service], _environment(service, ports, service_environment), folder, service
        )
        for service in HOSTS
    }
    for process in running.values():
        wait_until_ready(process)
    yield running
    for process in running.values():
        assert process.stop() == 0, process.log[-3000:]


@pytest.fixture(scope="module")
def split_port(
    split_services: dict[str, RunningProcess], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port where the load balancer terminates TLS for the four hosts and routes each to its service."""
    folder = tmp_path_factory.mktemp("split-envoy")
    certificate = authority.issue(folder, *(f"{label}.{DOMAIN}" for label in HOSTS.values()))
    site = {f"{label}.{DOMAIN}": {"": split_services[service].url} for service, label in HOSTS.items()}
    with envoy.serving(envoy.route_site(site), folder, certificate) as port:
        yield port


@pytest.fixture(scope="module")
def split_chromium(split_port: int) -> Iterator[Browser]:
    """A Chromium that resolves every name below the domain to the load balancer."""
    with chromium_at(f"*.{DOMAIN}", split_port) as browser:
        yield browser


@pytest.fixture
def open_tab(split_chromium: Browser) -> Iterator[OpenTab]:
    """Opens tabs at web's host."""
    with opening_tabs(split_chromium, URLS["web"]) as open_one:
        yield lambda **options: open_one(ignore_https_errors=True, **options)


def _sign_up(page: Page, outside: Any, password: str = "") -> str:
    email = f"split-{secrets.token_hex(4)}@example.com"
    page.goto("/signup")
    page.get_by_label("E-mail address").fill(email)
    if password:
        page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Send me the link").click()
    expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()
    outside.link_for(email)
    link = re.search(r"https://\S+", outside.mails_to(email)[-1]["text"])
    assert link
    assert link.group(0).startswith(f"{URLS['auth']}/auth/verify?token="), "the mail's link names auth's host"
    page.goto(link.group(0))
    expect(page.get_by_role("heading", name="About your business")).to_be_visible()
    assert page.url == f"{URLS['web']}/onboarding"
    return email


def _order_plan(page: Page) -> None:
    page.get_by_label("Name of the business").fill("Hagen’s Bakery")
    page.get_by_label("What it does").fill("Bakery with a café")
    page.get_by_label("Who your customers are").fill("Neighbours who come home from work")
    page.get_by_label("More new customers").check()
    page.get_by_role("button", name="Make my plan").click()
    page.wait_for_url("**/plans/*")


def test_customer_gets_from_sign_up_to_the_board(
    open_tab: OpenTab,
    outside: Any,
    worker: Any,  # noqa: ARG001
) -> None:
    page = open_tab()
    _sign_up(page, outside)
    outside.seconds_per_chunk = 0.15
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    _order_plan(page)
    expect(page.get_by_role("heading", name="Your plan is being made")).to_be_visible()
    page.evaluate("window.isSamePage = true")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", re.compile(r"[2-9]\d"))
    assert page.evaluate("window.isSamePage"), "progress comes by events, not by loading the page again"
    assert streams[0].startswith(f"{URLS['api']}/api/plans/"), "the browser sends requests to the api's own host"
    expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()
    page.get_by_role("link", name="Board", exact=True).click()
    page.get_by_role("button", name=re.compile("^Start")).first.click()
    expect(page.get_by_role("region", name="Doing").get_by_role("heading", level=3)).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Get your plan")).to_be_visible()
    assert page.url == f"{URLS['web']}/"
    assert page.context.cookies() == [], "nothing is left in the browser"


def test_form_with_an_expired_session_is_not_lost_between_hosts(
    open_tab: OpenTab,
    outside: Any,
    worker: Any,  # noqa: ARG001
) -> None:
    page = open_tab()
    _sign_up(page, outside)
    page.context.clear_cookies(name="alva_access")
    _order_plan(page)
    assert page.url.startswith(f"{URLS['web']}/plans/")
    expect(page.get_by_role("heading", name="Quick wins")).to_be_visible()


def test_password_signs_in_and_opens_the_back_office(
    open_tab: OpenTab, outside: Any, postgres: PostgresServer, database: str
) -> None:
    email = _sign_up(open_tab(), outside, PASSWORD)
    with postgres.connect(database) as connection:
        connection.execute("UPDATE auth.users SET role = 'admin' WHERE email = %s", [email])
    page = open_tab()
    page.goto(f"{URLS['admin']}/admin/users")
    assert page.url.startswith(f"{URLS['web']}/signin?next=")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{URLS['admin']}/admin/users")
    expect(page.get_by_role("heading", name="Users")).to_be_visible()
    # A form of the back office with an expired access token is redirected to auth's host and back, with its body.
    page.context.clear_cookies(name="alva_access")
    guest = f"guest-{secrets.token_hex(4)}@example.com"
    page.get_by_role("textbox", name="E-mail address").fill(guest)
    page.get_by_role("button", name="Send the invitation").click()
    expect(page.get_by_text("The invitation is on its way.")).to_be_visible()
    outside.link_for(guest)
    page.goto(f"{URLS['admin']}/admin")
    for service in HOSTS:
        expect(page.get_by_role("row", name=service).get_by_role("cell")).to_have_text("sha256:" + "a" * 64)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{URLS['web']}/")


def test_cookies_are_sent_only_to_the_hosts_that_need_them(open_tab: OpenTab, outside: Any) -> None:
    page = open_tab()
    _sign_up(page, outside)
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    scopes = {name: (cookie["domain"], cookie["path"]) for name, cookie in cookies.items()}
    assert scopes == {
        "alva_access": (f".{DOMAIN}", "/"),
        "alva_refresh": (f"{HOSTS['auth']}.{DOMAIN}", "/auth"),
    }, "the token that is good for a month is sent to auth's host alone"
    assert all(cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in cookies.values())
    assert {one["name"] for one in page.context.cookies(f"{SISTER}/auth/")} == {"alva_access"}


def test_other_host_of_the_domain_can_neither_call_nor_send_forms(
    open_tab: OpenTab, outside: Any, split_services: dict[str, RunningProcess]
) -> None:
    """Same-site requests have the site's cookies in spite of `SameSite`, so the origin is checked."""
    page = open_tab()
    _sign_up(page, outside)
    token = next(one["value"] for one in page.context.cookies() if one["name"] == "alva_access")
    with httpx.Client(trust_env=False, timeout=60, cookies={"alva_access": token}) as client:
        for service, method, path in (
            ("api", "PUT", "/api/profile"),
            ("auth", "PUT", "/auth/password"),
            ("web", "POST", "/onboarding"),
            ("admin", "POST", "/admin/users/invitations"),
        ):
            headers = {"Origin": SISTER, "Host": URLS[service].removeprefix("https://"), "X-Forwarded-Proto": "https"}
            answer = client.request(method, split_services[service].url + path, headers=headers)
            assert answer.status_code == 403, service
            assert "access-control-allow-origin" not in answer.headers
            asked = client.get(split_services[service].url + path, headers=headers)
            assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize(
    "target", [f"{SISTER}/", f"https://{DOMAIN}/", "https://evil.example/", f"{URLS['web']}.evil.example/", "//x.test"]
)
def test_sign_in_redirects_to_own_pages_only(open_tab: OpenTab, outside: Any, target: str) -> None:
    page = open_tab()
    _sign_up(page, outside)
    page.goto(f"{URLS['auth']}/auth/refresh?next={target}")
    assert page.url == f"{URLS['web']}/"
