"""Service discovery: Cloud Map, and name resolution inside other tasks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.waiting import until

from .workbench import SERVER, Workbench

pytestmark = pytest.mark.region

CALLER = """
import os, urllib.request
print(urllib.request.urlopen(os.environ["URL"], timeout=5).read().decode())
"""


@pytest.fixture(scope="module")
def registry(workbench: Workbench) -> Any:
    client = workbench.client("servicediscovery")
    operation = client.create_private_dns_namespace(Name="workbench.local", Vpc=workbench.vpc)["OperationId"]
    namespace = client.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    return client.create_service(
        Name="greeter",
        NamespaceId=namespace,
        DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 10}]},
        HealthCheckCustomConfig={"FailureThreshold": 1},
    )["Service"]


def instances(workbench: Workbench, health: str = "HEALTHY") -> list[str]:
    client = workbench.client("servicediscovery")
    client.meta.events.register("before-call.servicediscovery.DiscoverInstances", _keep_host)
    answer = client.discover_instances(NamespaceName="workbench.local", ServiceName="greeter", HealthStatus=health)
    return sorted(i["Attributes"]["AWS_INSTANCE_IPV4"] for i in answer["Instances"])


def _keep_host(params: dict[str, Any], **_: Any) -> None:
    params["url"] = params["url"].replace("://data-", "://")


def test_service_is_found_by_its_name_from_another_task(workbench: Workbench, registry: Any) -> None:
    listens = "import os, socket; socket.create_connection((os.environ['HOST'], 3000), timeout=2)"
    server = workbench.task_definition(
        "greeter",
        {
            "name": "main",
            "image": workbench.image(SERVER),
            "environment": [{"name": "PORT", "value": "3000"}],
            "healthCheck": {"command": ["CMD", "python3", "-c", listens], "interval": 5, "timeout": 3, "retries": 3},
        },
    )
    workbench.create_service("greeter", server, desiredCount=2, serviceRegistries=[{"registryArn": registry["Arn"]}])
    assert workbench.deployed("greeter")["status"] == "SUCCESSFUL"
    addresses = sorted(
        d["value"]
        for t in workbench.tasks_of("greeter")
        for d in t["attachments"][0]["details"]
        if d["name"] == "privateIPv4Address"
    )
    hosts = workbench.config.run_folder / "names" / "hosts"

    def published() -> list[str]:
        return sorted(line.split()[0] for line in hosts.read_text().splitlines() if "greeter.workbench.local" in line)

    assert published() == addresses
    assert instances(workbench) == addresses

    url = {"name": "URL", "value": "http://greeter.workbench.local:3000/"}
    caller = workbench.task_definition(
        "caller", {"name": "main", "image": workbench.image(CALLER, "caller"), "environment": [url]}
    )
    task = workbench.stopped(workbench.run(caller))
    assert workbench.log_lines(task["taskArn"], "main") == ["hello"]
    assert task["containers"][0]["exitCode"] == 0

    workbench.ecs.update_service(cluster=workbench.cluster, service="greeter", desiredCount=0)
    until(lambda: workbench.service("greeter")["runningCount"] == 0)
    assert published() == []
    assert instances(workbench, "ALL") == []
