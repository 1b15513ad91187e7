"""Carries out the scheduler's decisions in one loop over all services, after each change and every 0.2 s.

The loop reads tasks, containers' health and targets' health, calls `scheduler.decide`, changes records, and starts or
stops tasks. It never waits for a task: each has its own asyncio task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from alva.region.background import end
from alva.region.control_plane import ControlPlane
from alva.region.ecs import actions, rollouts, scheduler
from alva.region.ecs.alarms import POLL_SECONDS as ALARM_POLL_SECONDS
from alva.region.ecs.alarms import DeploymentAlarms
from alva.region.ecs.containers import RunningContainer
from alva.region.ecs.discovery import Discovery
from alva.region.ecs.metrics import PERIOD_SECONDS, Publisher
from alva.region.ecs.model import Container, Deployment, Json, Service, Task, TaskStatus, task_health
from alva.region.ecs.notifications import Notifications
from alva.region.ecs.state import State, add_event, new_task_id
from alva.region.ecs.tasks import RunningTask
from alva.region.ecs.volumes import remove_all_volumes
from alva.region.region import Region

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""The poll interval for targets' health. Any other change wakes the loop at once."""

_STOP_SECONDS = 2.0
"""Time between SIGTERM and SIGKILL for containers when the region stops."""


class Controller:
    """Runs ECS's tasks, and the loop that brings services to their desired state."""

    def __init__(
        self, region: Region, state: State, control_plane: ControlPlane, timing: scheduler.Timing | None = None
    ) -> None:
        self._region = region
        self._state = state
        self._control_plane = control_plane
        self._timing = timing or scheduler.Timing()
        self.discovery = Discovery(control_plane, region.names)
        self._alarms = DeploymentAlarms(control_plane)
        self._notifications = Notifications(state, region.background)
        self._metrics = Publisher(state, region.metrics)
        self._running: dict[str, RunningTask] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._waiters: set[asyncio.Event] = set()

    # Start and stop

    async def start(self) -> None:
        """Mark tasks of the region's previous run as STOPPED, and start the loops."""
        await asyncio.to_thread(remove_all_volumes, self._region.config)
        await self._stop_former_tasks()
        self._notifications.remember_restored(self._state.services.values())
        run_forever = self._region.background.run_forever
        self._loops = [
            run_forever("reconcile ECS services", self._reconcile_all),
            run_forever("read the alarms of deployments", self._watch_alarms),
            run_forever("measure tasks", self._measure),
        ]

    async def stop(self) -> None:
        """End the loops and the processes of all tasks, and keep the records."""
        await end(*self._loops)
        for life in self._lives.values():
            life.cancel()
        await asyncio.gather(*(running.abandon(_STOP_SECONDS) for running in list(self._running.values())))

    async def _stop_former_tasks(self) -> None:
        for task in self._state.tasks.values():
            if task.last_status is TaskStatus.STOPPED:
                continue
            for registry in task.service_registries:
                await self.discovery.deregister(task, registry["registryArn"])
            for target in task.load_balancers:
                if task.address is not None:
                    self._region.load_balancers.deregister(
                        target["targetGroupArn"], task.address, target["containerPort"]
                    )
            now = time.time()
            task.last_status = TaskStatus.STOPPED
            task.desired_status = "STOPPED"
            task.attachment_status = "DELETED"
            task.stop_code = task.stop_code or "TerminationNotice"
            task.stopped_reason = task.stopped_reason or "The local region was stopped while the task ran"
            task.stopping_at = task.stopping_at or now
            task.stopped_at = now
            for container in task.containers:
                container.last_status = "STOPPED"
        for service in self._state.services.values():
            service.is_steady = False
            for deployment in service.deployments:
                deployment.retry_at = 0.0

    def changed(self) -> None:
        """Wake the loop after a change, and save the state."""
        self._wake.set()
        for waiter in self._waiters:
            waiter.set()
        self._region.persistence.mark_changed()

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Return once `predicate` holds; it is evaluated again after every change."""
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            while not predicate():
                await waiter.wait()
                waiter.clear()
        finally:
            self._waiters.discard(waiter)

    async def _reconcile_all(self) -> None:
        self._wake.clear()
        for service in list(self._state.services.values()):
            if service.status == "INACTIVE":
                continue
            name = f"reconcile ECS service {service.name}"
            try:
                self._notifications.publish_deployments(service)
                self._reconcile(service)
                self._notifications.publish_deployments(service)
            except Exception as error:
                # The other services are still reconciled.
                self._region.background.failed(name, error)
            else:
                self._region.background.succeeded(name)
        self._state.forget_old_tasks(time.time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()

    async def _watch_alarms(self) -> None:
        records = [s.open_service_deployment for s in self._state.services.values()]
        if await self._alarms.refresh([r for r in records if r is not None]):
            self.changed()
        await asyncio.sleep(ALARM_POLL_SECONDS)

    async def _measure(self) -> None:
        await asyncio.sleep(PERIOD_SECONDS)
        await self._metrics.publish({arn: running.pids for arn, running in self._running.items()})

    # Tasks

    def start_task(self, task: Task, definition: Json, service: Service | None = None) -> None:
        """Record a task and start it."""
        self._state.tasks[task.arn] = task
        running = RunningTask(
            task,
            definition,
            region=self._region,
            control_plane=self._control_plane,
            discovery=self.discovery,
            neighbours=lambda: [t for t in self._state.tasks.values() if t.group == task.group and not t.is_stopping],
            on_change=lambda: self._task_changed(task),
            on_event=(lambda message: add_event(service, message)) if service else str,
        )
        self._running[task.arn] = running
        life = self._region.background.spawn(f"run task {task.id}", self._live(running, service))
        self._lives[task.arn] = life
        self._task_changed(task)

    def container(self, task: Task, name: str) -> RunningContainer | None:
        """A container of a running task."""
        running = self._running.get(task.arn)
        return running.container(name) if running is not None else None

    def _task_changed(self, task: Task) -> None:
        self._notifications.publish_task(task)
        self.changed()

    def stop_task(self, task: Task, stop_code: str, reason: str) -> None:
        """Request that a task stops; a stopped task is ignored."""
        running = self._running.get(task.arn)
        if running is not None:
            running.request_stop(stop_code, reason)

    async def _live(self, running: RunningTask, service: Service | None) -> None:
        task = running.task
        try:
            await running.run()
            if service is not None:
                self._on_task_stopped(service, task)
        finally:
            self._running.pop(task.arn, None)
            self._lives.pop(task.arn, None)
            self.changed()

    def _on_task_stopped(self, service: Service, task: Task) -> None:
        """Count a task that stopped unexpectedly as a failure of its deployment."""
        deployment = service.deployment(task.started_by or "")
        if deployment is None:
            return
        if not rollouts.is_failure(task):
            return
        rollouts.count_stopped_task(service, deployment, task, self._timing, time.time())

    # Services

    def _reconcile(self, service: Service) -> None:
        views = [
            self._view(task) for task in self._state.tasks_of(service) if task.last_status is not TaskStatus.STOPPED
        ]
        in_alarm = self._alarms.in_alarm(service.open_service_deployment)
        for action in scheduler.decide(service, views, time.time(), in_alarm):
            self._carry_out(service, action)

    def _view(self, task: Task) -> scheduler.TaskView:
        definition = self._state.task_definitions[task.task_definition_arn]
        checked = {c["name"] for c in definition["containerDefinitions"] if c.get("healthCheck")}
        targets = []
        if task.last_status is TaskStatus.RUNNING and task.address is not None:
            for target in task.load_balancers:
                health = self._region.load_balancers.health(
                    target["targetGroupArn"], task.address, target["containerPort"]
                )
                targets.append(
                    scheduler.TargetView(
                        target_group_arn=target["targetGroupArn"],
                        port=target["containerPort"],
                        state=str(health.state),
                        reason=health.reason or "",
                        description=health.description or "",
                    )
                )
        return scheduler.TaskView(
            id=task.id,
            deployment_id=task.started_by or "",
            status=task.last_status,
            created_at=task.created_at,
            started_at=task.started_at,
            is_stopping=task.is_stopping,
            was_healthy=task.was_healthy,
            has_health_check=bool(checked),
            container_health=task_health(task, checked),
            targets=tuple(targets),
        )

    def _carry_out(self, service: Service, action: actions.Action) -> None:
        now = time.time()
        if isinstance(action, actions.StartTasks):
            deployment = service.deployment(action.deployment_id)
            assert deployment is not None  # noqa: S101 - the scheduler names deployments of this service
            self._start_service_tasks(service, deployment, action.count)
        elif isinstance(action, actions.StopTask):
            self._stop_service_task(service, action)
        elif isinstance(action, actions.NoteHealthy):
            task = self._state.tasks[self._task_arn(service, action.task_id)]
            task.was_healthy = True
            rollouts.note_healthy_task(service, task)
        elif isinstance(action, actions.NoteStuck):
            if not service.is_stuck:
                service.is_stuck = True
                add_event(
                    service,
                    "was unable to stop or start tasks during a deployment because of the service deployment "
                    "configuration. Update the minimumHealthyPercent or maximumPercent value and try again.",
                )
        else:
            rollouts.apply(service, action, now)
        self.changed()

    def _task_arn(self, service: Service, task_id: str) -> str:
        return self._state.arn("task", service.cluster_arn.rpartition("/")[2], task_id)

    def _stop_service_task(self, service: Service, action: actions.StopTask) -> None:
        task = self._state.tasks[self._task_arn(service, action.task_id)]
        service.is_steady = False
        if action.event:
            add_event(service, action.event)
        self.stop_task(task, "ServiceSchedulerInitiated", action.reason)

    def _start_service_tasks(self, service: Service, deployment: Deployment, count: int) -> None:
        revision = service.revision(deployment.revision_arn)
        definition = self._state.task_definitions[revision.task_definition_arn]
        cluster = self._state.clusters[service.cluster_arn.rpartition("/")[2]]
        vpc = revision.network_configuration["awsvpcConfiguration"]
        service.is_steady = False
        service.is_stuck = False
        started = []
        for _ in range(count):
            task_id = new_task_id()
            task = Task(
                id=task_id,
                arn=self._state.arn("task", cluster.name, task_id),
                cluster_arn=cluster.arn,
                task_definition_arn=revision.task_definition_arn,
                group=f"service:{service.name}",
                started_by=deployment.id,
                service_arn=service.arn,
                containers=new_containers(self._state, cluster.name, task_id, definition),
                created_at=time.time(),
                subnets=list(vpc["subnets"]),
                security_groups=list(vpc.get("securityGroups") or []),
                assign_public_ip=vpc.get("assignPublicIp", "DISABLED"),
                load_balancers=revision.load_balancers,
                service_registries=revision.service_registries,
                launch_type=revision.launch_type or "FARGATE",
                capacity_provider=next((s["capacityProvider"] for s in revision.capacity_provider_strategy), None),
                platform_version=revision.platform_version,
                enable_execute_command=service.enable_execute_command,
            )
            self._tag_task(service, definition, task)
            self.start_task(task, definition, service)
            started.append(task.id)
        add_event(service, f"has started {count} tasks: {' '.join(f'(task {t})' for t in started)}.")

    def _tag_task(self, service: Service, definition: Json, task: Task) -> None:
        source = {"SERVICE": service.arn, "TASK_DEFINITION": definition["taskDefinitionArn"]}.get(
            service.propagate_tags
        )
        tags = dict(self._state.tags.get(source, {})) if source else {}
        if service.enable_ecs_managed_tags:
            tags["aws:ecs:clusterName"] = task.cluster_arn.rpartition("/")[2]
            tags["aws:ecs:serviceName"] = service.name
        if tags:
            self._state.tags[task.arn] = tags


def new_containers(state: State, cluster: str, task_id: str, definition: Json) -> list[Container]:
    """The containers of a new task, from its definition."""
    return [
        Container(
            name=c["name"],
            arn=state.arn("container", cluster, task_id, new_task_id()),
            image=c["image"],
            essential=c.get("essential", True),
            cpu=str(c.get("cpu", 0)),
            memory=str(c["memory"]) if "memory" in c else None,
            memory_reservation=str(c["memoryReservation"]) if "memoryReservation" in c else None,
        )
        for c in definition["containerDefinitions"]
    ]
