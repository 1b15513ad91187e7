"""A new customer signs up and gets a plan, through the load balancer. `./alva verify --deep` runs it.

The setting `journey_command` of web in infrastructure/lib/config/services.py names this file.
docs/reference/service-contract.md lists its environment variables. It needs the standard library only.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

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


class DoesNotWork(Exception):
    """A step failed. The message names it and the cause."""


class Journey:
    """One new customer. `given` is the environment of the command."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._url = given["BASE_URL"]
        self._api_url = given["API_URL"]
        self._auth_url = given["AUTH_URL"]
        self._inbox_url = given["INBOX_URL"].rstrip("/")
        self.address = given["CUSTOMER_EMAIL"]
        connect_to(given["LOAD_BALANCER"], [self._url, self._api_url, self._auth_url])
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=given.get("CA_BUNDLE"))),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def run(self) -> str:
        """Run all steps and return a summary line. Raises DoesNotWork, which names the failed step."""
        started = time.monotonic()
        self._step("sign up", lambda: self._post("/signup", {"email": self.address}))
        link = self._wait("the sign-in mail", MAIL_SECONDS, self._link)
        self._step("open the link in the mail", lambda: self._get(link))
        path = urlsplit(self._step("describe a business", lambda: self._post("/onboarding", ONBOARDING))[0]).path
        if not re.fullmatch(r"/plans/[\w-]+", path):
            raise DoesNotWork(f"cannot describe a business: it redirects to {path}, not to a plan")

        def made() -> str | None:
            plan = json.loads(self._get(f"{self._api_url}/api{path}")[1])
            if plan["status"] == "failed":
                raise DoesNotWork(f"cannot make a plan: the worker gave up:  {plan.get('error')}")
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
            raise DoesNotWork(f"cannot {what}: HTTP {error.code}; {said}") from error
        except OSError as error:
            raise DoesNotWork(f"cannot {what}: {error}") from error

    def _wait(self, what: str, seconds: float, look: Callable[[], Found | None]) -> Found:
        deadline = time.monotonic() + seconds
        while (found := self._step(f"look for {what}", look)) is None:
            if time.monotonic() > deadline:
                raise DoesNotWork(f"cannot find {what} after {seconds:.0f} s")
            time.sleep(LOOK_AGAIN_SECONDS)
        return found

    def _post(self, path: str, form: Mapping[str, Any]) -> tuple[str, str]:
        # The services accept forms from the site's own pages only.
        return self._open(
            urllib.request.Request(  # noqa: S310  (the load balancer's own address)
                f"{self._url}{path}", data=urlencode(form).encode(), headers={"Origin": self._url}
            )
        )

    def _get(self, url: str) -> tuple[str, str]:
        return self._open(urllib.request.Request(url))  # noqa: S310

    def _open(self, request: urllib.request.Request) -> tuple[str, str]:
        """Return the final URL after redirects, and the body."""
        with self._opener.open(request, timeout=REQUEST_SECONDS) as answer:
            return answer.geturl(), answer.read().decode(errors="replace")


def _title(answer: str) -> str:
    """Return a page's title, or the first 300 characters of another response."""
    found = re.search(r"<title>(.*?)</title>", answer, re.DOTALL)
    return " ".join((found[1] if found else answer).split())[:300]


def connect_to(load_balancer: str, urls: Sequence[str]) -> None:
    """Connect to the load balancer for these URLs, because DNS may not resolve their names on this machine yet."""
    there = urlsplit(f"//{load_balancer}")
    meant = {(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)) for parts in map(urlsplit, urls)}
    find = socket.getaddrinfo

    def find_load_balancer(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if (host, port) in meant:
            host, port = there.hostname, there.port or port
        return find(host, port, *more, **options)

    socket.getaddrinfo = find_load_balancer


def main() -> int:
    """Return 0, or return 1 and print the failed step on standard error."""
    try:
        print(Journey(os.environ).run())
    except DoesNotWork as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
