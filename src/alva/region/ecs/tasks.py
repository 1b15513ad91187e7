"""The life of a task: PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING, STOPPED.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
A `RunningTask` runs one task through these states, with real processes, and updates the task's record. It decides
nothing about services: the controller requests that it stops, or observes that it has stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

from alva.region.adverse_conditions import task_start_seconds
from alva.region.control_plane import ControlPlane
from alva.region.ecs import dependencies, exec_agent, network
from alva.region.ecs.containers import ContainerPlan, RunningContainer
from alva.region.ecs.discovery import Discovery
from alva.region.ecs.errors import TaskStartError
from alva.region.ecs.model import Health, Json, Task, TaskStatus
from alva.region.ecs.preparation import prepare
from alva.region.log_stream import LogStream
from alva.region.region import Region

logger = logging.getLogger(__name__)

_DRAIN_POLL_SECONDS = 0.1

_TRANSITIONS: dict[TaskStatus, tuple[TaskStatus, ...]] = {
    TaskStatus.PROVISIONING: (TaskStatus.PENDING, TaskStatus.DEPROVISIONING),
    TaskStatus.PENDING: (TaskStatus.ACTIVATING, TaskStatus.DEPROVISIONING),
    TaskStatus.ACTIVATING: (TaskStatus.RUNNING, TaskStatus.DEACTIVATING),
    TaskStatus.RUNNING: (TaskStatus.DEACTIVATING,),
    TaskStatus.DEACTIVATING: (TaskStatus.STOPPING,),
    TaskStatus.STOPPING: (TaskStatus.DEPROVISIONING,),
    TaskStatus.DEPROVISIONING: (TaskStatus.STOPPED,),
    TaskStatus.STOPPED: (),
}


class RunningTask:
    """Runs one task from PROVISIONING to STOPPED in `run`; `request_stop` ends it."""

    def __init__(
        self,
        task: Task,
        definition: Json,
        *,
        region: Region,
        control_plane: ControlPlane,
        discovery: Discovery,
        neighbours: Callable[[], Iterable[Task]],
        on_change: Callable[[], None],
        on_event: Callable[[str], object] = str,
    ) -> None:
        """`neighbours` are the tasks to spread over subnets with; `on_event` receives the service's event messages."""
        self.task = task
        self._definition = definition
        self._region = region
        self._control_plane = control_plane
        self._discovery = discovery
        self._neighbours = neighbours
        self._notify = on_change
        self._on_event = on_event
        self._records = {c.name: c for c in task.containers}
        self._running: dict[str, RunningContainer] = {}
        self._streams: dict[str, LogStream] = {}
        self._undo = AsyncExitStack()
        """Removes everything that was created for the task, also when its start failed."""
        self._stop_requested = asyncio.Event()
        self._container_changed = asyncio.Event()
        self._published_health: bool | None = None
        self._is_registered = False
        self._is_abandoned = False
        self._discovery_lock = asyncio.Lock()

    @property
    def pids(self) -> list[int]:
        """The first processes of its running containers."""
        return [container.pid for container in self._running.values() if container.pid is not None]

    def container(self, name: str) -> RunningContainer | None:
        """One of its containers, if it was started."""
        return self._running.get(name)

    def request_stop(self, stop_code: str, reason: str) -> None:
        """Request that the task stops. The first request's reason is recorded."""
        if self.task.is_stopping:
            return
        self.task.desired_status = "STOPPED"
        self.task.stop_code = stop_code
        self.task.stopped_reason = reason
        self.task.stopping_at = time.time()
        self.task.version += 1
        self._stop_requested.set()
        self._notify()

    async def abandon(self, timeout_seconds: float) -> None:
        """End the processes without changing the record, when the region stops."""
        self._is_abandoned = True
        await asyncio.gather(*(container.end(timeout_seconds) for container in self._running.values()))

    async def run(self) -> None:
        """Run the task. Returns when it is STOPPED; its record has the reason of any failure."""
        starting = asyncio.get_running_loop().create_task(self._start())
        stopping = asyncio.get_running_loop().create_task(self._stop_requested.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
            try:
                await starting
            except asyncio.CancelledError:
                if not self._stop_requested.is_set():
                    raise
            except TaskStartError as error:
                self._note_start_error(error)
            except Exception as error:
                logger.exception("cannot start task %s", self.task.id)
                self._note_start_error(TaskStartError(f"ResourceInitializationError: {error!r}"))
            await self._stop_requested.wait()
            await self._end()
        except Exception as error:
            await self._give_up(error)
            raise
        finally:
            starting.cancel()
            stopping.cancel()

    def _move(self, status: TaskStatus) -> None:
        """Change the task's status. No other code does."""
        before = self.task.last_status
        if status not in _TRANSITIONS[before]:
            raise RuntimeError(f"task {self.task.id} cannot go from {before} to {status}")
        self.task.last_status = status
        self.task.version += 1
        logger.info("task %s (%s): %s -> %s", self.task.id, self.task.group, before, status)
        self._notify()

    # Starting

    async def _start(self) -> None:
        self._undo.callback(network.detach_interface, self._region, self.task)
        try:
            own_network = await network.attach_interface(
                self._control_plane, self._region, self.task, self._neighbours()
            )
        except TaskStartError as error:
            self._on_event(f"was unable to place a task. Reason: {error.reason}")
            raise
        self._move(TaskStatus.PENDING)
        self.task.connectivity_at = time.time()
        if delay := task_start_seconds(self._region.config, self.task.id):
            await asyncio.sleep(delay)
        prepared = await prepare(
            self.task, self._definition, self._region, self._control_plane, own_network, self._undo
        )
        self._streams = prepared.streams
        self._move(TaskStatus.ACTIVATING)
        await exec_agent.start(self._control_plane, self.task, self._definition)
        await self._start_containers(prepared.plans)
        await self._register()
        self.task.started_at = time.time()
        self._move(TaskStatus.RUNNING)

    async def _start_containers(self, plans: list[ContainerPlan]) -> None:
        """Start each container once its dependencies allow it; returns when all have started."""
        definitions = self._definition["containerDefinitions"]
        waiting = {plan.name: plan for plan in plans}
        while waiting:
            self._container_changed.clear()
            for name in dependencies.startable(definitions, self._records):
                stream = self._streams.get(name)
                container = RunningContainer(
                    self._records[name],
                    waiting.pop(name),
                    self._region.supervisor,
                    self._region.background,
                    stream.write if stream else None,
                    self._on_container_change,
                )
                self._running[name] = container
                await container.start()
            deadlock = dependencies.blocked(definitions, self._records)
            if deadlock is not None:
                raise TaskStartError(
                    "ResourceInitializationError: failed to start container {}: dependency {} did not reach {}".format(
                        *deadlock
                    ),
                    deadlock[0],
                )
            if waiting and not dependencies.startable(definitions, self._records):
                await self._wait_for_change(definitions)

    async def _wait_for_change(self, definitions: list[Json]) -> None:
        """Wait until a container changes. Raises TaskStartError when a dependency's start timeout expires."""
        started_at = {name: c.started_at for name, c in self._running.items() if c.started_at is not None}
        gives_up = dependencies.deadlines(definitions, self._records, started_at)
        timeout = gives_up[0][0] - time.time() if gives_up else None
        try:
            async with asyncio.timeout(timeout):
                await self._container_changed.wait()
        except TimeoutError:
            _, waiting, other = gives_up[0]
            raise TaskStartError(
                f"ResourceInitializationError: failed to start container {waiting}: "
                f"dependency {other} did not get there within its start timeout",
                waiting,
            ) from None

    async def _register(self) -> None:
        """Register the task with Cloud Map, then with its target groups."""
        task = self.task
        for registry in task.service_registries:
            await self._discovery.register(
                task, registry["registryArn"], self._instance_attributes(), is_healthy=self._is_discoverable()
            )
        self._published_health = self._is_discoverable()
        self._is_registered = True
        for target in task.load_balancers:
            assert task.address is not None  # noqa: S101 - attached in _start
            self._region.load_balancers.register(target["targetGroupArn"], task.address, target["containerPort"])
            self._on_event(f"registered 1 targets in (target-group {target['targetGroupArn']})")

    def _instance_attributes(self) -> dict[str, str]:
        task = self.task
        return {
            "AVAILABILITY_ZONE": task.availability_zone or "",
            "REGION": self._region.config.region,
            "ECS_SERVICE_NAME": task.group.removeprefix("service:"),
            "ECS_CLUSTER_NAME": task.cluster_arn.rpartition("/")[2],
            "ECS_TASK_DEFINITION_FAMILY": self._definition["family"],
        }

    def _is_discoverable(self) -> bool:
        """Cloud Map takes a task's health from its container health checks; without any, a running task is healthy."""
        checked = [c.record.health for c in self._running.values() if c.plan.health_check is not None]
        return all(health is Health.HEALTHY for health in checked)

    # Running

    def _on_container_change(self) -> None:
        if self._is_abandoned:
            return
        self._container_changed.set()
        self.task.version += 1
        ended = [c for c in self.task.containers if c.last_status == "STOPPED"]
        if any(c.essential for c in ended):
            self.request_stop("EssentialContainerExited", "Essential container in task exited")
        elif len(ended) == len(self.task.containers):
            self.request_stop("EssentialContainerExited", "All containers in task exited")
        if self._is_registered and self.task.service_registries:
            self._region.background.spawn(f"publish the health of task {self.task.id}", self._publish_health())
        self._notify()

    async def _publish_health(self) -> None:
        async with self._discovery_lock:
            is_healthy = self._is_discoverable() and not self.task.is_stopping
            if not self._is_registered or is_healthy == self._published_health:
                return
            self._published_health = is_healthy
            for registry in self.task.service_registries:
                await self._discovery.set_health(self.task, registry["registryArn"], is_healthy=is_healthy)

    def _note_start_error(self, error: TaskStartError) -> None:
        if error.container is not None:
            self._records[error.container].reason = error.reason
        self.request_stop("TaskFailedToStart", error.reason)

    # Stopping

    async def _end(self) -> None:
        if self.task.last_status in (TaskStatus.ACTIVATING, TaskStatus.RUNNING):
            self._move(TaskStatus.DEACTIVATING)
            try:
                await self._deregister()
            except Exception:
                # The task stops even if other services fail.
                logger.exception("cannot deregister task %s", self.task.id)
            self._move(TaskStatus.STOPPING)
            self._record_stopped()
            await self._stop_containers()
        if self._running:
            self.task.execution_stopped_at = time.time()
        self._move(TaskStatus.DEPROVISIONING)
        await self._clean_up()
        for container in self.task.containers:
            container.last_status = "STOPPED"
        self.task.stopped_at = time.time()
        self._move(TaskStatus.STOPPED)

    async def _clean_up(self) -> None:
        name = f"clean up after task {self.task.id}"
        try:
            await self._undo.aclose()
        except Exception as error:
            # Every removal was tried.
            self._region.background.failed(name, error)

    async def _give_up(self, error: Exception) -> None:
        """End a task after an error in the region itself, remove everything of it, and record the error."""
        self.request_stop("TaskFailedToStart", f"The local region failed: {type(error).__name__}: {error}")
        await asyncio.gather(*(container.end(0) for container in self._running.values()), return_exceptions=True)
        await self._clean_up()
        for container in self.task.containers:
            container.last_status = "STOPPED"
        self.task.stopped_at = time.time()
        self.task.last_status = TaskStatus.STOPPED
        self.task.version += 1
        self._notify()

    def _record_stopped(self) -> None:
        if self.task.stop_code == "ServiceSchedulerInitiated":
            self._on_event(f"has stopped 1 running tasks: (task {self.task.id}).")

    async def _deregister(self) -> None:
        """Remove the task from its DNS name and its target groups, and wait until it has drained."""
        task = self.task
        async with self._discovery_lock:
            self._is_registered = False
            for registry in task.service_registries:
                await self._discovery.deregister(task, registry["registryArn"])
        if task.address is None or not task.load_balancers:
            return
        targets = [(t["targetGroupArn"], task.address, t["containerPort"]) for t in task.load_balancers]
        balancers = self._region.load_balancers
        self._on_event("has begun draining connections on 1 tasks.")
        for target in targets:
            balancers.deregister(*target)
            self._on_event(f"deregistered 1 targets in (target-group {target[0]})")
        # Draining ends early if the process behind the target has ended.
        while self._serves() and not all(balancers.is_drained(*target) for target in targets):  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)

    def _serves(self) -> bool:
        names = {t["containerName"] for t in self.task.load_balancers}
        return any(c.is_running for name, c in self._running.items() if name in names)

    async def _stop_containers(self) -> None:
        """Send SIGTERM and, after the stop timeout, SIGKILL. Containers stop before their dependencies."""
        for names in dependencies.stop_order(self._definition["containerDefinitions"]):
            running = [self._running[name] for name in names if name in self._running]
            await asyncio.gather(*(container.stop() for container in running))
