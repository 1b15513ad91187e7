"""Pushes an image to a registry, byte for byte as it was built.

A minimal client of the distribution API: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import email.message
import http.client
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from alva.errors import BuildFailed
from alva.oci.layout import Layout

ATTEMPTS = 4
PAUSE_SECONDS = 1.0
"""The pause before the second attempt; doubled before each later one."""
TIMEOUT_SECONDS = 300.0
"""The time limit of a request without data."""
_RETRIED = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: email.message.Message
    body: bytes

    @property
    def reason(self) -> str:
        """The registry's message, or the status alone."""
        try:
            errors = json.loads(self.body)["errors"]
            return "; ".join(f"{each['code']}: {each['message']}" for each in errors)
        except (ValueError, KeyError, TypeError):
            return f"HTTP {self.status}"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry with its credentials."""

    url: str
    """`https://ACCOUNT.dkr.ecr.REGION.amazonaws.com`, without a trailing slash."""
    authorization: str | None = None
    """The value of the header Authorization. ECR accepts `Basic` with the token of GetAuthorizationToken.
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html
    """
    cancelled: threading.Event = field(default_factory=threading.Event)

    def push(self, image: Layout, repository: str, tag: str) -> None:
        """Push the missing parts of `image` to `repository`, then its manifest as `tag`. Safe to repeat.

        Raises BuildFailed with the registry's message.
        """
        what = f"push {repository}:{tag}"
        for digest in dict.fromkeys((*image.layers, image.config_digest)):
            self._put_blob(what, repository, digest, image.blob(digest))
        address = f"/v2/{repository}/manifests/{tag}"
        # A repository with immutable tags rejects an existing tag, even for the same image.
        present = self._call(what, "HEAD", address, headers={"Accept": image.media_type}, expected=(200, 404))
        if present.headers.get("Docker-Content-Digest") == image.digest:
            return
        answer = self._call(
            what,
            "PUT",
            address,
            headers={"Content-Type": image.media_type, "Content-Length": str(len(image.manifest))},
            body=image.manifest,
            expected=(201,),
        )
        taken = answer.headers.get("Docker-Content-Digest", image.digest)
        if taken != image.digest:
            raise BuildFailed(
                f"cannot {what}: the registry computed another digest",
                evidence=[f"pushed {image.digest}", f"registry {taken}"],
            )

    def _put_blob(self, what: str, repository: str, digest: str, file: Path) -> None:
        if self._call(what, "HEAD", f"/v2/{repository}/blobs/{digest}", expected=(200, 404)).status == 200:
            return
        begun = self._call(what, "POST", f"/v2/{repository}/blobs/uploads/", body=b"", expected=(202,))
        location = urllib.parse.urljoin(f"{self.url}/", begun.headers.get("Location", ""))
        separator = "&" if urllib.parse.urlsplit(location).query else "?"
        self._call(
            what,
            "PUT",
            f"{location}{separator}{urllib.parse.urlencode({'digest': digest})}",
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)},
            body=file,
            expected=(201,),
        )

    def _call(
        self,
        what: str,
        method: str,
        address: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | Path | None = None,
        expected: tuple[int, ...],
    ) -> _Answer:
        """Send one request, retrying errors of the registry and the network. Raises BuildFailed."""
        url = urllib.parse.urljoin(f"{self.url}/", address)
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt and self.cancelled.wait(PAUSE_SECONDS * 2 ** (attempt - 1)):
                break
            if self.cancelled.is_set():
                break
            try:
                answer = self._once(method, url, headers or {}, body)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error.reason) if isinstance(error, urllib.error.URLError) else repr(error)
                continue
            if answer.status in expected:
                return answer
            reason = answer.reason
            if answer.status not in _RETRIED:
                break
        if self.cancelled.is_set():
            raise BuildFailed(f"cannot {what}: cancelled")
        host = urllib.parse.urlsplit(url).netloc
        raise BuildFailed(f"cannot {what}: {method} was refused by {host}", evidence=[reason])

    def _once(self, method: str, url: str, headers: dict[str, str], body: bytes | Path | None) -> _Answer:
        if isinstance(body, Path):
            with body.open("rb") as stream:
                return self._send(method, url, headers, stream)
        return self._send(method, url, headers, body)

    def _send(self, method: str, url: str, headers: dict[str, str], data: bytes | IO[bytes] | None) -> _Answer:
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 (the caller's)
        if self.authorization is not None:
            # Not sent after a redirect: another host must not see it.
            request.add_unredirected_header("Authorization", self.authorization)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                return _Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return _Answer(refused.code, refused.headers, refused.read())
