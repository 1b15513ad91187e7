"""One container: its plan (`plan_container`), and its process with its health checks (`RunningContainer`)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alva.errors import SandboxFailed
from alva.region.background import Background, end
from alva.region.certificates import CertificateAuthority
from alva.region.ecs.errors import TaskStartError
from alva.region.ecs.model import Container, Health, Json
from alva.region.images.store import Image
from alva.region.images.users import find_user
from alva.region.memory import OUT_OF_MEMORY, Group
from alva.region.network import Namespace
from alva.region.sandbox import SandboxSpec
from alva.region.supervisor import Process, ProcessSpec, Supervisor

logger = logging.getLogger(__name__)

DEFAULT_STOP_TIMEOUT_SECONDS = 30.0
"""`stopTimeout` of a container definition on Fargate."""

HOST_NAME = "HOSTNAME"
RDS_BUNDLE = "/app/certificates/rds-global-bundle.pem"
TRUST_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_START_INTERVAL_SECONDS = 1.0
"""The longest interval between health checks in the start period."""


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """A container health check, with Docker's rules and the API's defaults."""

    argv: tuple[str, ...]
    interval_seconds: float = 30.0
    timeout_seconds: float = 5.0
    retries: int = 3
    start_period_seconds: float = 0.0

    @classmethod
    def parse(cls, definition: Json | None) -> HealthCheck | None:
        """From a container definition's `healthCheck`; None without one, or with NONE."""
        if not definition or definition["command"][0] == "NONE":
            return None
        kind, *rest = definition["command"]
        argv = ("/bin/sh", "-c", " ".join(rest)) if kind == "CMD-SHELL" else tuple(rest)
        if kind not in ("CMD", "CMD-SHELL"):
            argv = ("/bin/sh", "-c", " ".join([kind, *rest]))
        return cls(
            argv=argv,
            interval_seconds=definition.get("interval", 30),
            timeout_seconds=definition.get("timeout", 5),
            retries=definition.get("retries", 3),
            start_period_seconds=definition.get("startPeriod", 0),
        )


