"""Registration, sign-in and sessions, through a browser's requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from auth.limits import Limit, Limits
from tests.apps.conftest import (
    PUBLIC_URL,
    Outside,
    Person,
    PostgresServer,
    RunningProcess,
    ValkeyServer,
    new_email,
)
from tests.waiting import until

Browser = Callable[[], httpx.Client]
PASSWORD = "correct horse battery staple"


def age_refresh_tokens(postgres: PostgresServer, database: str, email: str) -> None:
    """Move the use of a user's refresh tokens one minute into the past."""
    with postgres.connect(database) as connection:
        connection.execute(
            "UPDATE auth.refresh_tokens SET used_at = used_at - interval '1 minute' WHERE session_id IN"
            " (SELECT s.id FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id WHERE u.email = %s)",
            [email],
        )


def test_visitor_registers_opens_the_link_and_is_signed_in(browser: Browser, outside: Outside) -> None:
    client = browser()
    name = new_email("New.Person")
    answer = client.post("/register", json={"email": f" {name} "})
    assert answer.status_code == 202
    token = outside.link_for(name.lower())
    assert f"{PUBLIC_URL}/auth/verify?token={token}" in outside.mails_to(name.lower())[0]["text"]
    opened = client.get("/verify", params={"token": token})
    assert opened.status_code == 303
    assert opened.headers["location"] == "/onboarding"
    me = client.get("/me").json()
    assert (me["email"], me["role"], me["is_verified"]) == (name.lower(), "customer", True)


def test_link_works_once(browser: Browser, sign_up: Callable[..., Person], outside: Outside) -> None:
    person = sign_up()
    token = outside.link_for(person.email)
    again = browser().get("/verify", params={"token": token})
    assert (again.status_code, again.headers["location"]) == (303, "/signin?problem=link")
    assert "set-cookie" not in again.headers


def test_link_opened_twice_at_once_signs_in_one_browser(browser: Browser, outside: Outside) -> None:
    email = new_email()
    browser().post("/register", json={"email": email})
    token = outside.link_for(email)
    clients = [browser() for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda client: client.post("/verify", params={"token": token}), clients))
    assert sorted(answer.headers["location"] for answer in answers) == ["/onboarding"] + 4 * ["/signin?problem=link"]


def test_link_that_a_mail_scanner_followed_still_works(browser: Browser, outside: Outside) -> None:
    email = new_email()
    client, scanner = browser(), browser()
    client.post("/register", json={"email": email})
    token = outside.link_for(email)
    assert scanner.head("/verify", params={"token": token}).status_code == 405
    for _ in range(3):
        followed = scanner.get("/verify", params={"token": token})
        assert (followed.status_code, followed.headers["location"]) == (303, f"/signin/confirm?token={token}")
        assert "set-cookie" not in followed.headers
    assert client.get("/verify", params={"token": token}).headers["location"] == "/onboarding"


def test_link_opened_in_another_browser_signs_in_after_a_question(
    browser: Browser, sign_up: Callable[..., Person], outside: Outside
) -> None:
    person, phone = sign_up(), browser()
    person.auth.post("/link", json={"email": person.email})
    until(lambda: len(outside.mails_to(person.email)) == 2, "the second mail")
    token = outside.link_for(person.email)
    phone.post("/link", json={"email": new_email("somebody-else")})  # The cookie of another request must not count.
    assert phone.get("/verify", params={"token": token}).headers["location"].startswith("/signin/confirm")
    assert phone.post("/verify", params={"token": token}).headers["location"] == "/plans"
    assert phone.get("/me").json()["email"] == person.email


def test_page_of_another_site_cannot_sign_a_visitor_in_with_its_own_link(browser: Browser, outside: Outside) -> None:
    attackers = new_email("attacker")
    browser().post("/register", json={"email": attackers})
    token, visitor = outside.link_for(attackers), browser()
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert visitor.post("/verify", params={"token": token}, headers=headers).status_code == 403
    bare = httpx.post(f"{visitor.base_url}verify", params={"token": token}, trust_env=False)
    assert bare.status_code == 403
    visitor.get("/verify", params={"token": token})
    assert visitor.get("/me").status_code == 401


