"""The OCI distribution API, used by `docker push` and `docker pull`, over ECR's records.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md, with ECR's errors. Contents are written to disk
as they arrive (`images/blobs.py`); an image is registered with ECR's own PutImage, so both APIs show the same images.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from alva.oci.layout import IMAGE_TYPES, INDEX_TYPES
from alva.region.config import RegionConfig
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.images.blobs import Blobs, DigestMismatch, Upload

MOST_MANIFEST_BYTES = 4 * 2**20
"""The specification: "a registry SHOULD enforce some limit", of at least 4 MiB."""
SIGNATURE = "signature"
"""The query parameter of URLs from GetDownloadUrlForLayer. It grants read access without signing in."""
_PART_BYTES = 2**20
_NAME = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_ROUTES = tuple(
    (re.compile(pattern), route)
    for pattern, route in (
        (r"/v2/?", "base"),
        (rf"/v2/{_NAME}/tags/list", "tags"),
        (rf"/v2/{_NAME}/manifests/(?P<reference>[\w.:-]+)", "manifest"),
        (rf"/v2/{_NAME}/blobs/uploads/?", "uploads"),
        (rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[\w-]+)", "upload"),
        (rf"/v2/{_NAME}/blobs/(?P<digest>[\w.:+-]+)", "blob"),
    )
)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Refused(Exception):
    """A refused request: an HTTP status, and an error code of the specification."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Disconnected(Exception):
    """The client disconnected before the end of the request's body."""


@dataclass
class _Request:
    method: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    receive: Receive
    send: Send
    parts: Mapping[str, str] = field(default_factory=dict)

    async def body(self, most_bytes: int) -> bytes:
        """All of a small body. Raises Refused when it is larger."""
        content = b""
        async for part in self.stream():
            content += part
            if len(content) > most_bytes:
                raise Refused(413, "MANIFEST_INVALID", f"the manifest is larger than {most_bytes} bytes")
        return content

    async def stream(self) -> Any:
        """The body in parts, as they arrive. Raises Disconnected."""
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Disconnected
            if part := message.get("body"):
                yield part
            if not message.get("more_body"):
                return

    async def answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Send a complete response."""
        await self._start(status, {"Content-Length": str(len(body)), **(headers or {})})
        await self.send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        lines = {"Docker-Distribution-Api-Version": "registry/2.0", **headers}
        pairs = [(name.lower().encode(), value.encode()) for name, value in lines.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})

    async def send_file(self, file: Any, headers: Mapping[str, str]) -> None:
        """Send a file's content, a part at a time."""
        await self._start(200, {"Content-Length": str(file.stat().st_size), **headers})
        if self.method != "HEAD":
            with file.open("rb") as stream:
                while part := stream.read(_PART_BYTES):
                    await self.send({"type": "http.response.body", "body": part, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})


