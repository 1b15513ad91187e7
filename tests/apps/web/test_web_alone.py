"""Web while api and auth are down."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import web
from common.settings import SettingsError, load
from common.site.app import page_policy
from web.app import WebSettings

PUBLIC_PAGES = ("/", "/signup", "/signin", "/signin/confirm", "/check-mail")
GUARDED_PAGES = ("/plans", "/onboarding", f"/plans/{'0' * 8}-0000-0000-0000-{'0' * 12}")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("path", PUBLIC_PAGES)
def test_public_page_needs_no_other_service(lonely_web: httpx.Client, path: str) -> None:
    answer = lonely_web.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", [*PUBLIC_PAGES, "/no-such-page"])
def test_page_loads_only_own_files_and_has_no_inline_script(lonely_web: httpx.Client, path: str) -> None:
    answer = lonely_web.get(path)
    page = _Page(answer.text)
    loaded = [element.get("src") for element in page.all("script") + page.all("img")]
    loaded += [element.get("href") for element in page.all("link")]
    assert all(url is not None and url.startswith("/static/") for url in loaded), loaded
    inline = [
        name for _, attributes in page.elements for name in attributes if name == "style" or name.startswith("on")
    ]
    assert not inline
    assert not page.all("style")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", [*PUBLIC_PAGES, "/no-such-page"])
def test_page_has_a_language_a_title_a_skip_link_and_one_heading(lonely_web: httpx.Client, path: str) -> None:
    text = lonely_web.get(path).text
    page = _Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert re.search(r"<title>[^<]+ · Alva</title>", text)
    assert page.all("a")[0]["href"] == "#main"
    assert any(main.get("id") == "main" for main in page.all("main"))
    assert len(page.all("h1")) == 1


@pytest.mark.parametrize("path", ["/signup", "/signin"])
def test_every_visible_field_has_a_label(lonely_web: httpx.Client, path: str) -> None:
    page = _Page(lonely_web.get(path).text)
    labelled = {label.get("for") for label in page.all("label")}
    fields = [field["id"] for field in page.all("input") if field.get("type") != "hidden"]
    assert fields
    assert set(fields) <= labelled


def test_static_file_is_cached_for_a_year_under_its_content_hash(lonely_web: httpx.Client) -> None:
    page = _Page(lonely_web.get("/").text)
    href = next(link["href"] for link in page.all("link") if link.get("rel") == "stylesheet")
    assert href is not None
    assert re.fullmatch(r"/static/alva\.css\?v=[0-9a-f]{12}", href)
    answer = lonely_web.get(href)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "cache-control" not in lonely_web.get("/static/alva.css").headers


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fsite/app.py"])
def test_static_files_outside_their_folder_are_not_served(lonely_web: httpx.Client, path: str) -> None:
    request = lonely_web.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert lonely_web.send(request).status_code == 404


@pytest.mark.parametrize("path", GUARDED_PAGES)
def test_protected_page_redirects_to_auth_which_can_renew_the_session(lonely_web: httpx.Client, path: str) -> None:
    answer = lonely_web.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/auth/refresh?next={path}"


def test_sign_in_redirect_keeps_the_query(lonely_web: httpx.Client) -> None:
    answer = lonely_web.get("/plans?page=2&x=%26")
    assert answer.headers["location"] == "/auth/refresh?next=/plans%3Fpage%3D2%26x%3D%2526"


def test_form_is_sent_again_after_its_expired_session_is_renewed(lonely_web: httpx.Client) -> None:
    origin = str(lonely_web.base_url).rstrip("/")
    answer = lonely_web.post("/onboarding", headers={"Origin": origin}, data={"business_name": "Hagen"})
    assert answer.status_code == 307, "307 keeps the method and the body"
    assert answer.headers["location"] == "/auth/refresh?next=/onboarding"


@pytest.mark.parametrize("path", ["/signup", "/signin", "/onboarding"])
@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_form_from_another_site_is_refused(lonely_web: httpx.Client, path: str, headers: dict[str, str]) -> None:
    answer = lonely_web.post(path, headers=headers, data={"email": "a@example.com"})
    assert answer.status_code == 403
    assert "Nothing was changed" in answer.text


def test_unreachable_auth_is_reported_in_a_message(lonely_web: httpx.Client) -> None:
    origin = str(lonely_web.base_url).rstrip("/")
    answer = lonely_web.post("/signup", headers={"Origin": origin}, data={"email": "a@example.com"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "We cannot do this right now" in answer.text
    assert answer.headers["x-request-id"] in answer.text, "the reference for support"
    assert "Traceback" not in answer.text
    assert "ConnectError" not in answer.text


def test_unavailable_auth_does_not_sign_a_user_out(lonely_web: httpx.Client) -> None:
    # A well-formed token: its key must be fetched, and auth is down.
    token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImtleSIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln"
    answer = lonely_web.get("/plans", headers={"Cookie": f"alva_access={token}"})
    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/no-such-page", "/.env", "/index.php", "/signin/", "/plans/"])
def test_unknown_page_is_a_404_page(lonely_web: httpx.Client, path: str) -> None:
    answer = lonely_web.get(path)
    assert answer.status_code == 404
    assert "This page does not exist" in answer.text


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_sign_in_form_ignores_a_next_of_another_site(lonely_web: httpx.Client, target: str) -> None:
    page = _Page(lonely_web.get("/signin", params={"next": target}).text)
    assert [field["value"] for field in page.all("input") if field.get("name") == "next"] == [""]


def test_confirmation_sends_the_links_token_to_auth_and_nothing_else(lonely_web: httpx.Client) -> None:
    token = 'a.b-c_d&next=//evil.example"><script>'
    page = _Page(lonely_web.get("/signin/confirm", params={"token": token}).text)
    assert [form["method"] for form in page.all("form")] == ["post"]
    action = urlsplit(page.all("form")[0]["action"] or "")
    assert (action.netloc, action.path, parse_qs(action.query)) == ("", "/auth/verify", {"token": [token]})
    assert not page.all("script")


def test_entered_text_is_shown_as_text_and_not_as_markup(lonely_web: httpx.Client) -> None:
    target = '/plans?"><script>alert(1)</script>'
    answer = lonely_web.get("/signin", params={"next": target.replace(" ", "")})
    assert "<script>alert" not in answer.text


def test_answers_name_service_and_digest(lonely_web: httpx.Client) -> None:
    answer = lonely_web.get("/health")
    assert answer.status_code == 200
    assert answer.headers["x-alva-service"] == "web"
    assert answer.headers["x-alva-digest"] == "sha256:" + "ab" * 32


def test_deep_health_names_services_that_do_not_answer(lonely_web: httpx.Client) -> None:
    answer = lonely_web.get("/health?deep=1")
    assert answer.status_code == 503
    assert set(answer.json()["checks"]) == {"api", "auth"}


def test_wrong_settings_are_named_one_per_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "3000")
    monkeypatch.setenv("API_INTERNAL_URL", "http://api.alva-staging.local:3001/api")
    monkeypatch.setenv("NEXT_PUBLIC_AUTH_URL", "auth.example.com")
    monkeypatch.delenv("AUTH_INTERNAL_URL", raising=False)
    with pytest.raises(SettingsError) as caught:
        load(WebSettings)
    lines = str(caught.value).splitlines()
    assert lines[0] == "cannot start web: wrong settings"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "NEXT_PUBLIC_AUTH_URL",
        "API_INTERNAL_URL",
        "AUTH_INTERNAL_URL",
    ]


def test_content_security_policy_allows_split_hosts_only() -> None:
    settings = WebSettings(
        port=3000,
        api_internal_url="http://api.alva-staging.local:3001",
        auth_internal_url="http://auth.alva-staging.local:3002",
        next_public_api_url="https://API.example.com/api",
        next_public_auth_url="https://auth.example.com/auth",
        page_origins=("https://www.example.com", "https://ADMIN.example.com"),
    )
    policy = page_policy(settings.public_origins, settings.form_origins)
    hosts = "https://api.example.com https://auth.example.com"
    assert f"connect-src 'self' {hosts};" in policy
    assert f"form-action 'self' {hosts} https://www.example.com https://admin.example.com;" in policy
    assert "script-src 'self';" in policy


def test_templates_never_disable_escaping() -> None:
    folders = [Path(web.__file__).parent / "templates", Path(web.__file__).parents[1] / "common" / "site" / "templates"]
    templates = [template for folder in folders for template in folder.glob("*.html")]
    assert templates
    assert not [template.name for template in templates if re.search(r"\|\s*safe|autoescape", template.read_text())]
