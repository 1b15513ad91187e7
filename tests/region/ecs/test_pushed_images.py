"""Images that other programs push to the region's registry, and tasks that run them.

The test builds the images: one with a static busybox and links to it, like Alpine, and one with a single program and no
shell, like distroless images.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import platform
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from alva.errors import BuildFailed
from alva.oci import Layout, Registry
from alva.region.images.blobs import Blobs
from alva.region.images.pushed import find_pushed, prune
from alva.region.images.store import ImageStore
from tests.layouts import entry, file_entry, tar, write_layout
from tests.region.ecs.workbench import Workbench
from tests.waiting import until

BUSYBOX = shutil.which("busybox")
MUSL = Path("/lib") / f"ld-musl-{platform.machine()}.so.1"
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nrunner:x:4321:4322::/home/runner:/bin/sh\n"
GROUP = b"root:x:0:\nrunner:x:4322:\nothers:x:4400:\n"

pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed")


def small_system(folder: Path, **config: Any) -> Layout:
    """An image with a shell: busybox, links to it, users."""
    assert BUSYBOX is not None
    base = tar(
        [
            entry("bin", tarfile.DIRTYPE),
            file_entry("bin/busybox", Path(BUSYBOX).read_bytes(), 0o755),
            *(entry(f"bin/{name}", tarfile.SYMTYPE, "busybox") for name in ("sh", "cat", "id", "ls", "sleep", "env")),
            entry("etc", tarfile.DIRTYPE),
            file_entry("etc/passwd", PASSWD),
            file_entry("etc/group", GROUP),
            entry("lib", tarfile.SYMTYPE, "usr/lib"),
            entry("usr/lib", tarfile.DIRTYPE),
            entry("data", tarfile.DIRTYPE, mode=0o2770, uid=4321, gid=4322),
            file_entry("data/first", b"1", uid=4321, gid=4322),
            file_entry("data/second", b"2"),
            entry("old", tarfile.DIRTYPE),
            file_entry("old/one", b"1"),
        ]
    )
    upper = tar(
        [
            file_entry("data/.wh.second"),
            entry("old", tarfile.DIRTYPE),
            file_entry("old/.wh..wh..opq"),
            file_entry("old/two", b"2"),
            file_entry("lib/through-the-link", b"3"),
            entry("data/same", tarfile.LNKTYPE, "data/first"),
        ]
    )
    return write_layout(folder, base, upper, config=config)


class Ecr:
    """The region's ECR, and a client of its registry."""

    def __init__(self, workbench: Workbench) -> None:
        self.api = workbench.client("ecr")
        data = self.api.get_authorization_token()["authorizationData"][0]
        self.endpoint, self.token = data["proxyEndpoint"], data["authorizationToken"]

    @property
    def password(self) -> str:
        return base64.b64decode(self.token).decode().partition(":")[2]

    def repository(self, name: str, mutability: str = "IMMUTABLE") -> str:
        created = self.api.create_repository(repositoryName=name, imageTagMutability=mutability)
        return str(created["repository"]["repositoryUri"])

    def push(self, image: Layout, name: str, tag: str = "1") -> str:
        """Push with a client of this test; returns the reference by digest for a task definition."""
        uri = self.repository(name)
        Registry(url=self.endpoint, authorization=f"Basic {self.token}").push(image, name, tag)
        return f"{uri}@{image.digest}"

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.endpoint.partition("://")[2], timeout=10)
        connection.request(method, path, body, {"Authorization": f"Basic {self.token}", **headers})
        answer = connection.getresponse()
        result = answer.status, answer.headers, answer.read()
        connection.close()
        return result


@pytest.fixture(scope="module")
def ecr(workbench: Workbench) -> Ecr:
    return Ecr(workbench)


