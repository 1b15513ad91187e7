"""Auth's rules, without HTTP: registration, sign-in, sessions and roles."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from auth import repository
from auth.credentials import (
    HANDOVER_LIFETIME,
    INVITATION_LIFETIME,
    LINK_LIFETIME,
    SESSION_LIFETIME,
    AccessTokens,
    MailLinks,
    SignedCookies,
    hash_token,
)
from auth.limits import Limits, RateLimiter
from auth.mail import Mail
from auth.passwords import Passwords
from auth.tables import AuditEntry, Link, User
from common.database import Database
from common.origins import safe_next
from common.refusal import Refusal

log = logging.getLogger(__name__)

FRESH_SIGN_IN = timedelta(minutes=15)
"""How long after a sign-in the password can be changed without the current one."""
REUSE_GRACE = timedelta(seconds=15)
"""Two tabs can use one refresh token at the same moment. A later second use means that the token was stolen."""


@dataclass(frozen=True)
class SignedIn:
    """A user with fresh tokens."""

    user: User
    access_token: str
    refresh_cookie: str
    is_new: bool = False
    next: str | None = None


class AuthService:
    """The rules of registration, sign-in, sessions and roles."""

    def __init__(
        self,
        database: Database,
        limiter: RateLimiter,
        *,
        access_tokens: AccessTokens,
        mail_links: MailLinks,
        cookies: SignedCookies,
        link_base: str,
        site_url: str,
        origins: Collection[str] = (),
        limits: Limits | None = None,
    ) -> None:
        """`link_base` is the URL of a link without `?token=`. A link redirects to a path or to a URL of `origins`.

        `site_url` is the scheme and host of the pages.
        """
        self._database = database
        self._limiter = limiter
        self._passwords = Passwords()
        self._access_tokens = access_tokens
        self._mail_links = mail_links
        self._cookies = cookies
        self._link_base = link_base
        self._site_url = site_url
        self._origins = origins
        self._limits = limits or Limits()

    # Registration and links

    async def register(
        self, email: str, password: str | None, next_path: str | None, browser_token: str, client: str
    ) -> Mail:
        """Store the registration and return the mail to send. The result does not reveal whether the address has an
        account.

        `browser_token` is stored in the browser's cookie, and identifies it when it opens the link.

        The password takes effect only if the same browser opens the link. Otherwise an attacker could register another
        person's address with a password of their own and wait until that person opens the link.
        """
        await self._count_mail(email, client)
        password_hash = await self._passwords.hash(password) if password else None
        link = Link(
            email=email,
            purpose="registration",
            password_hash=password_hash,
            browser_hash=hash_token(browser_token),
            next=self._checked_next(next_path),
            expires_at=datetime.now(UTC) + LINK_LIFETIME,
        )
        async with self._database.transaction() as db:
            is_known = await repository.find_user_by_email(db, email) is not None
            if is_known:
                # The address has an account: the link signs in and does not change the password.
                link.purpose, link.password_hash = "sign-in", None
            link_id = await repository.add_link(db, link)
            await repository.add_audit(db, email, "registration asked for", subject=email, client=client)
        url = self._url(link_id, link.expires_at)
        return _sign_in_mail(email, url) if is_known else _welcome_mail(email, url)

    async def ask_for_link(self, email: str, next_path: str | None, browser_token: str, client: str) -> Mail | None:
        """Return the mail with a sign-in link, or None if no user has the address. Responses must not reveal it."""
        await self._count_mail(email, client)
        expires_at = datetime.now(UTC) + LINK_LIFETIME
        async with self._database.transaction() as db:
            if await repository.find_user_by_email(db, email) is None:
                return None
            link = Link(
                email=email,
                purpose="sign-in",
                browser_hash=hash_token(browser_token),
                next=self._checked_next(next_path),
                expires_at=expires_at,
            )
            link_id = await repository.add_link(db, link)
            await repository.add_audit(db, email, "link asked for", subject=email, client=client)
        return _sign_in_mail(email, self._url(link_id, expires_at))

    async def invite(self, email: str, role: str, actor: str, client: str) -> Mail:
        """Return the mail that invites a person to a role."""
        expires_at = datetime.now(UTC) + INVITATION_LIFETIME
        async with self._database.transaction() as db:
            link = Link(email=email, purpose="invitation", role=role, expires_at=expires_at)
            link_id = await repository.add_link(db, link)
            await repository.add_audit(db, actor, "invited", subject=email, client=client, role=role)
        return _invitation_mail(email, self._url(link_id, expires_at), role)

    async def is_link_open(self, token: str) -> bool:
        """Return whether a link can be used, without using it."""
        link_id = self._mail_links.read(token)
        if link_id is None:
            return False
        async with self._database.transaction() as db:
            return await repository.is_link_open(db, link_id)

    async def open_link(
        self, token: str, browser_token: str | None, client: str, *, only_same_browser: bool = False
    ) -> SignedIn | None:
        """Sign in with a link. Return None if the link is forged, used or expired.

        With `only_same_browser`, also return None, and do not use the link, if another browser requested it.
        """
        link_id = self._mail_links.read(token)
        if link_id is None or (only_same_browser and browser_token is None):
            return None
        browser_hash = hash_token(browser_token) if browser_token is not None else None
        async with self._database.transaction() as db:
            link = await repository.take_link(db, link_id, browser_hash if only_same_browser else None)
            if link is None:
                return None
            user = await repository.find_or_add_user(db, link.email)
            is_new = user.verified_at is None
            if is_new:
                user.verified_at = datetime.now(UTC)
                is_same_browser = browser_hash is not None and browser_hash == link.browser_hash
                if link.password_hash and is_same_browser and user.password_hash is None:
                    user.password_hash = link.password_hash
            if link.purpose == "invitation" and link.role == "admin":
                user.role = "admin"
            await repository.add_audit(
                db, user.email, "signed in by link", subject=user.email, client=client, purpose=link.purpose
            )
            return await self._start_session(db, user, client, is_new=is_new, next_path=link.next)

    def _checked_next(self, next_path: str | None) -> str | None:
        return safe_next(next_path, "", self._origins) or None

    def _url(self, link_id: UUID, expires_at: datetime) -> str:
        return f"{self._link_base}?token={self._mail_links.sign(link_id, expires_at)}"

    async def _count_mail(self, email: str, client: str) -> None:
        await self._limiter.count("mail-client", client, self._limits.mail_per_client)
        await self._limiter.count("mail-email", email, self._limits.mail_per_email)

    # Sessions

    async def log_in(self, email: str, password: str, client: str) -> SignedIn:
        """Sign in with a password. Raises the same Refusal (401) for a wrong address and for a wrong password."""
        user = await self._check_password(email, password, client)
        async with self._database.transaction() as db:
            await repository.add_audit(db, email, "signed in by password", subject=email, client=client)
            return await self._start_session(db, user, client)

    async def hand_over(self, email: str, password: str, next_path: str | None, browser_token: str, client: str) -> str:
        """Check a password, and return the token of a link that signs the browser in once. Raises as `log_in` does."""
        await self._check_password(email, password, client)
        expires_at = datetime.now(UTC) + HANDOVER_LIFETIME
        link = Link(
            email=email,
            purpose="sign-in",
            browser_hash=hash_token(browser_token),
            next=self._checked_next(next_path),
            expires_at=expires_at,
        )
        async with self._database.transaction() as db:
            await repository.add_audit(db, email, "password accepted", subject=email, client=client)
            link_id = await repository.add_link(db, link)
        return self._mail_links.sign(link_id, expires_at)

    async def _check_password(self, email: str, password: str, client: str) -> User:
        await self._limiter.count("login-client", client, self._limits.login_per_client)
        await self._limiter.count("login-email", email, self._limits.login_per_email)
        async with self._database.transaction() as db:
            user = await repository.find_user_by_email(db, email)
        is_right = await self._passwords.matches(password, user.password_hash if user else None)
        if not is_right or user is None:
            async with self._database.transaction() as db:
                await repository.add_audit(db, email, "sign-in refused", subject=email, client=client)
            raise Refusal(401, "The e-mail address or the password is not right.")
        await self._limiter.forget("login-email", email)
        return user

    async def _start_session(
        self, db: AsyncSession, user: User, client: str, *, is_new: bool = False, next_path: str | None = None
    ) -> SignedIn:
        session = await repository.add_session(db, user.id, datetime.now(UTC) + SESSION_LIFETIME, client)
        return await self._hand_out(db, user, session.id, is_new=is_new, next_path=next_path)

    async def _hand_out(
        self, db: AsyncSession, user: User, session_id: UUID, *, is_new: bool = False, next_path: str | None = None
    ) -> SignedIn:
        cookie, token_hash = self._cookies.new()
        await repository.add_refresh_token(db, session_id, token_hash)
        await db.flush()
        access = self._access_tokens.sign(user_id=user.id, email=user.email, role=user.role, session_id=session_id)
        return SignedIn(user, access, cookie, is_new, next_path)

    async def refresh(self, cookie: str, client: str) -> SignedIn | None:
        """Exchange a refresh token for new tokens. Return None if it is invalid, used or expired.

        A second use means that the token was copied, so the whole session ends.
        """
        token_hash = self._cookies.read(cookie)
        if token_hash is None:
            return None
        now = datetime.now(UTC)
        async with self._database.transaction() as db:
            found = await repository.lock_refresh_token(db, token_hash)
            if found is None:
                return None
            token, session = found
            if session.revoked_at is not None or session.expires_at <= now:
                return None
            user = await repository.find_user(db, session.user_id)
            if user is None:
                return None
            if token.used_at is not None and now - token.used_at > REUSE_GRACE:
                await repository.revoke_session(db, session.id)
                await repository.add_audit(
                    db, user.email, "session ended: its token was used twice", subject=user.email, client=client
                )
                return None
            token.used_at = token.used_at or now
            return await self._hand_out(db, user, session.id)

    async def log_out(self, cookie: str | None, session_id: UUID | None) -> None:
        """End the session of the refresh cookie, else of the access token."""
        async with self._database.transaction() as db:
            token_hash = self._cookies.read(cookie) if cookie else None
            if token_hash is not None:
                found = await repository.lock_refresh_token(db, token_hash)
                session_id = found[1].id if found else session_id
            if session_id is not None:
                await repository.revoke_session(db, session_id)

    async def log_out_everywhere(self, cookie: str | None, user_id: UUID | None, client: str) -> bool:
        """End all sessions of a user, found by id or else by a refresh cookie. Return False if there is neither.

        Issued access tokens expire within ten minutes.
        """
        async with self._database.transaction() as db:
            if user_id is None:
                user_id = await self._owner(db, cookie)
            user = await repository.find_user(db, user_id) if user_id is not None else None
            if user is None:
                return False
            await repository.revoke_sessions(db, user.id)
            await repository.add_audit(db, user.email, "signed out everywhere", subject=user.email, client=client)
        return True

    async def _owner(self, db: AsyncSession, cookie: str | None) -> UUID | None:
        """Return the user of a refresh cookie, or None if the session has ended."""
        token_hash = self._cookies.read(cookie) if cookie else None
        found = await repository.lock_refresh_token(db, token_hash) if token_hash is not None else None
        if found is None or found[1].revoked_at is not None or found[1].expires_at <= datetime.now(UTC):
            return None
        return found[1].user_id

    # Users

    async def find_user(self, user_id: UUID) -> User:
        """Return the user. Raises Refusal (401) if the account no longer exists."""
        async with self._database.transaction() as db:
            user = await repository.find_user(db, user_id)
        if user is None:
            raise Refusal(401, "Please sign in.")
        return user

    async def set_password(
        self, user_id: UUID, session_id: UUID, password: str, current_password: str | None, client: str
    ) -> Mail:
        """Set the password, end every other session of the user, and return the mail that notifies them.

        Raises Refusal (403) without the correct current password or a recent sign-in, because a stolen cookie must not
        be enough to take over an account. Raises Refusal (429) for too many attempts.
        """
        async with self._database.transaction() as db:
            user = await self._existing_user(db, user_id)
            session = await repository.find_session(db, session_id)
        if session is None or session.revoked_at is not None:
            raise Refusal(401, "Please sign in.")
        if current_password:
            await self._limiter.count("login-email", user.email, self._limits.login_per_email)
            if not await self._passwords.matches(current_password, user.password_hash):
                raise Refusal(403, "The current password is not right.")
        elif datetime.now(UTC) - session.created_at > FRESH_SIGN_IN:
            other_way = "Enter your current password, or sign in" if user.password_hash else "Sign in"
            raise Refusal(403, f"{other_way} again, then set the new password within 15 minutes.")
        password_hash = await self._passwords.hash(password)
        async with self._database.transaction() as db:
            user = await self._existing_user(db, user_id)
            user.password_hash = password_hash
            await repository.revoke_sessions(db, user_id, keep=session_id)
            await repository.add_audit(db, user.email, "password set", subject=user.email, client=client)
        return _password_mail(user.email, f"{self._site_url}/account")

    async def list_users(self, search: str, limit: int, offset: int) -> tuple[list[User], int]:
        """Return a page of users, and their total number."""
        async with self._database.transaction() as db:
            return await repository.list_users(db, search, limit, offset)

    async def change_role(self, user_id: UUID, role: str, actor: str, client: str) -> User:
        """Change a user's role and end their sessions. Raises Refusal: 404, or 409 for the last administrator."""
        async with self._database.transaction() as db:
            administrators = await repository.lock_administrators(db)
            user = await self._existing_user(db, user_id)
            if user.role == role:
                return user
            if role != "admin" and administrators == [user_id]:
                raise Refusal(409, "This is the last administrator.")
            before, user.role = user.role, role
            await repository.revoke_sessions(db, user_id)
            await repository.add_audit(
                db, actor, "role changed", subject=user.email, client=client, before=before, after=role
            )
            return user

    async def promote(self, email: str) -> User:
        """Make the user with this address an administrator. A user who does not exist is added."""
        async with self._database.transaction() as db:
            user = await repository.find_or_add_user(db, email)
            user.role = "admin"
            await repository.revoke_sessions(db, user.id)
            await repository.add_audit(db, "operator", "promoted", subject=email)
            return user

    async def _existing_user(self, db: AsyncSession, user_id: UUID) -> User:
        user = await repository.find_user(db, user_id)
        if user is None:
            raise Refusal(404, "There is no such user.")
        return user

    async def list_audit(self, limit: int, offset: int) -> tuple[list[AuditEntry], int]:
        """Return a page of the audit log, and its total length."""
        async with self._database.transaction() as db:
            return await repository.list_audit(db, limit, offset)


