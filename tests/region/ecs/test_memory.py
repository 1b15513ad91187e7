"""Memory limits: a container that exceeds its limit is killed, as on Fargate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alva.region import daemon
from alva.region.memory import MemoryLimits, group_of
from tests.region.control_plane.test_daemon import wait_until_saved
from tests.region.processes.found import alive, region_process
from tests.waiting import until

from .workbench import Workbench, running_workbench

pytestmark = pytest.mark.region

GREEDY = """
import os
taken = []
for _ in range(int(os.environ["MEBIBYTES"])):
    taken.append(b"x" * 2**20)
print("took it")
"""


@pytest.fixture
def workbench(workbench: Workbench) -> Workbench:
    """The shared workbench, if its region limits memory."""
    _require_limits(workbench)
    return workbench


def _require_limits(workbench: Workbench) -> None:
    limits = daemon.status(workbench.config).memory_limits
    if not limits.startswith("enforced"):
        pytest.skip(f"memory limits are {limits}")


def greedy(workbench: Workbench, mebibytes: int, **more: Any) -> str:
    environment = [{"name": "MEBIBYTES", "value": str(mebibytes)}]
    image = workbench.image(GREEDY, "greedy")
    return workbench.task_definition("greedy", {"name": "main", "image": image, "environment": environment, **more})


def test_a_container_over_its_limit_is_killed_with_awss_reason(workbench: Workbench) -> None:
    task = workbench.stopped(workbench.run(greedy(workbench, 200, memory=64)))
    (container,) = task["containers"]
    assert container["exitCode"] == 137
    assert container["reason"] == "OutOfMemoryError: Container killed due to memory usage"
    assert task["stoppedReason"] == "Essential container in task exited"


def test_the_tasks_limit_holds_for_a_container_without_one(workbench: Workbench) -> None:
    task = workbench.stopped(workbench.run(greedy(workbench, 700)))
    (container,) = task["containers"]
    assert (container["exitCode"], container["reason"][:17]) == (137, "OutOfMemoryError:")


def test_within_the_limit_nothing_is_killed(workbench: Workbench) -> None:
    task = workbench.stopped(workbench.run(greedy(workbench, 30, memory=64)))
    (container,) = task["containers"]
    assert container["exitCode"] == 0
    assert "reason" not in container


def test_tasks_that_fail_before_they_run_leave_no_control_group_and_no_volume(workbench: Workbench) -> None:
    image = workbench.image(GREEDY, "greedy").rpartition("@")[0] + "@sha256:" + "1" * 64
    definition = workbench.task_definition("unpulled", {"name": "main", "image": image})
    tasks = [workbench.stopped(workbench.run(definition)) for _ in range(3)]
    assert {task["stopCode"] for task in tasks} == {"TaskFailedToStart"}
    ids = {task["taskArn"].rpartition("/")[2] for task in tasks}
    left = {folder.name for folder in group_of(workbench.config.home).folder.iterdir() if folder.is_dir()}
    assert not ids & left
    volumes = workbench.config.run_folder / "tasks"
    assert not volumes.exists() or not ids & {folder.name for folder in volumes.iterdir()}


def test_a_region_that_was_killed_leaves_no_control_group_after_the_next_start_or_down(tmp_path: Path) -> None:
    with running_workbench(tmp_path) as bench:
        _require_limits(bench)
        bench.prepare()
        image, folder = bench.image("import time; time.sleep(600)"), group_of(bench.config.home).folder
        for what_comes_next in (daemon.start, daemon.stop):
            bench.running(bench.run(bench.task_definition("sleeper", {"name": "main", "image": image})))
            (left,) = (each for each in folder.iterdir() if each.is_dir())
            processes = [int(pid) for pid in (left / "main" / "cgroup.procs").read_text().split()]
            assert alive(processes)
            wait_until_saved(bench.config, "task-definition/sleeper")
            region = region_process(bench.config.home)
            os.kill(region, signal.SIGKILL)
            os.waitpid(region, 0)
            what_comes_next(bench.config)
            assert not left.exists()
            until(lambda processes=processes: not alive(processes))
        assert not folder.exists()


def test_processes_of_another_process_namespace_are_not_confused_with_our_own_group(tmp_path: Path) -> None:
    group = group_of(Path("/home/alva"), tmp_path)
    group.folder.mkdir(parents=True)
    (group.folder / "cgroup.procs").write_text("0\n0\n")
    script = (
        "import pathlib, sys; from alva.region import memory; memory._CLEAR_SECONDS = 0.0; "
        "memory.remove_all(pathlib.Path('/home/alva'), pathlib.Path(sys.argv[1])); print('alive')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path], start_new_session=True, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "alive\n"), ran.stderr


def test_version_2_control_groups_are_delegated_and_read(tmp_path: Path) -> None:
    """Files stand for the kernel's control groups, because a machine has one version only."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    home = Path("/home/alva")
    group_of(home, tmp_path).folder.mkdir()
    for folder in (tmp_path, group_of(home, tmp_path).folder):
        (folder / "cgroup.subtree_control").write_text("cpu\n")
    limits = MemoryLimits(home, tmp_path)
    assert limits.description == "enforced (control groups, version 2)"
    task = limits.task("task", 64 * 2**20)
    assert task is not None
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert (task.folder / "memory.max").read_text() == str(64 * 2**20)
    assert task.out_of_memory_kills == 0
    (task.folder / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\n")
    assert task.out_of_memory_kills == 1