@dataclass(frozen=True, kw_only=True)
class ContainerPlan:
    """The settings of a container, decided before it starts."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    sandbox: SandboxSpec
    user: tuple[int, int] | None
    stop_signal: int
    stop_timeout_seconds: float
    health_check: HealthCheck | None
    network: Namespace | None = None
    memory: Group | None = None


def plan_container(
    *,
    definition: Json,
    override: Json,
    image: Image,
    secret_values: Mapping[str, str],
    task_environment: Mapping[str, str],
    volumes: Mapping[str, Path],
    certificates: CertificateAuthority,
    hosts_folder: Path,
    network: Namespace | None = None,
    memory: Group | None = None,
) -> ContainerPlan:
    """Combine a container's definition, the task's override and the image into the plan of its process.

    `task_environment` holds the platform's variables. They override the image's and the definition's, except HOSTNAME,
    which the definition can set; Fargate ignores the image's HOSTNAME (https://github.com/vercel/next.js/issues/58657).
    """
    name = definition["name"]
    entrypoint = tuple(definition.get("entryPoint") or ()) or image.entrypoint
    # As in Docker, an entry point in the definition discards the image's command.
    default_command = () if definition.get("entryPoint") else image.command
    command = tuple(override.get("command") or definition.get("command") or ()) or default_command
    argv = entrypoint + command
    if not argv:
        raise TaskStartError("CannotCreateContainerError: API error (400): No command specified", name)
    environment = {**image.environment, **task_environment}
    for source in (definition.get("environment") or [], override.get("environment") or []):
        environment.update({entry["name"]: entry.get("value", "") for entry in source})
    environment.update(secret_values)
    environment.update({name: value for name, value in task_environment.items() if name != HOST_NAME})
    # Node reads the system's authorities only with NODE_EXTRA_CA_CERTS. AWS needs none: its authorities are public.
    environment.setdefault("NODE_EXTRA_CA_CERTS", TRUST_BUNDLE)
    return ContainerPlan(
        name=name,
        argv=argv,
        environment=environment,
        sandbox=SandboxSpec(
            layers=image.layers,
            base=image.base,
            working_directory=definition.get("workingDirectory") or image.working_directory or "/",
            read_only_root=bool(definition.get("readonlyRootFilesystem", False)),
            writable={
                mount["containerPath"]: volumes[mount["sourceVolume"]]
                for mount in definition.get("mountPoints") or []
                if not mount.get("readOnly")
            },
            files={
                RDS_BUNDLE: certificates.authority_file,
                TRUST_BUNDLE: certificates.trust_bundle_file,
                **{
                    mount["containerPath"]: volumes[mount["sourceVolume"]]
                    for mount in definition.get("mountPoints") or []
                    if mount.get("readOnly")
                },
            },
            has_init=bool((definition.get("linuxParameters") or {}).get("initProcessEnabled", False)),
            hosts_folder=hosts_folder,
        ),
        user=_user(definition.get("user"), image, name),
        stop_signal=image.stop_signal or signal.SIGTERM,
        stop_timeout_seconds=float(definition.get("stopTimeout", DEFAULT_STOP_TIMEOUT_SECONDS)),
        health_check=HealthCheck.parse(definition.get("healthCheck")),
        network=network,
        memory=memory,
    )


def _user(configured: str | None, image: Image, container: str) -> tuple[int, int] | None:
    if not configured:
        return image.user
    if not image.base:
        try:
            return find_user(configured, image.layers[0])
        except LookupError as error:
            message = f"CannotStartContainerError: Error response from daemon: {error}"
            raise TaskStartError(message, container) from error
    user, _, group = configured.partition(":")
    if user == "root":
        return None
    if not user.isdigit() or (group and not group.isdigit()):
        raise TaskStartError(
            f"CannotStartContainerError: Error response from daemon: unable to find user {user}: "
            "no matching entries in passwd file",
            container,
        )
    return (int(user), int(group or 0))


class RunningContainer:
    """A container's process. It updates the container's record and calls `on_change` after each change."""

    def __init__(
        self,
        record: Container,
        plan: ContainerPlan,
        supervisor: Supervisor,
        background: Background,
        on_line: Callable[[str], None] | None,
        on_change: Callable[[], None],
    ) -> None:
        self.record = record
        self.plan = plan
        self._supervisor = supervisor
        self._background = background
        self._on_line = on_line
        self._on_change = on_change
        self._process: Process | None = None
        self._process_watch: asyncio.Task[None] | None = None
        self._health_watch: asyncio.Task[None] | None = None

    @property
    def started_at(self) -> float | None:
        """When its process was started; None before that."""
        return self._process.started_at if self._process is not None else None

    @property
    def process(self) -> Process | None:
        """Its first process while it runs."""
        return self._process if self.is_running else None

    @property
    def pid(self) -> int | None:
        """Its first process's id on the machine; None when it does not run."""
        return self._process.pid if self._process is not None and self._process.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.is_running

    async def start(self) -> None:
        """Start the process and its health checks. Raises TaskStartError with CannotStartContainerError."""
        spec = ProcessSpec(
            name=self.plan.name,
            argv=self.plan.argv,
            environment=self.plan.environment,
            sandbox=self.plan.sandbox,
            network=self.plan.network,
            control_group=self.plan.memory.folder if self.plan.memory is not None else None,
            on_line=self._on_line,
            stop_signal=self.plan.stop_signal,
            user=self.plan.user,
        )
        try:
            self._process = await self._supervisor.start(spec)
        except SandboxFailed as error:
            reason = "; ".join((error.message, *error.evidence))
            raise TaskStartError(
                "CannotStartContainerError: ResourceInitializationError: failed to create new container runtime task: "
                "failed to create shim task: OCI runtime create failed: runc create failed: "
                f"unable to start container process: {reason}: unknown",
                self.plan.name,
            ) from error
        self.record.runtime_id = f"{secrets.token_hex(16)}-{secrets.randbelow(10**10):010d}"
        self.record.last_status = "RUNNING"
        self._process_watch = self._background.spawn(
            f"follow container {self.plan.name}", self._watch_process(self._process)
        )
        if self.plan.health_check is not None:
            self._watch_health(self._process, self.plan.health_check)
        self._on_change()

    async def stop(self) -> None:
        """Send the stop signal, then SIGKILL after the stop timeout; return when the record has the exit code."""
        await self.end(self.plan.stop_timeout_seconds)

    async def close(self) -> None:
        """Wait until the process has ended, and end the health checks."""
        await end(self._health_watch)
        if self._process_watch is not None:
            await self._process_watch

    async def end(self, timeout_seconds: float) -> None:
        """Send the stop signal, then SIGKILL after `timeout_seconds` instead of the stop timeout."""
        if self._process is not None:
            await self._process.stop(timeout_seconds)
        await self.close()

    async def _watch_process(self, process: Process) -> None:
        ended = await process.wait()
        if self._health_watch is not None:
            self._health_watch.cancel()
        self.record.exit_code = ended.code
        if self.plan.memory is not None and self.plan.memory.out_of_memory_kills:
            self.record.reason = OUT_OF_MEMORY
        self.record.last_status = "STOPPED"
        self._on_change()

    def _watch_health(self, process: Process, check: HealthCheck) -> None:
        loop = asyncio.get_running_loop()
        started, failures = loop.time(), 0

        def is_starting() -> bool:
            return self.record.health is Health.UNKNOWN and loop.time() - started < check.start_period_seconds

        async def check_once() -> None:
            nonlocal failures
            # Like Docker, wait one interval before the first check. In the start period, in which failures do not
            # count, more frequent checks find the same result sooner (Docker's --health-start-interval).
            interval = check.interval_seconds
            await asyncio.sleep(min(interval, _START_INTERVAL_SECONDS) if is_starting() else interval)
            still_starting = is_starting()
            if await self._passes(process, check):
                failures = 0
                self._set_health(Health.HEALTHY)
            elif process.is_running and not still_starting:
                failures += 1
                if failures >= check.retries:
                    self._set_health(Health.UNHEALTHY)

        self._health_watch = self._background.run_forever(f"check the health of container {self.plan.name}", check_once)

    async def _passes(self, process: Process, check: HealthCheck) -> bool:
        spec = ProcessSpec(
            name=f"{self.plan.name}: health check",
            argv=check.argv,
            environment=self.plan.environment,
            inside=process,
            user=self.plan.user,
        )
        try:
            probe = await self._supervisor.start(spec)
        except SandboxFailed as error:
            logger.info("cannot run the health check of %s: %s", self.plan.name, error)
            return False
        try:
            async with asyncio.timeout(check.timeout_seconds):
                ended = await probe.wait()
        except TimeoutError:
            probe.kill()
            return False
        except asyncio.CancelledError:
            probe.kill()
            raise
        return ended.code == 0

    def _set_health(self, health: Health) -> None:
        if self.record.health is not health:
            self.record.health = health
            self._on_change()
