"""Signing and reading of access tokens, refresh tokens and mail links. It makes no I/O."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
from itsdangerous import BadSignature, Signer

from common.tokens import AUDIENCE, ISSUER, TOKEN_TYPE, public_jwk, read_private_key

ACCESS_LIFETIME = timedelta(minutes=10)
SESSION_LIFETIME = timedelta(days=30)
LINK_LIFETIME = timedelta(minutes=30)
HANDOVER_LIFETIME = timedelta(minutes=2)
"""How long the token is valid that a browser brings to auth after a page has checked its password."""
INVITATION_LIFETIME = timedelta(days=7)
_LINK_AUDIENCE = "alva-mail-link"


class AccessTokens:
    """Signs access tokens with the environment's private key."""

    def __init__(self, private_key_pem: str) -> None:
        self._key = read_private_key(private_key_pem)
        self.jwk = public_jwk(self._key.public_key())

    def sign(self, *, user_id: UUID, email: str, role: str, session_id: UUID) -> str:
        """Return an access token for this user, valid for ACCESS_LIFETIME."""
        now = datetime.now(UTC)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "email": email,
            "role": role,
            "sid": str(session_id),
            "jti": uuid4().hex,
            "iat": now,
            "exp": now + ACCESS_LIFETIME,
        }
        return jwt.encode(claims, self._key, "RS256", headers={"typ": TOKEN_TYPE, "kid": self.jwk["kid"]})


class MailLinks:
    """Signs and reads the tokens in mails, with JWT_SECRET."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def sign(self, link_id: UUID, expires_at: datetime) -> str:
        """Return the signed token of a link."""
        claims = {"aud": _LINK_AUDIENCE, "jti": str(link_id), "exp": expires_at}
        return jwt.encode(claims, self._secret, "HS256")

    def read(self, token: str) -> UUID | None:
        """Return the link's id, or None if the signature is invalid or the token expired."""
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], audience=_LINK_AUDIENCE, options={"require": ["exp", "jti"]}
            )
            return UUID(claims["jti"])
        except (jwt.PyJWTError, ValueError):
            return None


class SignedCookies:
    """Random tokens in cookies, signed with COOKIE_SECRET. A guessed token causes no database query."""

    def __init__(self, secret: str) -> None:
        self._signer = Signer(secret, salt="alva-refresh", digest_method=hashlib.sha256)

    def new(self) -> tuple[str, bytes]:
        """Return a new token as the cookie's value, and its hash for the database."""
        token = secrets.token_urlsafe(32)
        return self._signer.sign(token).decode(), hash_token(token)

    def read(self, cookie: str) -> bytes | None:
        """Return the hash of the token in a cookie, or None if the signature is invalid."""
        try:
            return hash_token(self._signer.unsign(cookie).decode())
        except BadSignature:
            return None


def hash_token(token: str) -> bytes:
    """Return the SHA-256 hash. The tokens are random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).digest()
