"""A further service is added, released, broken, rolled back and removed with the runbooks' commands."""

from __future__ import annotations

import json

from tests.rehearsal.environment import Rehearsal
from tests.rehearsal.test_runbooks import FOLDER, follow, shell_at

from .conftest import Environment


def answer(rehearsal: Rehearsal, path: str) -> tuple[int, str | None]:
    """The status of a page, and the service that answered."""
    response = rehearsal.get(path)
    return response.status, response.headers["x-alva-service"]


def names(rehearsal: Rehearsal) -> set[str]:
    """The names of the environment's services."""
    status = json.loads(rehearsal.alva("status", "--json").stdout)
    return {service["name"] for service in status["services"] if service["tasks"]}


def test_service_is_added_released_broken_rolled_back_and_removed(environment: Environment) -> None:
    rehearsal, shell = environment, shell_at(environment)
    before = names(rehearsal)
    tasks_before = rehearsal.tasks()
    follow(FOLDER / "add-a-service.md", rehearsal, shell)
    assert names(rehearsal) == before | {"blog"}
    assert answer(rehearsal, "/blog") == answer(rehearsal, "/blog/") == (200, "blog")
    assert answer(rehearsal, "/")[1] == "web"
    assert rehearsal.alva("verify").returncode == 0
    good = rehearsal.get("/blog/").headers["x-alva-digest"]

    with rehearsal.edited("apps/blog/__main__.py", "raise SystemExit(1)\n"):
        broken = rehearsal.alva("deploy", "--service", "blog")
    assert broken.returncode == 5, broken.stderr
    assert "all services run the former version again" in broken.stderr
    assert rehearsal.get("/blog/").headers["x-alva-digest"] == good

    with rehearsal.replaced("apps/blog/__main__.py", '"hello"', '"good evening"'):
        assert rehearsal.alva("deploy", "--service", "blog").returncode == 0
    assert rehearsal.get("/blog/").headers["x-alva-digest"] != good
    back = rehearsal.alva("rollback", "--yes")
    assert back.returncode == 0, back.stderr
    assert rehearsal.get("/blog/").headers["x-alva-digest"] == good

    follow(FOLDER / "remove-a-service.md", rehearsal, shell)
    assert names(rehearsal) == before
    assert answer(rehearsal, "/blog") == (404, "web"), "web gets the paths of no other service"
    assert rehearsal.alva("verify").returncode == 0
    assert {name: tasks for name, tasks in rehearsal.tasks().items() if name in before} == tasks_before, (
        "nobody else was replaced"
    )