def _link_footnote(valid_for: str) -> str:
    return f"The link works once, for {valid_for}. If you did not ask for it, ignore this mail: nothing happens."


def _password_mail(email: str, url: str) -> Mail:
    return Mail(
        to=email,
        subject="Your password for Alva was changed",
        heading="Your password was changed",
        text="The password of your account was changed, and every other device was signed out.",
        button="Open your account",
        url=url,
        footnote="If you did not change it, sign in with a link by mail, set a new password and sign out everywhere.",
    )


def _welcome_mail(email: str, url: str) -> Mail:
    return Mail(
        to=email,
        subject="Welcome to Alva: confirm your address",
        heading="Welcome to Alva",
        text="Confirm your address, and tell us about your business: your marketing plan is minutes away.",
        button="Confirm and sign in",
        url=url,
        footnote=_link_footnote("30 minutes"),
    )


def _sign_in_mail(email: str, url: str) -> Mail:
    return Mail(
        to=email,
        subject="Your sign-in link for Alva",
        heading="Sign in to Alva",
        text="You have an account with this address. This link signs you in.",
        button="Sign in",
        url=url,
        footnote=_link_footnote("30 minutes"),
    )


def _invitation_mail(email: str, url: str, role: str) -> Mail:
    return Mail(
        to=email,
        subject="You are invited to Alva",
        heading="You are invited to Alva",
        text="You are invited to join Alva" + (" as an administrator." if role == "admin" else "."),
        button="Accept the invitation",
        url=url,
        footnote=_link_footnote("7 days"),
    )