def test_expired_link_redirects_to_the_sign_in_page(
    browser: Browser, outside: Outside, postgres: PostgresServer, database: str
) -> None:
    email = new_email()
    client = browser()
    client.post("/register", json={"email": email})
    token = outside.link_for(email)
    with postgres.connect(database) as connection:
        connection.execute("UPDATE auth.links SET expires_at = now() WHERE email = %s", [email])
    assert client.get("/verify", params={"token": token}).headers["location"] == "/signin?problem=link"


def test_password_works_once_the_address_is_proven(browser: Browser, outside: Outside) -> None:
    email = new_email()
    client = browser()
    client.post("/register", json={"email": email, "password": PASSWORD})
    login = {"email": email, "password": PASSWORD}
    assert client.post("/login", json=login).status_code == 401
    client.get("/verify", params={"token": outside.link_for(email)})
    elsewhere = browser()
    answer = elsewhere.post("/login", json={**login, "email": email.upper()})
    assert answer.status_code == 200
    assert answer.json()["email"] == email
    assert elsewhere.get("/me").status_code == 200


def test_password_registered_by_somebody_else_is_not_accepted(browser: Browser, outside: Outside) -> None:
    email = new_email("victim")
    attacker, victim = browser(), browser()
    attacker.post("/register", json={"email": email, "password": PASSWORD})
    victim.post("/verify", params={"token": outside.link_for(email)})
    assert victim.get("/me").json()["has_password"] is False
    assert attacker.post("/login", json={"email": email, "password": PASSWORD}).status_code == 401


def test_registering_a_known_address_does_not_change_the_account(
    browser: Browser, outside: Outside, sign_up: Callable[..., Person]
) -> None:
    person = sign_up(password=PASSWORD)
    stranger = browser()
    other = "another password, long enough"
    assert stranger.post("/register", json={"email": person.email, "password": other}).status_code == 202
    stranger.get("/verify", params={"token": outside.link_for(person.email)})
    assert browser().post("/login", json={"email": person.email, "password": other}).status_code == 401
    assert browser().post("/login", json={"email": person.email, "password": PASSWORD}).status_code == 200


def test_answers_do_not_reveal_whether_an_address_is_registered(
    browser: Browser, sign_up: Callable[..., Person]
) -> None:
    known, unknown = sign_up(password=PASSWORD).email, new_email("unknown")

    def response_to(path: str, email: str, **more: str) -> tuple[int, str, set[str]]:
        answer = browser().post(path, json={"email": email, **more})
        return answer.status_code, answer.text, set(answer.headers) - {"date"}

    for path, more in (("/register", {}), ("/link", {}), ("/login", {"password": "wrong, wrong, wrong"})):
        assert response_to(path, known, **more) == response_to(path, unknown, **more), path


def test_login_is_as_much_work_for_an_unknown_address(
    browser: Browser, sign_up: Callable[..., Person], auth: RunningProcess
) -> None:
    known = sign_up(password=PASSWORD).email
    client = browser()

    def work(email: str) -> int:
        """Return the CPU time of a sign-in in clock ticks, which other work on this machine does not change."""
        before = processor_ticks(auth.process.pid)
        client.post("/login", json={"email": email, "password": "wrong, wrong, wrong"})
        return processor_ticks(auth.process.pid) - before

    work(new_email())  # The first attempt computes the hash for unknown addresses.
    known_work = sum(work(known) for _ in range(7))
    unknown_work = sum(work(new_email()) for _ in range(7))
    assert unknown_work > 0.5 * known_work, "an answer without argon2 would be many times cheaper"


