"""One task at a time, with real processes."""

from __future__ import annotations

import pytest

from .workbench import SERVER, Workbench, until

pytestmark = pytest.mark.region

REPORT = """
import json, os, sys
print(json.dumps({"host": os.environ.get("HOST"), "greeting": os.environ.get("GREETING"), "argv": sys.argv[1:]}))
sys.exit(int(os.environ.get("CODE", "0")))
"""


def test_task_runs_to_its_end_with_its_exit_code_and_its_output_in_the_logs(workbench: Workbench) -> None:
    definition = workbench.task_definition(
        "report", {"name": "main", "image": workbench.image(REPORT), "environment": [{"name": "CODE", "value": "3"}]}
    )
    task = workbench.stopped(workbench.run(definition, startedBy="test"))
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert task["startedBy"] == "test"
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    assert details["privateIPv4Address"].startswith("127.61.1")
    assert f'"host": "{details["privateIPv4Address"]}"' in workbench.log_lines(task["taskArn"], "main")[0]