def shell(workbench: Workbench, reference: str, script: str, **container: Any) -> list[str]:
    """The output of a script in a container of the image."""
    main = {"name": "main", "image": reference, "entryPoint": ["/bin/sh", "-c"], "command": [script], **container}
    volumes = [{"name": mount["sourceVolume"]} for mount in container.get("mountPoints", [])]
    task = workbench.stopped(workbench.run(workbench.task_definition("shell", main, volumes=volumes)))
    assert task["containers"][0].get("exitCode") == 0, (task, workbench.log_lines(task["taskArn"], "main"))
    return workbench.log_lines(task["taskArn"], "main")


def test_layers_are_applied_according_to_the_specification(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    reference = ecr.push(small_system(tmp_path / "image"), "applied")
    script = "ls /data; ls /old; cat /usr/lib/through-the-link /data/same; ls -lnd /data; ls /"
    lines = shell(workbench, reference, script)
    assert lines[:2] == ["first", "same"]
    assert lines[2] == "two"
    assert lines[3].startswith("31drwxrws---")
    assert lines[3].split()[2:4] == ["4321", "4322"]
    assert set(lines[4:]) == {"bin", "data", "dev", "etc", "lib", "old", "proc", "run", "usr", "app"}


def test_user_is_found_by_name_in_the_image(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    reference = ecr.push(small_system(tmp_path / "image", User="runner", WorkingDir="/data"), "named")
    assert shell(workbench, reference, "id -u; id -g; cat /etc/passwd >/dev/null; echo $PWD") == [
        "4321",
        "4322",
        "/data",
    ]
    assert shell(workbench, reference, "id -u; id -g", user="runner:others") == ["4321", "4400"]
    definition = workbench.task_definition(
        "unknown", {"name": "main", "image": reference, "user": "nobody-here", "command": ["/bin/id"]}
    )
    task = workbench.stopped(workbench.run(definition))
    assert "unable to find user nobody-here: no matching entries in passwd file" in task["stoppedReason"]


def test_hostname_is_the_platforms_and_resolves_to_the_task(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    """Servers such as Next.js listen on HOSTNAME: the image's value is ignored, the definition's is used."""
    reference = ecr.push(small_system(tmp_path / "image", Env=["HOSTNAME=0.0.0.0"]), "hostname")
    name, *hosts = shell(workbench, reference, "echo $HOSTNAME; cat /etc/hosts")
    assert name.startswith(("ip-10-", "ip-127-"))
    assert name.endswith(".ec2.internal")
    address = name.removeprefix("ip-").partition(".")[0].replace("-", ".")
    assert f"{address} {name}" in hosts
    given = [{"name": "HOSTNAME", "value": "0.0.0.0"}]  # noqa: S104
    assert shell(workbench, reference, "echo $HOSTNAME", environment=given) == ["0.0.0.0"]  # noqa: S104


def test_root_is_writable_unless_it_is_read_only_and_the_image_stays_as_it_was(
    workbench: Workbench, ecr: Ecr, tmp_path: Path
) -> None:
    reference = ecr.push(small_system(tmp_path / "image"), "writable")
    script = "echo new >/etc/passwd && echo wrote; cat /etc/passwd"
    assert shell(workbench, reference, script) == ["wrote", "new"]
    lines = shell(workbench, reference, script + "; true", readonlyRootFilesystem=True)
    assert lines[0].endswith("Read-only file system")
    assert lines[1:] == PASSWD.decode().splitlines()


def test_volume_gets_the_content_that_the_image_declares(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    reference = ecr.push(small_system(tmp_path / "image", User="runner", Volumes={"/data": {}}), "volumes")
    mounts = [{"sourceVolume": name, "containerPath": f"/{name}"} for name in ("data", "tmp")]
    lines = shell(
        workbench,
        reference,
        "cat /data/first; echo; echo x >/data/new && cat /data/new; echo x >/tmp/new || echo refused",
        readonlyRootFilesystem=True,
        mountPoints=mounts,
    )
    assert lines[:2] == ["1", "x"]
    assert lines[-1] == "refused"


def test_image_without_a_shell_runs_its_entrypoint_with_its_environment(
    workbench: Workbench, ecr: Ecr, tmp_path: Path
) -> None:
    assert BUSYBOX is not None
    image = write_layout(
        tmp_path / "image",
        tar([file_entry("env", Path(BUSYBOX).read_bytes(), 0o755)]),
        config={"Entrypoint": ["/env"], "Env": ["GREETING=hello=you"], "User": "65532:65532"},
    )
    definition = workbench.task_definition(
        "distroless", {"name": "main", "image": ecr.push(image, "distroless"), "readonlyRootFilesystem": True}
    )
    task = workbench.stopped(workbench.run(definition))
    lines = workbench.log_lines(task["taskArn"], "main")
    assert task["containers"][0]["exitCode"] == 0
    assert {"GREETING=hello=you", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} <= set(lines)


@pytest.mark.skipif(not MUSL.exists() or shutil.which("gcc") is None, reason="no musl here: apt-get install musl gcc")
def test_program_of_alpines_c_library_runs_with_the_images_own(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    source, program = tmp_path / "hello.c", tmp_path / "hello"
    source.write_text(
        "int puts(const char *); void exit(int);\n"
        '__attribute__((force_align_arg_pointer)) void _start(void) { puts("hello from musl"); exit(0); }\n'
    )
    linker = f"-Wl,--dynamic-linker=/lib/{MUSL.name}"
    subprocess.run(
        ["gcc", "-nostdlib", "-fno-stack-protector", "-o", program, source, MUSL.resolve(), linker], check=True
    )
    image = write_layout(
        tmp_path / "image",
        tar(
            [
                file_entry("hello", program.read_bytes(), 0o755),
                file_entry(f"lib/{MUSL.name}", MUSL.read_bytes(), 0o755),
                file_entry(str(MUSL.resolve()).lstrip("/"), MUSL.read_bytes(), 0o755),
            ]
        ),
        config={"Entrypoint": ["/hello"]},
    )
    definition = workbench.task_definition("musl", {"name": "main", "image": ecr.push(image, "musl")})
    task = workbench.stopped(workbench.run(definition))
    assert task["containers"][0].get("exitCode") == 0, task
    assert workbench.log_lines(task["taskArn"], "main") == ["hello from musl"]


def test_stop_signal_is_the_images(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    script = "trap 'echo told; exit 5' USR1; trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done"
    image = small_system(tmp_path / "image", StopSignal="SIGUSR1", Entrypoint=["/bin/sh", "-c", script])
    definition = workbench.task_definition("signal", {"name": "main", "image": ecr.push(image, "signal")})
    arn = workbench.run(definition)
    workbench.running(arn)
    workbench.ecs.stop_task(cluster=workbench.cluster, task=arn)
    assert workbench.stopped(arn)["containers"][0]["exitCode"] == 5


def test_layer_with_a_path_outside_the_image_is_refused(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    image = write_layout(tmp_path / "image", tar([file_entry(f"../../..{outside}", b"x")]))
    definition = workbench.task_definition("outside", {"name": "main", "image": ecr.push(image, "outside")})
    task = workbench.stopped(workbench.run(definition))
    assert task["stoppedReason"].startswith("CannotPullContainerError: failed to extract layer")
    assert not outside.exists()


def test_index_runs_the_image_for_this_machine(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    image = small_system(tmp_path / "image")
    ecr.push(image, "index")
    descriptor = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest)}
    here = {**descriptor, "platform": {"os": "linux", "architecture": image.platform.partition("/")[2]}}
    media_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": [here]}
    path = "/v2/index/manifests/both"
    assert ecr.request("PUT", path, json.dumps(index).encode(), **{"Content-Type": media_type})[0] == 201
    assert shell(workbench, f"{ecr.endpoint.partition('://')[2]}/index:both", "echo here") == ["here"]
    index["manifests"] = [{**descriptor, "platform": {"os": "linux", "architecture": "s390x"}}]
    path = "/v2/index/manifests/other"
    assert ecr.request("PUT", path, json.dumps(index).encode(), **{"Content-Type": media_type})[0] == 201
    definition = workbench.task_definition(
        "other", {"name": "main", "image": f"{ecr.endpoint.partition('://')[2]}/index:other"}
    )
    task = workbench.stopped(workbench.run(definition))
    assert "does not contain descriptor matching platform" in task["stoppedReason"]


def test_immutable_tag_is_refused_in_ecrs_words_and_the_same_image_is_not(ecr: Ecr, tmp_path: Path) -> None:
    first, second = small_system(tmp_path / "1"), small_system(tmp_path / "2", User="runner")
    ecr.push(first, "immutable", "v1")
    registry = Registry(url=ecr.endpoint, authorization=f"Basic {ecr.token}")
    registry.push(first, "immutable", "v1")
    with pytest.raises(BuildFailed) as caught:
        registry.push(second, "immutable", "v1")
    assert caught.value.evidence == (
        "TAG_INVALID: The image tag 'v1' already exists in the 'immutable' repository and cannot be overwritten "
        "because the repository is immutable.",
    )
    details = ecr.api.describe_images(repositoryName="immutable")["imageDetails"]
    assert [(image["imageDigest"], image["imageTags"]) for image in details] == [(first.digest, ["v1"])]
    assert json.loads(ecr.request("GET", "/v2/immutable/tags/list")[2]) == {"name": "immutable", "tags": ["v1"]}


def test_missing_image_is_an_error_of_describe_images(ecr: Ecr, tmp_path: Path) -> None:
    """Clients such as the CDK push an image only after this error."""
    ecr.push(small_system(tmp_path / "image"), "described", "v1")
    words = r"imageTag:'v2'} does not exist within the repository with name 'described' in the registry with id"
    with pytest.raises(ecr.api.exceptions.ImageNotFoundException, match=words):
        ecr.api.describe_images(repositoryName="described", imageIds=[{"imageTag": "v1"}, {"imageTag": "v2"}])


def test_content_is_read_at_the_url_that_ecr_gives(ecr: Ecr, tmp_path: Path) -> None:
    image = small_system(tmp_path / "image")
    ecr.push(image, "urls")
    given = ecr.api.get_download_url_for_layer(repositoryName="urls", layerDigest=image.config_digest)["downloadUrl"]
    with urllib.request.urlopen(given, timeout=10) as answer:
        assert answer.read() == image.blob(image.config_digest).read_bytes()


def test_unknown_content_and_missing_permission_have_the_registrys_errors(
    workbench: Workbench, ecr: Ecr, tmp_path: Path
) -> None:
    with pytest.raises(BuildFailed, match="cannot push missing:1") as caught:
        Registry(url=ecr.endpoint, authorization=f"Basic {ecr.token}").push(
            small_system(tmp_path / "i"), "missing", "1"
        )
    account = workbench.config.account_id
    name_unknown = f"The repository with name 'missing' does not exist in the registry with id '{account}'"
    assert caught.value.evidence == (f"NAME_UNKNOWN: {name_unknown}",)
    for credentials in ({}, {"Authorization": "Basic QVdTOndyb25n"}, {"Authorization": "Basic ?"}):
        connection = http.client.HTTPConnection(ecr.endpoint.partition("://")[2], timeout=10)
        connection.request("GET", "/v2/", headers=credentials)
        answer = connection.getresponse()
        assert answer.status == 401
        assert (answer.getheader("WWW-Authenticate") or "").startswith("Basic realm=")
        connection.close()


def test_wrong_digest_and_interrupted_upload_leave_nothing(workbench: Workbench, ecr: Ecr) -> None:
    ecr.repository("broken")
    images = workbench.config.images_folder

    def kept() -> list[Path]:
        return [file for folder in ("uploads", "repositories/broken") for file in (images / folder).glob("*")]

    status, headers, _ = ecr.request("POST", "/v2/broken/blobs/uploads/")
    assert status == 202
    status, _, body = ecr.request("PUT", f"{headers['Location']}?digest=sha256:{'0' * 64}", b"content")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    location = ecr.request("POST", "/v2/broken/blobs/uploads/")[1]["Location"]
    connection = http.client.HTTPConnection(ecr.endpoint.partition("://")[2], timeout=10)
    connection.putrequest("PATCH", location)
    connection.putheader("Authorization", f"Basic {ecr.token}")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"x" * 1000)
    connection.close()
    until(lambda: not kept())
    assert ecr.request("GET", location)[0] == 404


def test_content_in_parts_and_content_of_another_repository_are_taken(ecr: Ecr) -> None:
    import hashlib

    for name in ("parts", "mounted"):
        ecr.repository(name)
    digest = f"sha256:{hashlib.sha256(b'onetwo').hexdigest()}"
    location = ecr.request("POST", "/v2/parts/blobs/uploads/")[1]["Location"]
    assert ecr.request("PATCH", location, b"one", **{"Content-Range": "0-2"})[1]["Range"] == "0-2"
    assert ecr.request("PATCH", location, b"two", **{"Content-Range": "7-9"})[0] == 416
    assert ecr.request("PATCH", location, b"two", **{"Content-Range": "3-5"})[0] == 202
    assert ecr.request("PUT", f"{location}?digest={digest}")[0] == 201
    assert ecr.request("GET", f"/v2/parts/blobs/{digest}")[2] == b"onetwo"
    assert ecr.request("HEAD", f"/v2/mounted/blobs/{digest}")[0] == 404
    assert ecr.request("POST", f"/v2/mounted/blobs/uploads/?mount={digest}&from=parts")[0] == 201
    assert ecr.request("HEAD", f"/v2/mounted/blobs/{digest}")[0] == 200


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_pushes_and_pulls_over_tls(workbench: Workbench, ecr: Ecr, tmp_path: Path) -> None:
    image = small_system(tmp_path / "image")
    target = f"docker://{ecr.repository('skopeo')}:latest"
    credentials = f"AWS:{ecr.password}"
    trusting = {"SSL_CERT_FILE": str(workbench.config.trust_bundle_file)}

    def skopeo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["skopeo", "--insecure-policy", "copy", *arguments]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)

    refused = skopeo("--dest-creds", credentials, f"oci:{image.folder}", target)
    assert refused.returncode != 0
    assert "certificate signed by unknown authority" in refused.stderr
    pushed = skopeo("--dest-creds", credentials, f"oci:{image.folder}", target, **trusting)
    assert pushed.returncode == 0, pushed.stderr
    back = tmp_path / "back"
    pulled = skopeo("--src-creds", credentials, target, f"oci:{back}", **trusting)
    assert pulled.returncode == 0, pulled.stderr
    assert Layout.read(back).digest == image.digest
    assert shell(workbench, f"{target.removeprefix('docker://')}", "echo from skopeo") == ["from skopeo"]


def test_contents_without_a_repository_are_pruned_and_the_rest_is_kept(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    blobs = Blobs(store.folder)
    images = [small_system(tmp_path / "kept"), write_layout(tmp_path / "gone", {"only": b"here"})]
    for image in images:
        for digest in (*image.layers, image.config_digest, image.digest):
            assert blobs.add("any", image.blob(digest).read_bytes()) == digest
        assert find_pushed(store, image.digest) is not None
    kept, gone = images
    assert prune(store, {kept.digest}) == 0, "recent contents may not be in a repository yet"
    assert prune(store, {kept.digest}, unused_for_seconds=-1) > 0
    assert all(blobs.has("any", digest) for digest in (*kept.layers, kept.config_digest, kept.digest))
    assert not any(blobs.has("any", digest) for digest in (*gone.layers, gone.config_digest, gone.digest))
    assert [root.name for root in (store.folder / "roots").iterdir()] == [kept.digest.removeprefix("sha256:")]