class Registry:
    """An ASGI application for paths under /v2/. `password` is the one from GetAuthorizationToken."""

    def __init__(self, blobs: Blobs, config: RegionConfig, password: str, changed: Callable[[], None]) -> None:
        self._blobs = blobs
        self._config = config
        self._credentials = f"AWS:{password}".encode()
        self._changed = changed
        self._ecr = ControlPlane(config.account_id, config.region)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = _Request(
            scope["method"],
            dict(parse_qsl(scope.get("query_string", b"").decode())),
            {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            receive,
            send,
        )
        try:
            self._authenticate(request)
            for expression, route in _ROUTES:
                if match := expression.fullmatch(scope["path"]):
                    request.parts = match.groupdict()
                    await self._route(route, request)
                    return
            raise Refused(404, "UNSUPPORTED", f"the registry has no {scope['path']}")
        except Refused as refused:
            challenge = {"WWW-Authenticate": f'Basic realm="{self._config.endpoint_url}/",service="ecr.amazonaws.com"'}
            body = json.dumps({"errors": [{"code": refused.code, "message": refused.message}]}).encode()
            await request.answer(
                refused.status,
                {"Content-Type": "application/json", **(challenge if refused.status == 401 else {})},
                body,
            )
        except Disconnected:
            return

    def _authenticate(self, request: _Request) -> None:
        signature = f"AWS:{request.query.get(SIGNATURE, '')}".encode()
        if request.method in ("GET", "HEAD") and signature == self._credentials:
            return
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        try:
            is_known = scheme.lower() == "basic" and base64.b64decode(value) == self._credentials
        except ValueError:
            is_known = False
        if not is_known:
            raise Refused(401, "UNAUTHORIZED", "Not Authorized")

    async def _route(self, route: str, request: _Request) -> None:
        method = request.method
        if route == "base":
            await request.answer(200, {"Content-Type": "application/json"}, b"{}")
            return
        repository = await self._repository(request.parts["name"])
        if route == "tags" and method == "GET":
            await self._list_tags(request, repository["repositoryName"])
        elif route == "manifest" and method in ("GET", "HEAD"):
            await self._get_manifest(request)
        elif route == "manifest" and method == "PUT":
            await self._put_manifest(request, is_immutable=repository.get("imageTagMutability") == "IMMUTABLE")
        elif route == "blob" and method in ("GET", "HEAD"):
            await self._get_blob(request)
        elif route == "uploads" and method == "POST":
            await self._begin_upload(request)
        elif route == "upload":
            await self._continue_upload(request)
        else:
            raise Refused(405, "UNSUPPORTED", f"{method} is not supported here")

    async def _repository(self, name: str) -> dict[str, Any]:
        try:
            answer = await self._ecr.call("ecr", "DescribeRepositories", repositoryNames=[name])
        except ServiceError as error:
            raise Refused(
                404,
                "NAME_UNKNOWN",
                f"The repository with name '{name}' does not exist in the registry with id '{self._config.account_id}'",
            ) from error
        return dict(answer["repositories"][0])

    # -- contents ---

    async def _get_blob(self, request: _Request) -> None:
        name, digest = request.parts["name"], request.parts["digest"]
        try:
            is_there = self._blobs.has(name, digest)
        except ValueError as error:
            raise Refused(400, "DIGEST_INVALID", str(error)) from error
        if not is_there:
            raise Refused(404, "BLOB_UNKNOWN", f"the repository {name} has no {digest}")
        headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        await request.send_file(self._blobs.file(digest), headers)

    async def _begin_upload(self, request: _Request) -> None:
        name = request.parts["name"]
        mount, source = request.query.get("mount"), request.query.get("from")
        try:
            if mount and source and self._blobs.mount(mount, source, name):
                await self._created(request, f"/v2/{name}/blobs/{mount}", mount)
                return
        except ValueError as error:
            raise Refused(400, "DIGEST_INVALID", str(error)) from error
        upload = self._blobs.begin(name)
        if "digest" in request.query:  # all of it in this one request
            await self._receive(request, upload)
            await self._finish(request, upload)
            return
        await self._accepted(request, upload)

    async def _continue_upload(self, request: _Request) -> None:
        name = request.parts["name"]
        upload = self._blobs.find_upload(request.parts["upload"], name)
        if upload is None:
            raise Refused(404, "BLOB_UPLOAD_UNKNOWN", f"the repository {name} has no such upload")
        match request.method:
            case "GET":
                await self._accepted(request, upload, status=204)
            case "DELETE":
                self._blobs.abandon(upload)
                await request.answer(204)
            case "PATCH":
                begin = request.headers.get("content-range", "").partition("-")[0]
                if begin.isdigit() and int(begin) != upload.size:
                    await request.answer(416, {"Range": _range(upload), "Location": _location(upload)})
                    return
                await self._receive(request, upload)
                await self._accepted(request, upload)
            case "PUT":
                await self._receive(request, upload)
                await self._finish(request, upload)
            case _:
                raise Refused(405, "UNSUPPORTED", f"{request.method} is not supported here")

    async def _receive(self, request: _Request, upload: Upload) -> None:
        """Receive a part. An incomplete part ends the upload: the client must start again."""
        try:
            async for part in request.stream():
                upload.write(part)
        except BaseException:
            self._blobs.abandon(upload)
            raise

    async def _finish(self, request: _Request, upload: Upload) -> None:
        digest = request.query.get("digest", "")
        try:
            self._blobs.finish(upload, digest)
        except ValueError as error:
            self._blobs.abandon(upload)
            reason = (
                f"Layer digest '{digest}' does not match the calculated digest"
                if isinstance(error, DigestMismatch)
                else str(error)
            )
            raise Refused(400, "DIGEST_INVALID", reason) from error
        await self._created(request, f"/v2/{upload.repository}/blobs/{digest}", digest)

    async def _created(self, request: _Request, location: str, digest: str) -> None:
        await request.answer(201, {"Location": location, "Docker-Content-Digest": digest})

    async def _accepted(self, request: _Request, upload: Upload, status: int = 202) -> None:
        headers = {"Location": _location(upload), "Docker-Upload-UUID": upload.id, "Range": _range(upload)}
        await request.answer(status, headers)

    # -- images ---

    async def _list_tags(self, request: _Request, name: str) -> None:
        answer = await self._ecr.call("ecr", "DescribeImages", repositoryName=name)
        tags = sorted({tag for image in answer["imageDetails"] for tag in image.get("imageTags", [])})
        if last := request.query.get("last"):
            tags = [tag for tag in tags if tag > last]
        headers = {"Content-Type": "application/json"}
        most = request.query.get("n", "")
        if most.isdigit() and len(tags) > int(most):
            tags = tags[: int(most)]
            headers["Link"] = f'</v2/{name}/tags/list?n={most}&last={tags[-1] if tags else ""}>; rel="next"'
        await request.answer(200, headers, json.dumps({"name": name, "tags": tags}).encode())

    async def _find(self, name: str, reference: str) -> dict[str, Any] | None:
        wanted = {"imageDigest" if ":" in reference else "imageTag": reference}
        answer = await self._ecr.call("ecr", "BatchGetImage", repositoryName=name, imageIds=[wanted])
        return dict(answer["images"][0]) if answer["images"] else None

    async def _get_manifest(self, request: _Request) -> None:
        name, reference = request.parts["name"], request.parts["reference"]
        image = await self._find(name, reference)
        if image is None:
            raise Refused(404, "MANIFEST_UNKNOWN", "Requested image not found")
        await request.answer(
            200,
            {
                "Content-Type": image["imageManifestMediaType"],
                "Docker-Content-Digest": image["imageId"]["imageDigest"],
            },
            image["imageManifest"].encode(),
        )

    async def _put_manifest(self, request: _Request, *, is_immutable: bool) -> None:
        name, reference = request.parts["name"], request.parts["reference"]
        content = await request.body(MOST_MANIFEST_BYTES)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if ":" in reference and reference != digest:
            raise Refused(400, "DIGEST_INVALID", f"the manifest's digest is {digest}, not {reference}")
        media_type = self._check_manifest(name, content, request.headers.get("content-type", ""))
        tag = None if ":" in reference else reference
        tagged = await self._find(name, tag) if tag is not None else None
        if tagged is not None and is_immutable and tagged["imageId"]["imageDigest"] != digest:
            raise Refused(
                400,
                "TAG_INVALID",
                f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because "
                "the repository is immutable.",
            )
        if tagged is None or tagged["imageId"]["imageDigest"] != digest:
            self._blobs.add(name, content)
            await self._ecr.call(
                "ecr",
                "PutImage",
                repositoryName=name,
                imageManifest=content.decode(),
                imageManifestMediaType=media_type,
                imageDigest=digest,
                **({"imageTag": tag} if tag is not None else {}),
            )
            self._changed()
        await self._created(request, f"/v2/{name}/manifests/{digest}", digest)

    def _check_manifest(self, name: str, content: bytes, media_type: str) -> str:
        """The manifest's media type. Raises Refused if it is invalid or the repository lacks its contents."""
        try:
            manifest = json.loads(content)
            media_type = manifest.get("mediaType") or media_type.partition(";")[0].strip()
            if media_type in IMAGE_TYPES:
                needed = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
            elif media_type in INDEX_TYPES:
                needed = [each["digest"] for each in manifest["manifests"]]
            else:
                raise Refused(400, "MANIFEST_INVALID", f"manifests of the type {media_type!r} are not supported")
            missing = [digest for digest in needed if not self._blobs.has(name, digest)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(400, "MANIFEST_INVALID", f"the manifest is malformed: {error!r}") from error
        if missing:
            raise Refused(
                404 if media_type in IMAGE_TYPES else 400,
                "MANIFEST_BLOB_UNKNOWN" if media_type in IMAGE_TYPES else "MANIFEST_INVALID",
                f"Images with digests '{missing}' required for pushing image into repository with name '{name}' in the "
                f"registry with id '{self._config.account_id}' do not exist",
            )
        return str(media_type)


def _location(upload: Upload) -> str:
    return f"/v2/{upload.repository}/blobs/uploads/{upload.id}"


def _range(upload: Upload) -> str:
    return f"0-{max(upload.size - 1, 0)}"