def processor_ticks(pid: int) -> int:
    """utime and stime of proc(5)'s stat, over all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_password_guessing_is_limited_and_gets_retry_after(browser: Browser, sign_up: Callable[..., Person]) -> None:
    email = sign_up(password=PASSWORD).email
    client = browser()
    statuses = [client.post("/login", json={"email": email, "password": f"guess number {n}"}) for n in range(12)]
    assert [answer.status_code for answer in statuses].count(401) == 10
    assert statuses[-1].status_code == 429
    assert int(statuses[-1].headers["Retry-After"]) > 0
    assert client.post("/login", json={"email": email, "password": PASSWORD}).status_code == 429


def test_mailbox_is_not_flooded(browser: Browser) -> None:
    email, client = new_email(), browser()
    answers = [client.post(path, json={"email": email}) for path in ("/register", "/link") * 4]
    assert [answer.status_code for answer in answers] == [202] * 6 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("path", "more", "name", "limit"),
    [
        ("/login", {"password": "wrong, wrong, wrong"}, "login-client", Limits().login_per_client),
        ("/link", {}, "mail-client", Limits().mail_per_client),
    ],
)
def test_one_client_cannot_try_many_addresses(
    browser: Browser, valkey: ValkeyServer, path: str, more: dict[str, str], name: str, limit: Limit
) -> None:
    """The counter is set as if many addresses had been tried."""
    client, address = browser(), "198.51.100.77"

    def attempt(from_address: str) -> int:
        headers = {"X-Forwarded-For": from_address}
        return client.post(path, json={"email": new_email(), **more}, headers=headers).status_code

    assert attempt(address) in {202, 401}
    with redis.Redis(port=valkey.port, password=valkey.password) as cache:
        (key,) = [key for key in cache.scan_iter(f"limit:{name}:*") if int(cache.get(key) or 0) == 1]
        cache.incrby(key, limit.count - 2)
    assert attempt(address) in {202, 401}, "the last that is allowed"
    assert attempt(address) == 429
    assert attempt("198.51.100.78") in {202, 401}, "somebody else"


def test_refresh_returns_new_tokens_and_revokes_the_old_one(
    sign_up: Callable[..., Person], browser: Browser, postgres: PostgresServer, database: str
) -> None:
    person = sign_up()
    old = person.auth.cookies["alva_refresh"]
    assert person.auth.post("/refresh").status_code == 200
    assert person.auth.cookies["alva_refresh"] != old
    age_refresh_tokens(postgres, database, person.email)
    thief = browser()
    assert thief.post("/refresh", headers={"Cookie": f"alva_refresh={old}"}).status_code == 401
    assert person.auth.post("/refresh").status_code == 401, (
        "the session ends for both: nobody can tell who is the thief"
    )


def test_two_tabs_that_refresh_at_once_both_stay_signed_in(sign_up: Callable[..., Person], browser: Browser) -> None:
    person = sign_up()
    cookie = {"Cookie": f"alva_refresh={person.auth.cookies['alva_refresh']}"}
    tabs = [browser() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda tab: tab.post("/refresh", headers=cookie), tabs))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(tab.post("/refresh").status_code == 200 for tab in tabs)


def test_page_with_an_expired_token_is_shown_after_a_refresh(sign_up: Callable[..., Person]) -> None:
    person = sign_up()
    page = person.auth.get("/refresh", params={"next": "/plans?page=2"})
    assert (page.status_code, page.headers["location"]) == (303, "/plans?page=2")
    form = person.auth.post("/refresh", params={"next": "/onboarding"})
    assert (form.status_code, form.headers["location"]) == (307, "/onboarding")
    person.auth.cookies.clear()
    lost = person.auth.get("/refresh", params={"next": "/plans?page=2&x=1"})
    assert (lost.status_code, lost.headers["location"]) == (303, "/signin?next=/plans%3Fpage%3D2%26x%3D1")


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "\\\\evil",
    ],
)
def test_redirects_stay_on_this_site(
    sign_up: Callable[..., Person], browser: Browser, outside: Outside, target: str
) -> None:
    person = sign_up()
    assert person.auth.get("/refresh", params={"next": target}).headers["location"] == "/"
    assert person.auth.post("/logout", params={"next": target}).headers["location"] == "/"
    email = new_email()
    client = browser()
    client.post("/register", json={"email": email, "next": target})
    opened = client.get("/verify", params={"token": outside.link_for(email)})
    assert opened.headers["location"] == "/onboarding"


def test_link_redirects_to_the_requested_page(browser: Browser, outside: Outside) -> None:
    email = new_email()
    client = browser()
    client.post("/register", json={"email": email, "next": "/plans/1?tab=board"})
    opened = client.get("/verify", params={"token": outside.link_for(email)})
    assert opened.headers["location"] == "/plans/1?tab=board"


def test_signing_out_ends_the_session(sign_up: Callable[..., Person], browser: Browser) -> None:
    person = sign_up()
    cookie = person.auth.cookies["alva_refresh"]
    assert person.auth.post("/logout").status_code == 204
    assert not person.auth.cookies
    assert browser().post("/refresh", headers={"Cookie": f"alva_refresh={cookie}"}).status_code == 401


def test_password_on_a_page_signs_in_the_browser_that_sent_it_and_no_other(
    sign_up: Callable[..., Person], browser: Browser
) -> None:
    person, page, other = sign_up(password=PASSWORD), browser(), browser()
    body = {"email": person.email, "password": PASSWORD, "next": "/plans/1"}
    answer = page.post("/login/link", json=body)
    assert answer.status_code == 200
    assert [line.split("=")[0] for line in answer.headers.get_list("set-cookie")] == ["alva_browser"]
    token = {"token": answer.json()["token"]}
    assert other.get("/verify", params=token).headers["location"].startswith("/signin/confirm"), (
        "another browser must confirm"
    )
    signed_in = page.get("/verify", params=token)
    assert (signed_in.headers["location"], page.get("/me").json()["email"]) == ("/plans/1", person.email)
    assert page.get("/verify", params=token).headers["location"] == "/signin?problem=link", "once"


def test_wrong_password_on_a_page_is_refused_and_counted_as_anywhere(
    sign_up: Callable[..., Person], browser: Browser
) -> None:
    person = sign_up(password=PASSWORD)
    bodies = [{"email": person.email, "password": f"wrong password {number}"} for number in range(11)]
    paths = ["/login", "/login/link"]
    answers = [browser().post(paths[number % 2], json=body) for number, body in enumerate(bodies)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert not any("alva_browser" in answer.cookies for answer in answers)


def test_signing_out_everywhere_works_after_the_access_token_expired(
    sign_up: Callable[..., Person], browser: Browser
) -> None:
    person = sign_up(password=PASSWORD)
    phone = browser()
    phone.post("/login", json={"email": person.email, "password": PASSWORD})
    person.auth.cookies.delete("alva_access")
    foreign = person.auth.post("/logout-all", headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    answer = person.auth.post("/logout-all", params={"next": "/"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert phone.post("/refresh").status_code == 401


def test_signing_out_everywhere_requires_a_session(browser: Browser) -> None:
    assert browser().post("/logout-all").status_code == 401
    answer = browser().post("/logout-all", params={"next": "/account"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin?next=/account")


def test_signing_out_everywhere_ends_every_session(browser: Browser, sign_up: Callable[..., Person]) -> None:
    person = sign_up(password=PASSWORD)
    phone = browser()
    phone.post("/login", json={"email": person.email, "password": PASSWORD})
    assert person.auth.post("/logout-all").status_code == 204
    assert phone.post("/refresh").status_code == 401


def test_mail_is_retried_with_one_key_and_a_failed_mail_is_no_error(browser: Browser, outside: Outside) -> None:
    outside.mail_faults += [500, 503]
    email = new_email()
    assert browser().post("/register", json={"email": email}).status_code == 202
    outside.link_for(email)
    assert len(outside.mails_to(email)) == 1
    outside.mail_faults += [500, 500, 500]
    assert browser().post("/register", json={"email": new_email()}).status_code == 202
    assert browser().get("/.well-known/jwks.json").status_code == 200


def test_cookies_are_http_only_lax_and_scoped(browser: Browser, outside: Outside) -> None:
    email = new_email()
    client = browser()
    client.post("/register", json={"email": email})
    opened = client.get("/verify", params={"token": outside.link_for(email)})
    cookies = {line.split("=")[0]: line for line in opened.headers.get_list("set-cookie")}
    for name, path in (("alva_access", "/"), ("alva_refresh", "/auth")):
        attributes = {part.strip().lower() for part in cookies[name].split(";")[1:]}
        assert {"httponly", "samesite=lax", f"path={path}"} <= attributes
        assert "secure" not in attributes, "the environment's plain http name must work"


def test_cookies_are_secure_behind_https(browser: Browser, outside: Outside) -> None:
    email = new_email()
    client = browser()
    client.post("/register", json={"email": email})
    opened = client.get(
        "/verify",
        params={"token": outside.link_for(email)},
        headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"},
    )
    assert all("secure" in line.lower() for line in opened.headers.get_list("set-cookie"))
    assert opened.headers["strict-transport-security"].startswith("max-age=")


def test_page_of_another_site_cannot_act_for_a_visitor(sign_up: Callable[..., Person]) -> None:
    person = sign_up()
    foreign = {"Origin": "https://evil.example"}
    for path, body in (
        ("/logout", None),
        ("/logout-all", None),
        ("/refresh", None),
        ("/login", {"email": person.email, "password": PASSWORD}),
        ("/register", {"email": person.email}),
    ):
        answer = person.auth.post(path, json=body, headers=foreign)
        assert answer.status_code == 403, path
    assert person.auth.put("/password", json={"password": PASSWORD}, headers=foreign).status_code == 403
    assert person.auth.post("/refresh").status_code == 200


def test_only_the_named_origin_may_call_with_credentials(browser: Browser) -> None:
    client = browser()

    def preflight(origin: str) -> httpx.Response:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        return client.options("/login", headers=headers)

    allowed = preflight("https://partner.example")
    assert allowed.headers["access-control-allow-origin"] == "https://partner.example"
    assert allowed.headers["access-control-allow-credentials"] == "true"
    for origin in ("https://evil.example", "https://partner.example.evil.example", "http://partner.example", "null"):
        assert "access-control-allow-origin" not in preflight(origin).headers, origin


@pytest.mark.parametrize(
    "email", ["' OR 1=1 --@example.com", "<script>@example.com", "a@b", "a b@example.com", "@x.y", "x\x00@y.zz"]
)
def test_invalid_address_is_refused_with_422(browser: Browser, email: str) -> None:
    assert browser().post("/register", json={"email": email}).status_code == 422


def test_search_treats_sql_as_text(sign_up_administrator: Callable[[], Person]) -> None:
    administrator = sign_up_administrator()
    for search in ("' OR '1'='1", "%", "_", "'; DROP TABLE auth.users; --", "\0"):
        answer = administrator.auth.get("/users", params={"search": search})
        assert (answer.status_code, answer.json()["total"]) == (200, 0), search
    assert administrator.auth.get("/users", params={"search": administrator.email}).json()["total"] == 1


def test_unavailable_database_is_503_until_it_answers_again(
    sign_up: Callable[..., Person], postgres: PostgresServer, database: str
) -> None:
    person = sign_up()
    stop = threading.Event()

    def cut() -> None:
        with postgres.connect("postgres") as connection:
            while not stop.is_set():
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
                )
                time.sleep(0.005)

    with postgres.connect("postgres") as connection:
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(psycopg.sql.Identifier(database))
        )
        thread = threading.Thread(target=cut)
        thread.start()
        time.sleep(0.1)
        try:
            answer = person.auth.get("/me")
        finally:
            stop.set()
            thread.join()
            connection.execute(
                psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(psycopg.sql.Identifier(database))
            )
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert person.auth.get("/me").status_code == 200
