"""A killed release, two concurrent releases, a version that ignores SIGTERM, and a killed region."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from typing import Any

import pytest

from tests.region.processes.found import alive, descendants, engines, region_process
from tests.waiting import until

from . import breaking
from .catalogue import API_ALONE, AUTH_ALONE, ROLLED_BACK, WEB_ALONE
from .conftest import CLUSTER, Environment

STEPS = (
    "build:api",
    "image:api",
    "stack:alva-staging-ecs",
    "secrets",
    "migration",
    "stack:alva-staging-services",
    "verify",
)
"""The steps of a release of another api version, in order."""
ON_EVERY_PUSH = ("stack:alva-staging-services",)
"""The step to kill on every push; the nightly run covers the others."""


@pytest.mark.parametrize(
    "step", [step if step in ON_EVERY_PUSH else pytest.param(step, marks=pytest.mark.nightly) for step in STEPS]
)
def test_release_killed_in_a_step_is_undone_by_the_next_one(environment: Environment, step: str) -> None:
    before = environment.last_release()["number"]
    with environment.unharmed():
        # New content each time, since an image that exists is not built again.
        with (
            environment.edited("apps/api/app.py", f"\n# killed in {step}\n", append=True),
            environment.alva_running(*API_ALONE) as (process, events),
        ):
            assert any(event.get("event") == "started" and event.get("step") == step for event in events)
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        next_one = environment.alva(*API_ALONE)
    assert next_one.returncode == 0, next_one.stderr
    # Before the first stack, a killed release has changed nothing, and the next one has nothing to do.
    last = environment.last_release()
    assert last["number"] == before or last["outcome"] == "succeeded"


@pytest.mark.nightly
def test_concurrent_release_is_refused_with_the_holder_of_the_first(environment: Environment) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    with environment.unharmed():
        with breaking.new_version("web")(environment):
            both = [threading.Thread(target=lambda: results.append(environment.alva("up"))) for _ in range(2)]
            for one in both:
                one.start()
            for one in both:
                one.join()
        assert environment.alva(*WEB_ALONE).returncode == 0
    assert sorted(result.returncode for result in results) == [0, 8], [result.stderr for result in results]
    assert "process " in next(result.stderr for result in results if result.returncode == 8)


DEAF = """
from common import serve
from web.app import WebSettings, create_app
serve._Server.handle_exit = lambda self, sig, frame: None
serve.run(WebSettings, create_app)
"""


@pytest.mark.nightly
def test_version_that_ignores_sigterm_is_killed_without_a_failed_request(environment: Environment) -> None:
    with environment.unharmed():
        with breaking.web_main(DEAF)(environment):
            deaf = environment.alva(*WEB_ALONE)
        assert deaf.returncode == 0, deaf.stderr
        (task,) = environment.tasks()["web"]
        back = environment.alva(*WEB_ALONE)
        assert back.returncode == 0, back.stderr
        # The release ends when the new version serves; the old task then still has its stop timeout.
        stopped = until(lambda: stopped_task(environment, task), f"the end of task {task}")
    assert stopped["containers"][0]["exitCode"] == 137


def stopped_task(environment: Environment, arn: str) -> dict[str, Any] | None:
    """The task, once it has stopped."""
    (task,) = environment.client("ecs").describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"]
    return dict(task) if task["lastStatus"] == "STOPPED" else None


@pytest.mark.nightly
def test_removed_listener_rule_is_found_by_verification(environment: Environment) -> None:
    before = environment.standing()
    with environment.users() as problems, breaking.rule_removed(environment):
        found = environment.alva("verify")
        assert found.returncode == 7, found.stderr
        assert "admin answers /admin/x: HTTP 404 from" in found.stderr
        until(lambda: problems, "a user of admin who reaches web")
    assert {problem.partition(":")[0] for problem in problems} == {"/admin/x"}
    until(lambda: environment.standing() == before, "the environment as it was before")
    assert environment.alva("verify").returncode == 0


@pytest.mark.parametrize("program", ["valkey-server", "postgres"])
def test_killed_engine_is_restarted_without_a_failed_request(environment: Environment, program: str) -> None:
    with environment.unharmed():
        (killed,) = engines(environment.home, program)
        os.kill(killed, signal.SIGKILL)
        until(lambda: (now := engines(environment.home, program)) and killed not in now, "another engine")
        until(lambda: environment.query_database("SELECT 1"), "an answer of the database")


@pytest.mark.nightly
def test_release_rolls_back_while_the_cache_does_not_answer_and_is_not_named_as_its_cause(
    environment: Environment,
) -> None:
    with environment.unharmed():
        with breaking.cache_down(environment), breaking.new_version("auth")(environment):
            released = environment.alva(*AUTH_ALONE)
            verified = environment.alva("verify", "--deep")
        assert released.returncode == ROLLED_BACK, released.stderr
        assert "inside: queue: TimeoutError" in released.stderr
        assert "with the former version too: this release is not the cause" in released.stderr
    assert verified.returncode == 7, verified.stdout + verified.stderr
    assert "FAIL  inside: queue" in verified.stdout


def test_full_disk_is_reported_and_nothing_is_changed(environment: Environment) -> None:
    images = environment.home / "images"
    # Mount a small file system in a mount namespace, so that the real disk is unchanged.
    script = f'mount -t tmpfs -o size=256k tmpfs {images} && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this needs the permission to mount a small disk")
    with environment.unharmed(), breaking.new_version("web")(environment):
        ended = subprocess.run(
            [*prefix, *environment.command(*WEB_ALONE)],
            env=environment.environment,
            cwd=environment.project,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert ended.returncode == 1, ended.stderr
    assert "No space left on device" in ended.stderr
    assert str(images) in ended.stderr


# On every push, smaller regions are killed: region/ecs/test_restart.py, region/control_plane/test_daemon.py.
@pytest.mark.nightly
def test_killed_region_restarts_with_its_former_state(environment: Environment) -> None:
    assert environment.alva("up").returncode == 0  # an earlier fault may have left changes to release
    with environment.database() as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 'yes' AS answer")
        connection.commit()
    before, kept = environment.standing(), what_is_kept(environment)
    assert kept["data"] == [("yes",)]
    pid = region_process(environment.home)
    children = descendants(pid)
    assert {"envoy", "postgres", "valkey-server", "python"} <= set(children.values())
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive([pid, *children]), "the end of everything that the region started")

    up = environment.alva("up", "--json")
    assert up.returncode == 0, up.stderr
    assert json.loads(up.stdout)["changed"] is False
    until(lambda: environment.standing() == before, "everything running as it was before")
    assert what_is_kept(environment) == kept
    assert environment.alva("verify").returncode == 0


def what_is_kept(environment: Environment) -> dict[str, Any]:
    """Return stacks, secrets, ledger and data."""
    stacks = environment.client("cloudformation").describe_stacks()["Stacks"]
    secrets = environment.client("secretsmanager")
    return {
        "stacks": {stack["StackName"]: (stack["StackId"], stack["StackStatus"]) for stack in stacks},
        "secrets": {
            secret["Name"]: secrets.get_secret_value(SecretId=secret["ARN"])["SecretString"]
            for secret in secrets.list_secrets()["SecretList"]
        },
        "ledger": json.loads(environment.alva("releases", "--json").stdout),
        "data": environment.query_database("SELECT * FROM kept"),
    }
