"""Invalid tokens that resemble valid ones: auth and the api refuse each of them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.tokens import public_jwk
from tests.apps.conftest import KeyPair, Outside, Person, RunningProcess, make_key_pair, new_email

GOOD_CLAIMS = {
    "iss": "alva-auth",
    "aud": "alva",
    "sub": "5a6ab1b6-98a8-4a1f-8f3e-3c3f3f0e6f11",
    "email": "mallory@example.com",
    "role": "admin",
    "sid": "5a6ab1b6-98a8-4a1f-8f3e-3c3f3f0e6f12",
}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    merged = {**GOOD_CLAIMS, "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def sign(keys: KeyPair, *, typ: str = "at+jwt", **changes: Any) -> str:
    return jwt.encode(claims(**changes), keys.signing_key, "RS256", headers={"typ": typ})


def encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(**changes: Any) -> str:
    return f"{encode({'alg': 'none', 'typ': 'at+jwt'})}.{encode(claims(**changes))}."


def hmac_with_the_public_key(keys: KeyPair) -> str:
    # Signed by hand, as an attacker would: libraries refuse a public key as a shared secret.
    import hashlib
    import hmac

    body = f"{encode({'alg': 'HS256', 'typ': 'at+jwt'})}.{encode(claims())}"
    digest = hmac.new(keys.public.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


CONFUSIONS: dict[str, Callable[[KeyPair], str]] = {
    "hs256 with the public key": hmac_with_the_public_key,
    "no signature": lambda _: unsigned(),
    "another key": lambda _: sign(make_key_pair()),
    "wrong audience": lambda keys: sign(keys, aud="somebody-else"),
    "no audience": lambda keys: sign(keys, aud=None),
    "wrong issuer": lambda keys: sign(keys, iss="https://evil.example"),
    "expired": lambda keys: sign(keys, exp=int(time.time()) - 1),
    "without end": lambda keys: sign(keys, exp=None),
    "not an access token": lambda keys: sign(keys, typ="JWT"),
    "without a role": lambda keys: sign(keys, role=None),
    "an unknown role": lambda keys: sign(keys, role="root"),
    "signature cut off": lambda keys: sign(keys).rsplit(".", 1)[0] + ".",
    "not a token": lambda _: "abc",
    "not ascii": lambda _: "\u00e4\u00f6\u00fc",
}


@pytest.mark.parametrize("confusion", CONFUSIONS)
def test_invalid_token_is_refused(auth: RunningProcess, api: RunningProcess, keys: KeyPair, confusion: str) -> None:
    token = CONFUSIONS[confusion](keys)
    for url in (
        f"{auth.url}/auth/me",
        f"{auth.url}/auth/users",
        f"{api.url}/api/profile",
        f"{api.url}/api/admin/queue",
    ):
        answer = httpx.get(url, headers={b"Authorization": b"Bearer " + token.encode()}, trust_env=False)
        assert answer.status_code == 401, url
        answer = httpx.get(url, headers={b"Cookie": b"alva_access=" + token.encode()}, trust_env=False)
        assert answer.status_code == 401, url


def test_valid_token_is_accepted(api: RunningProcess, keys: KeyPair) -> None:
    """The tokens above are refused because of their change: without it, they are accepted."""
    answer = httpx.get(f"{api.url}/api/admin/queue", headers={"Authorization": f"Bearer {sign(keys)}"}, trust_env=False)
    assert answer.status_code == 200


def test_token_of_a_deleted_user_is_refused(auth: RunningProcess, keys: KeyPair) -> None:
    headers = {"Authorization": f"Bearer {sign(keys)}"}
    for path in ("me", "users", "audit"):
        assert httpx.get(f"{auth.url}/auth/{path}", headers=headers, trust_env=False).status_code == 401


def test_token_of_a_mail_link_is_no_access_token_and_vice_versa(
    browser: Callable[[], httpx.Client], sign_up: Callable[..., Person], outside: Outside
) -> None:
    email = new_email()
    client = browser()
    client.post("/register", json={"email": email})
    link = outside.link_for(email)
    assert client.get("/me", headers={"Authorization": f"Bearer {link}"}).status_code == 401
    opened = client.get("/verify", params={"token": sign_up().access_token})
    assert opened.headers["location"] == "/signin?problem=link"


def test_published_key_verifies_auths_signatures(
    auth: RunningProcess, keys: KeyPair, sign_up: Callable[..., Person]
) -> None:
    published = httpx.get(f"{auth.url}/auth/.well-known/jwks.json", trust_env=False).json()["keys"]
    assert published == [public_jwk(load_pem_public_key(keys.public.encode()))]  # type: ignore[arg-type]
    assert set(published[0]) == {"e", "kty", "n", "use", "alg", "kid"}, "nothing private is published"
    key = jwt.PyJWK.from_dict(published[0])
    token = jwt.decode(sign_up().access_token, key, algorithms=["RS256"], audience="alva", issuer="alva-auth")
    assert token["exp"] - token["iat"] == 600


@pytest.mark.parametrize("cookie", ["abc", "abc.def", "x" * 4000, "%00", "a.b.c.d"])
def test_forged_refresh_cookie_is_refused(browser: Callable[[], httpx.Client], cookie: str) -> None:
    assert browser().post("/refresh", headers={"Cookie": f"alva_refresh={cookie}"}).status_code == 401
