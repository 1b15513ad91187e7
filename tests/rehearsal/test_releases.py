"""Releases into the running environment: what changes, what does not, and what a bad one leaves behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from .conftest import Rehearsal

SERVICES = ("web", "api", "auth", "admin")
PATHS = {"web": "/", "api": "/api/x", "auth": "/auth/x", "admin": "/admin/x"}


@contextmanager
def edited(rehearsal: Rehearsal, name: str, content: str, *, append: bool = False) -> Iterator[None]:
    """The project with one file changed."""
    file = rehearsal.project / name
    before = file.read_text()
    file.write_text(before + content if append else content)
    try:
        yield
    finally:
        file.write_text(before)


def tasks(rehearsal: Rehearsal) -> dict[str, list[str]]:
    """Service -> its tasks."""
    status = json.loads(rehearsal.alva("status", "--json").stdout)
    return {service["name"]: [task["task"] for task in service["tasks"]] for service in status["services"]}


def get(rehearsal: Rehearsal, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(rehearsal.url).netloc, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def digests(rehearsal: Rehearsal) -> dict[str, str | None]:
    """Service -> the digest that answers through the load balancer."""
    return {name: get(rehearsal, path).headers["x-alva-digest"] for name, path in PATHS.items()}


@contextmanager
def users(rehearsal: Rehearsal) -> Iterator[list[str]]:
    """Somebody asks every service again and again; what went wrong for them."""
    problems: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            for path in PATHS.values():
                try:
                    status = get(rehearsal, path).status
                    if status >= 500:
                        problems.append(f"{path}: HTTP {status}")
                except (OSError, http.client.HTTPException) as error:
                    problems.append(f"{path}: {error!r}")
            time.sleep(0.02)

    user = threading.Thread(target=ask)
    user.start()
    try:
        yield problems
    finally:
        done.set()
        user.join()


def released_tags(rehearsal: Rehearsal) -> dict[str, set[str]]:
    """Digest -> what says that it was released, in all repositories."""
    ecr = rehearsal.client("ecr")
    return {
        image["imageDigest"]: {tag for tag in image.get("imageTags", []) if tag.startswith("released-")}
        for service in SERVICES
        for image in ecr.describe_images(repositoryName=f"alva-{service}")["imageDetails"]
    }


def test_up_again_changes_nothing(rehearsal: Rehearsal) -> None:
    before = tasks(rehearsal)
    up = rehearsal.alva("up", "--json")
    assert up.returncode == 0, up.stderr
    said = json.loads(up.stdout)
    assert said["changed"] is False
    assert said["steps"] == []
    assert tasks(rehearsal) == before


def test_edit_in_one_service_releases_that_service_alone_and_users_notice_nothing(rehearsal: Rehearsal) -> None:
    tasks_before, digests_before = tasks(rehearsal), digests(rehearsal)
    with edited(rehearsal, "apps/web/app.py", "\n# edited\n", append=True), users(rehearsal) as problems:
        up = rehearsal.alva("up", "--json")
    assert up.returncode == 0, up.stderr
    said = json.loads(up.stdout)
    assert "migration" not in [step["step"] for step in said["steps"]]
    tasks_after, digests_after = tasks(rehearsal), digests(rehearsal)
    assert digests_after["web"] == said["digests"]["web"] != digests_before["web"]
    assert not set(tasks_after["web"]) & set(tasks_before["web"])
    for other in ("api", "auth", "admin"):
        assert tasks_after[other] == tasks_before[other]
        assert digests_after[other] == digests_before[other]
    assert problems == []
    tags_before = released_tags(rehearsal)
    assert f"released-{said['release']}" in tags_before[said["digests"]["web"]]
    assert not any(f"released-{said['release']}" in tags_before[said["digests"][other]] for other in ("api", "auth"))

    # The content decides: with the sources as they were, the image is the one of before.
    again = rehearsal.alva("up", "--json")
    assert again.returncode == 0, again.stderr
    assert digests(rehearsal) == digests_before
    web, number = str(digests_before["web"]), json.loads(again.stdout)["release"]
    assert released_tags(rehearsal)[web] - tags_before[web] == {f"released-{number}"}, "it came back"


def test_service_that_crashes_at_start_is_rolled_back_with_its_cause(rehearsal: Rehearsal) -> None:
    before = digests(rehearsal)
    crash = 'raise SystemExit("the setting FLUX is missing")\n'
    tags_before = released_tags(rehearsal)
    with edited(rehearsal, "apps/web/__main__.py", crash), users(rehearsal) as problems:
        up = rehearsal.alva("up")
    assert up.returncode == 5, up.stderr
    tags = released_tags(rehearsal)
    assert len(tags) == len(tags_before) + 1, "its image is in the repository"
    assert {digest: tags[digest] for digest in tags_before} == tags_before
    assert all(not tags[digest] for digest in tags if digest not in tags_before), "it was not released"
    assert "web: Essential container in task exited" in up.stderr
    assert "last log: the setting FLUX is missing" in up.stderr
    assert digests(rehearsal) == before
    assert problems == []
    latest = json.loads(rehearsal.alva("releases", "--json", "--last", "1").stdout)[0]
    assert latest["outcome"] == "rolled back"
    assert "FLUX" in latest["cause"] or "Essential container" in latest["cause"]


def test_all_services_go_back_together_when_one_does_not_start(rehearsal: Rehearsal) -> None:
    before = digests(rehearsal)
    with (
        edited(rehearsal, "apps/web/__main__.py", "raise SystemExit(1)\n"),
        edited(rehearsal, "apps/admin/app.py", "\n# edited\n", append=True),
    ):
        up = rehearsal.alva("up")
    assert up.returncode == 5, up.stderr
    assert digests(rehearsal) == before


def test_failed_migration_leaves_the_services_untouched(rehearsal: Rehearsal) -> None:
    before = tasks(rehearsal)
    fail = 'print("relation plans is locked")\nraise SystemExit(3)\n'
    with edited(rehearsal, "apps/migrations/__main__.py", fail), users(rehearsal) as problems:
        up = rehearsal.alva("up")
    assert up.returncode == 4, up.stderr
    assert "exit code 3" in up.stderr
    assert "last log: relation plans is locked" in up.stderr
    assert tasks(rehearsal) == before
    assert problems == []


def test_interrupted_release_is_finished_by_the_next_up(rehearsal: Rehearsal) -> None:
    with edited(rehearsal, "apps/web/app.py", "\n# interrupted\n", append=True):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "alva", "up", "--json"],
            env={**os.environ, **rehearsal.variables, "PYTHONPATH": str(rehearsal.project / "src")},
            cwd=rehearsal.project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr is not None
        for text in process.stderr:
            event: dict[str, Any] = json.loads(text)
            if event.get("event") == "line" and str(event.get("step", "")).endswith("-services"):
                os.killpg(process.pid, signal.SIGINT)
                break
        assert process.wait(timeout=30) == 130
        process.stderr.close()

        up = rehearsal.alva("up", "--json")
        assert up.returncode == 0, up.stderr
        assert digests(rehearsal)["web"] == json.loads(up.stdout)["digests"]["web"]


def test_second_release_at_the_same_time_is_refused_with_the_firsts_holder(rehearsal: Rehearsal) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    with edited(rehearsal, "apps/web/app.py", "\n# twice\n", append=True):
        both = [threading.Thread(target=lambda: results.append(rehearsal.alva("up"))) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
    assert sorted(result.returncode for result in results) == [0, 8], [result.stderr for result in results]
    assert "process " in next(result.stderr for result in results if result.returncode == 8)


def test_secret_that_nobody_set_stops_a_release_before_the_migration(rehearsal: Rehearsal) -> None:
    unset = subprocess.run(
        [sys.executable, "-P", "-c", UNSET_SECRET, rehearsal.variables["ALVA_API_PORT"]], check=False, timeout=60
    )
    assert unset.returncode == 0
    deploy = rehearsal.alva("deploy")
    assert deploy.returncode == 3, deploy.stderr
    assert "alva-staging-openai-api-key: not set" in deploy.stderr
    assert rehearsal.alva("secrets", "check").returncode == 3
    ready = rehearsal.alva("up")  # where stand-ins answer, a key for them is made
    assert ready.returncode == 0, ready.stderr


UNSET_SECRET = """
import sys, boto3
client = boto3.client(
    "secretsmanager", endpoint_url=f"http://127.0.0.1:{sys.argv[1]}", region_name="us-east-1",
    aws_access_key_id="local", aws_secret_access_key="local",
)
client.put_secret_value(SecretId="alva-staging-openai-api-key", SecretString="alva:unset")
"""


def test_unknown_resource_type_is_refused_by_name_before_anything_is_touched(rehearsal: Rehearsal) -> None:
    odd = 'cdk.CfnResource(network, "Odd", type="AWS::Nothing::Here")\n    return app\n'
    composition = (rehearsal.project / "infrastructure/lib/composition.py").read_text()
    assert "    return app\n" in composition
    before = tasks(rehearsal)
    with edited(rehearsal, "infrastructure/lib/composition.py", composition.replace("return app\n", odd)):
        up = rehearsal.alva("up")
    assert up.returncode == 3, up.stderr
    assert "AWS::Nothing::Here" in up.stderr
    assert tasks(rehearsal) == before


def test_one_off_task_gives_its_output_and_its_exit_code(rehearsal: Rehearsal) -> None:
    code = "import os, sys; print(os.environ['ENVIRONMENT'], 'JWT_PRIVATE_KEY' in os.environ); sys.exit(7)"
    ran = rehearsal.alva("run", "auth", "--", "python", "-c", code)
    assert ran.returncode == 7, ran.stderr
    assert ran.stdout == "staging True\n"


def test_logs_hold_what_a_service_was_asked_and_name_it(rehearsal: Rehearsal) -> None:
    get(rehearsal, "/admin/x?marker=find-me")
    deadline = time.monotonic() + 10
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline:
        lines = rehearsal.alva("logs", "admin", "--json", "--since", "1m").stdout.splitlines()
        found = [line for line in map(json.loads, lines) if "/admin/x" in str(line["message"])]
    assert found
    assert {line["source"] for line in found} == {"admin"}
