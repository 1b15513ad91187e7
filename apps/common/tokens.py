"""Access tokens: an RS256 JWT that auth signs and the other services verify.

The api verifies with JWT_PUBLIC_KEY; web and admin fetch auth's JWKS. Only RS256 is accepted, whatever the token's
header says. Issuer, audience and type are checked, so that a mail link's token (HS256, JWT_SECRET) is not accepted as
an access token.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

if TYPE_CHECKING:
    import httpx

ACCESS_COOKIE = "alva_access"
REFRESH_COOKIE = "alva_refresh"
ISSUER = "alva-auth"
AUDIENCE = "alva"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's type of an access token
Role = Literal["customer", "admin"]
_MINIMUM_SECONDS_BETWEEN_FETCHES = 10.0


class TokenError(Exception):
    """The token is invalid or expired."""


@dataclass(frozen=True)
class Principal:
    """The signed-in user."""

    user_id: str
    email: str
    role: Role
    session_id: str

    @property
    def is_admin(self) -> bool:
        """Whether the user is an administrator."""
        return self.role == "admin"


class TokenVerifier(Protocol):
    """Verifies access tokens."""

    async def verify(self, token: str) -> Principal:
        """Return the user of the token. Raises TokenError."""
        ...


def read_public_key(pem: str) -> RSAPublicKey:
    """Parse a PEM public key. Raises ValueError if it is not an RSA key."""
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        raise ValueError("must be an RSA public key in PEM")
    return key


def read_private_key(pem: str) -> RSAPrivateKey:
    """Parse a PEM private key. Raises ValueError if it is not an RSA key."""
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("must be an RSA private key in PEM")
    return key


def _base64url(number: int) -> str:
    return urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def public_jwk(key: RSAPublicKey) -> dict[str, str]:
    """Return the key as a JSON web key (RFC 7517). Its id is the thumbprint of RFC 7638."""
    numbers = key.public_numbers()
    required = {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}
    digest = hashlib.sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest()
    return required | {"use": "sig", "alg": "RS256", "kid": urlsafe_b64encode(digest).rstrip(b"=").decode()}


def _verify(token: str, key: RSAPublicKey) -> Principal:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": ["exp", "iat", "sub", "iss", "aud"]},
        )
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise TokenError(f"cannot accept the token: {error}") from error
    if header.get("typ") != TOKEN_TYPE:
        raise TokenError(f"cannot accept the token: its type is not {TOKEN_TYPE}")
    role, email, session_id = claims.get("role"), claims.get("email"), claims.get("sid")
    if role not in ("customer", "admin") or not isinstance(email, str) or not isinstance(session_id, str):
        raise TokenError("cannot accept the token: a claim is missing")
    return Principal(user_id=claims["sub"], email=email, role=role, session_id=session_id)


class PublicKeyVerifier:
    """Verifies with the environment's public key (JWT_PUBLIC_KEY)."""

    def __init__(self, public_key_pem: str) -> None:
        self._key = read_public_key(public_key_pem)

    async def verify(self, token: str) -> Principal:
        """Return the user of the token. Raises TokenError."""
        return _verify(token, self._key)


class JwksVerifier:
    """Verifies with the keys that auth publishes. They are fetched at first use and when a token has an unknown key id.

    `url` is `<AUTH_INTERNAL_URL>/auth/.well-known/jwks.json`.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at = -_MINIMUM_SECONDS_BETWEEN_FETCHES
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Principal:
        """Return the user of the token. Raises TokenError, or httpx.HTTPError if the keys cannot be fetched."""
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError as error:
            raise TokenError(f"cannot accept the token: {error}") from error
        if not isinstance(key_id, str):
            raise TokenError("cannot accept the token: it names no key")
        if key_id not in self._keys:
            await self._fetch()
        if key_id not in self._keys:
            raise TokenError("cannot accept the token: auth does not know its key")
        return _verify(token, self._keys[key_id])

    async def _fetch(self) -> None:
        async with self._lock:
            # Without this limit, each token with an invented key id would cause a request to auth.
            if self._keys and time.monotonic() - self._fetched_at < _MINIMUM_SECONDS_BETWEEN_FETCHES:
                return
            response = await self._client.get(self._url)
            response.raise_for_status()
            keys = {}
            for entry in response.json()["keys"]:
                key = jwt.PyJWK.from_dict(entry, algorithm="RS256").key
                if isinstance(key, RSAPublicKey):
                    keys[entry["kid"]] = key
            self._keys, self._fetched_at = keys, time.monotonic()
