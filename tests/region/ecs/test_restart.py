"""ECS after a restart of the region."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from alva.region import daemon
from tests.region.control_plane.test_daemon import wait_until_saved
from tests.waiting import until

from .workbench import SERVER, running_workbench

pytestmark = pytest.mark.region


@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_services_run_again_after_a_restart_and_former_tasks_are_stopped(tmp_path: Path, ending: str) -> None:
    with running_workbench(tmp_path) as bench:
        bench.prepare()
        definition = bench.task_definition(
            "kept", {"name": "main", "image": bench.image(SERVER), "environment": [{"name": "PORT", "value": "3000"}]}
        )
        bench.create_service("kept", definition)
        bench.deployed("kept")
        (before,) = bench.tasks_of("kept")
        bench.ecs.get_waiter("services_stable").wait(
            cluster=bench.cluster, services=["kept"], WaiterConfig={"Delay": 1, "MaxAttempts": 10}
        )

        wait_until_saved(bench.config, "deployment completed.")
        if ending == "stopped":
            daemon.stop(bench.config)
        else:
            pid = json.loads(bench.config.running_file.read_text())["pid"]
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        daemon.start(bench.config)

        until(lambda: bench.service("kept")["runningCount"] == 1)
        (after,) = bench.tasks_of("kept")
        assert after["taskArn"] != before["taskArn"]
        former = bench.task(before["taskArn"])
        assert former["lastStatus"] == "STOPPED"
        assert former["stoppedReason"] == "The local region was stopped while the task ran"
        assert bench.service("kept")["deployments"][0]["rolloutState"] == "COMPLETED"
