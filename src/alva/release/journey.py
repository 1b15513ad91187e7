"""A customer's way from sign-up to a plan, over HTTP through the load balancer, with the mail read from an inbox."""

from __future__ import annotations

import http.cookiejar
import json
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from alva.errors import VerificationFailed
from alva.release.outside import Outside

Found = TypeVar("Found")

REQUEST_SECONDS = 20
MAIL_SECONDS = 30.0
PLAN_SECONDS = 120.0
LOOK_AGAIN_SECONDS = 0.3

ONBOARDING = {
    "business_name": "Alva verifies itself",
    "industry": "Software",
    "audience": "People who release",
    "goals": "See that it works",
}


class Journey:
    """One customer who did not exist before."""

    def __init__(self, outside: Outside, api_url: str, auth_url: str, inbox_url: str) -> None:
        """`api_url` and `auth_url` are where browsers find the two, without their prefixes."""
        self._url = outside.url
        self._api_url = api_url
        self._auth_url = auth_url
        self._inbox_url = inbox_url.rstrip("/")
        self.address = f"verify-{uuid.uuid4().hex[:12]}@example.com"
        self._opener = outside.opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def run(self) -> str:
        """Walk it; what was seen, in a line. Raises VerificationFailed naming the step that did not work."""
        started = time.monotonic()
        self._step("sign up", lambda: self._post("/signup", {"email": self.address}))
        link = self._wait("the sign-in mail", MAIL_SECONDS, self._link)
        self._step("open the link in the mail", lambda: self._get(link))
        path = urlsplit(self._step("describe a business", lambda: self._post("/onboarding", ONBOARDING))[0]).path
        if not re.fullmatch(r"/plans/[\w-]+", path):
            raise VerificationFailed(f"cannot describe a business: it leads to {path}, not to a plan")

        def made() -> str | None:
            plan = json.loads(self._get(f"{self._api_url}/api{path}")[1])
            if plan["status"] == "failed":
                raise VerificationFailed("cannot make a plan: the worker gave it up", evidence=[str(plan.get("error"))])
            return str(plan["content"]["summary"]) if plan["status"] == "ready" else None

        self._wait("the plan", PLAN_SECONDS, made)
        return f"from sign-up to a plan in {time.monotonic() - started:.1f} s"

    def _link(self) -> str | None:
        inbox = f"{self._inbox_url}/api/messages?{urlencode({'to': self.address})}"
        with urllib.request.urlopen(inbox, timeout=REQUEST_SECONDS) as answer:  # noqa: S310  (the region's own)
            messages = json.load(answer)
        for message in messages["messages"]:
            if found := re.search(rf"{re.escape(self._auth_url)}/auth/verify\?[^\s\"'<>]+", message["text"]):
                return found[0].replace("&amp;", "&")
        return None

    def _step(self, what: str, act: Callable[[], Found]) -> Found:
        try:
            return act()
        except urllib.error.HTTPError as error:
            said = _title(error.read(5000).decode(errors="replace"))
            raise VerificationFailed(f"cannot {what}: HTTP {error.code}", evidence=[said]) from error
        except OSError as error:
            raise VerificationFailed(f"cannot {what}: {error}") from error

    def _wait(self, what: str, seconds: float, look: Callable[[], Found | None]) -> Found:
        deadline = time.monotonic() + seconds
        while (found := self._step(f"look for {what}", look)) is None:
            if time.monotonic() > deadline:
                raise VerificationFailed(f"cannot find {what} after {seconds:.0f} s")
            time.sleep(LOOK_AGAIN_SECONDS)
        return found

    def _post(self, path: str, form: Mapping[str, Any]) -> tuple[str, str]:
        # Forms are taken from the site's own pages only.
        return self._open(
            urllib.request.Request(  # noqa: S310  (the load balancer's own address)
                f"{self._url}{path}", data=urlencode(form).encode(), headers={"Origin": self._url}
            )
        )

    def _get(self, url: str) -> tuple[str, str]:
        return self._open(urllib.request.Request(url))  # noqa: S310

    def _open(self, request: urllib.request.Request) -> tuple[str, str]:
        """Where it ended, after redirects, and what is there."""
        with self._opener.open(request, timeout=REQUEST_SECONDS) as answer:
            return answer.geturl(), answer.read().decode(errors="replace")


def _title(answer: str) -> str:
    """What an answer says in a line: a page's title, or the beginning of anything else."""
    found = re.search(r"<title>(.*?)</title>", answer, re.DOTALL)
    return " ".join((found[1] if found else answer).split())[:300]
