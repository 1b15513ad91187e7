"""An image that knows nothing of this repository: the guide is followed, then the service breaks and goes back."""

from __future__ import annotations

import httpx

from .conftest import PROJECT, Rehearsal
from .test_runbooks import FOLDER, blocks, follow, run_blocks, shell

__all__ = ["shell"]

GUIDE = PROJECT / "docs" / "guides" / "bring-your-own-images.md"
SERVER = "apps/notes/src/server.ts"


def read(rehearsal: Rehearsal) -> httpx.Response:
    return httpx.get(f"{rehearsal.url}/notes", timeout=20)


def test_image_in_typescript_is_released_broken_rolled_back_and_removed(
    rehearsal: Rehearsal, shell: dict[str, str]
) -> None:
    follow(GUIDE, rehearsal, shell)
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
    assert "all services run again what they ran before" in broken.stderr
    assert rehearsal.tasks()["notes"] == before
    assert read(rehearsal).status_code == 200

    with rehearsal.replaced(SERVER, '{ status: "ok" }', '{ status: "very well" }'):
        assert rehearsal.alva("deploy", "--service", "notes").returncode == 0
    back = rehearsal.alva("rollback", "--yes")
    assert back.returncode == 0, back.stderr
    assert [each["text"] for each in read(rehearsal).json()["notes"]] == ["of release 1"]

    # One password in two forms: notes has it in its URLs, api beside them.
    rotated = rehearsal.alva("secrets", "rotate", "database")
    assert rotated.returncode == 0, rotated.stderr
    assert httpx.post(f"{rehearsal.url}/notes", json={"text": "after it"}, timeout=20).status_code == 201
    assert rehearsal.alva("verify").returncode == 0

    removal = [block.replace("blog", "notes") for block in blocks(FOLDER / "remove-a-service.md")]
    run_blocks(removal, rehearsal, shell)
    assert "notes" not in rehearsal.tasks()
    assert rehearsal.alva("verify").returncode == 0
