"""AWS/ECS metrics: tasks' use of the CPU and memory that their definitions reserve.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html
Measured from /proc: the processes of a container share its process namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alva.region import engine_metrics, procfs
from alva.region.cloudwatch.metrics import Metrics
from alva.region.ecs.model import Json, Service, Task
from alva.region.ecs.state import State
from alva.region.engine_metrics import Usage

NAMESPACE = "AWS/ECS"
PERIOD_SECONDS = 30.0
"""Half of CloudWatch's shortest period, so that each period of an alarm has a value even if one is late."""


@dataclass(frozen=True)
class Utilization:
    """A task's use of its reserved CPU and memory, in percent."""

    cpu_percent: float
    memory_percent: float


def usage_by_namespace() -> dict[str, Usage]:
    """Usage of this machine's processes, by process namespace; unreadable processes are left out."""
    found: dict[str, Usage] = {}
    for pid in procfs.processes():
        with contextlib.suppress(OSError):
            namespace = procfs.process_namespace(pid)
            cpu_seconds, memory_bytes = procfs.cpu_seconds(pid), procfs.resident_bytes(pid)
            before = found.get(namespace, Usage())
            found[namespace] = Usage(before.cpu_seconds + cpu_seconds, before.memory_bytes + memory_bytes)
    return found


def utilization(definition: Json, before: Usage, now: Usage) -> Utilization:
    """A task's utilization between two times, against the task definition's cpu (1024 a vCPU) and memory (MiB)."""
    reserved_cpu_seconds = (now.at - before.at) * int(definition["cpu"]) / 1024
    return Utilization(
        cpu_percent=max(0.0, 100 * (now.cpu_seconds - before.cpu_seconds) / reserved_cpu_seconds),
        memory_percent=100 * now.memory_bytes / (int(definition["memory"]) * 2**20),
    )


class Publisher:
    """Publishes the utilization of services and clusters."""

    def __init__(self, state: State, metrics: Metrics) -> None:
        self._state = state
        self._metrics = metrics
        self._before: dict[str, Usage] = {}

    async def publish(self, processes: Mapping[str, Iterable[int]]) -> None:
        """Measure and publish. `processes` are the first processes of each running task's containers, by its ARN."""
        now = await asyncio.to_thread(_usage_of, processes)
        for arn, usage in now.items():
            task = self._state.tasks.get(arn)
            service = self._state.services.get(task.service_arn or "") if task else None
            if task and service and arn in self._before:
                definition = self._state.task_definitions[task.task_definition_arn]
                self._put(task, service, utilization(definition, self._before[arn], usage))
        self._before = now

    def _put(self, task: Task, service: Service, measured: Utilization) -> None:
        cluster = task.cluster_arn.rpartition("/")[2]
        data = {
            "CPUUtilization": (measured.cpu_percent, "Percent"),
            "MemoryUtilization": (measured.memory_percent, "Percent"),
        }
        for dimensions in ({"ClusterName": cluster, "ServiceName": service.name}, {"ClusterName": cluster}):
            engine_metrics.publish(self._metrics, NAMESPACE, dimensions, data)


def _usage_of(processes: Mapping[str, Iterable[int]]) -> dict[str, Usage]:
    at, by_namespace = time.monotonic(), usage_by_namespace()
    found = {}
    for arn, pids in processes.items():
        with contextlib.suppress(OSError, KeyError):  # The process has ended, or is not readable.
            usages = [by_namespace[procfs.process_namespace(pid)] for pid in pids]
            found[arn] = Usage(sum(u.cpu_seconds for u in usages), sum(u.memory_bytes for u in usages), at)
    return found
