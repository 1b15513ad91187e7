"""An environment in each state that the page shows. The real console serves them, from invented values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alva.aws import Aws, Target
from alva.console import drawing
from alva.console.picture import Arrow, Container, Group, Part, Picture
from alva.console.server import Console
from alva.console.session import Session, Watch
from alva.errors import AlvaError, PreflightRefused
from alva.release.condition import MISSING, judge
from alva.release.diagnosis import Diagnosis
from alva.release.hibernation import Asleep
from alva.release.ledger import Release
from alva.release.lock import Holder
from alva.release.manifest import Manifest, Migration, Parameters
from alva.release.status import (
    AlarmStatus,
    DeploymentStatus,
    ServiceEvent,
    ServiceStatus,
    StackStatus,
    Status,
    TargetStatus,
    TaskStatus,
)

from .serving import serving

PROJECT = Path(__file__).resolve().parents[2]
NOW = datetime.now(UTC).replace(microsecond=0)
SERVICES = {"web": 3000, "api": 3001, "auth": 3002, "admin": 3003}
STACKS = ("network", "registry", "secrets", "database", "cache", "alb", "ecs", "monitoring", "services")
LOG_LINES = 400
MANIFEST = Manifest(
    environment="staging",
    prefix="alva-staging",
    region="us-east-1",
    cluster="alva-staging-cluster",
    namespace="alva-staging.local",
    load_balancer="alva-staging-alb",
    dashboard="alva-staging",
    alarm_prefix="alva-staging-",
    alarms={},
    parameters=Parameters(
        lock="/alva-staging/lock",
        releases="/alva-staging/release",
        causes="/alva-staging/why",
        secrets="/alva-staging/secrets",
        asleep="/alva-staging/asleep",
    ),
    tags={},
    stacks=(),
    services=(),
    migration=Migration(family="m", container="m", service="api", image_parameter="M", stack="s"),
    secrets=(),
)


def digest(name: str) -> str:
    return f"sha256:{name.encode().hex().ljust(64, '0')}"


def ago(**duration: float) -> datetime:
    return NOW - timedelta(**duration)


def task(service: str, number: int = 0, **changes: Any) -> TaskStatus:
    values: dict[str, Any] = {
        "task": f"{number:x}{service.encode().hex()}".ljust(32, "0"),
        "status": "RUNNING",
        "health": "HEALTHY",
        "address": f"10.0.10.{10 + number}",
        "started_at": ago(hours=3),
        "digest": digest(service),
    }
    return TaskStatus(**{**values, **changes})


def deployment(service: str, **changes: Any) -> DeploymentStatus:
    values: dict[str, Any] = {
        "status": "PRIMARY",
        "state": "COMPLETED",
        "reason": "",
        "created_at": ago(hours=3),
        "desired": 1,
        "running": 1,
        "pending": 0,
        "failed": 0,
        "task_definition": f"alva-{service}:7",
        "digest": digest(service),
    }
    return DeploymentStatus(**{**values, **changes})


def service(name: str, *, has_port: bool = True, **changes: Any) -> ServiceStatus:
    values: dict[str, Any] = {
        "name": name,
        "desired": 1,
        "running": 1,
        "deployment": "COMPLETED",
        "digest": digest(name),
        "since": ago(hours=3),
        "targets": (TargetStatus(address="10.0.10.10", state="healthy", reason=""),) if has_port else (),
        "tasks": (task(name),),
        "deployments": (deployment(name),),
        "events": (ServiceEvent(at=ago(hours=3), message=f"(service alva-{name}) has reached a steady state."),),
    }
    return ServiceStatus(**{**values, **changes})


def release(number: int, **changes: Any) -> Release:
    values: dict[str, Any] = {
        "number": number,
        "commit": f"{0xA1B2C3D4E5F6 + number * 7919:x}",
        "digests": {name: digest(f"{name}{number}" if name == "web" else name) for name in SERVICES},
        "revision": "0002",
        "by": "maria",
        "started_at": ago(hours=4 * (9 - number)).isoformat(),
        "seconds": 214.0 + number,
        "step_seconds": {"image:web": 0.4, "secrets": 0.3, "stack:alva-staging-services": 171.0, "verify": 12.5},
    }
    return Release(**{**values, **changes})


CAUSE = Diagnosis(
    subject="web",
    kind="crash",
    cause="its container web ended with exit code 3, 0 s after its start",
    evidence=(
        "Essential container in task exited (3 tasks)",
        "container web ended with exit code 3",
        "last log: cannot start: no configuration <b>at all</b>",
    ),
    next_step="./alva logs web --since 1h",
)
ROLLED_BACK = release(
    8,
    outcome="rolled back",
    cause="cannot release: the new version does not run; all services run the former version again; "
    "web: its container web ended with exit code 3, 0 s after its start",
    started_at=ago(minutes=6).isoformat(),
)
LOCK = Holder(
    user="maria",
    host="laptop",
    boot="b",
    pid=4242,
    process_started="1",
    what="release of a1b2c3d4e5f6",
    since=ago(seconds=95).isoformat(),
)
GOOD = Status(
    environment="staging",
    url="http://alva-staging-alb-123456789.us-east-1.elb.amazonaws.com",
    services=tuple(map(service, SERVICES)),
    stacks=tuple(StackStatus(name=f"alva-staging-{name}", status="UPDATE_COMPLETE") for name in STACKS),
    release=release(7),
    lock=None,
)


@dataclass(frozen=True, kw_only=True)
class State:
    """The values that the console reads from one environment."""

    status: Status | AlvaError
    progress: Mapping[str, Any] | None = None
    services: Mapping[str, int | None] = field(default_factory=lambda: dict(SERVICES))
    """Name -> port; None for a service without a port."""


def changed(**services: ServiceStatus) -> tuple[ServiceStatus, ...]:
    return tuple(services.get(each.name, each) for each in GOOD.services)


def step(title: str, state: str, seconds: float | None, expected: float | None, detail: str = "") -> dict[str, Any]:
    began = ago(seconds=70)
    return {
        "key": title,
        "title": title,
        "state": state,
        "started_at": began.isoformat(),
        "seconds": seconds,
        "expected_seconds": expected,
        "detail": detail,
    }


def progress(*, fails: bool) -> dict[str, Any]:
    return {
        "what": LOCK.what,
        "by": "maria on laptop",
        "started_at": LOCK.since,
        "expected_seconds": 214.0,
        "steps": [
            step("publish the image of web", "done", 0.0, 0.4, "3c99b6ccedd1"),
            step("migrate the database", "done", 21.5, 19.0),
            step("stack alva-staging-database", "done", 4.2, None),
            step(
                "stack alva-staging-services",
                "rolling back" if fails else "running",
                None,
                171.0,
                "UPDATE_ROLLBACK_IN_PROGRESS" if fails else "UPDATE_IN_PROGRESS",
            ),
        ],
        "is_rolling_back": fails,
        "causes": [CAUSE.as_json()] if fails else [],
    }


NEW_WEB = "web-new"
RELEASING = service(
    "web",
    running=2,
    deployment="IN_PROGRESS",
    digest=digest(NEW_WEB),
    tasks=(task("web"), task("web", 1, digest=digest(NEW_WEB), health="UNKNOWN", started_at=ago(seconds=20))),
    targets=(
        TargetStatus(address="10.0.10.10", state="healthy", reason=""),
        TargetStatus(address="10.0.10.11", state="initial", reason="Target registration is in progress"),
    ),
    deployments=(
        deployment(
            "web",
            state="IN_PROGRESS",
            digest=digest(NEW_WEB),
            task_definition="alva-web:8",
            reason="ECS deployment ecs-svc/4290842066488764109 in progress.",
        ),
        deployment("web", status="ACTIVE"),
    ),
    events=(
        ServiceEvent(at=ago(seconds=20), message="(service alva-web) has started 1 tasks: (task 0123456789abcdef)."),
        ServiceEvent(at=ago(hours=3), message="(service alva-web) has reached a steady state."),
    ),
)
FAILING = replace(
    RELEASING,
    tasks=(task("web"), task("web", 2, status="PROVISIONING", digest=digest(NEW_WEB), started_at=None)),
    deployments=(
        replace(RELEASING.deployments[0], failed=2, running=0, pending=1),
        RELEASING.deployments[1],
    ),
)
DRAINING = service(
    "web",
    digest=digest(NEW_WEB),
    tasks=(task("web", 1, digest=digest(NEW_WEB)), task("web", status="DEACTIVATING")),
    targets=(
        TargetStatus(address="10.0.10.11", state="healthy", reason=""),
        TargetStatus(address="10.0.10.10", state="draining", reason="Target deregistration is in progress"),
    ),
    deployments=(deployment("web", digest=digest(NEW_WEB), task_definition="alva-web:8"),),
)
NO_TASKS = service(
    "api",
    running=0,
    tasks=(),
    targets=(),
    events=(ServiceEvent(at=ago(minutes=2), message="(service alva-api) was unable to place a task. Reason: …"),),
)
UNHEALTHY = service(
    "auth",
    desired=2,
    running=2,
    tasks=(task("auth"), task("auth", 1)),
    targets=(
        TargetStatus(address="10.0.10.10", state="healthy", reason=""),
        TargetStatus(address="10.0.10.11", state="unhealthy", reason="Health checks failed with these codes: [503]"),
    ),
)
ALARM = AlarmStatus(
    name="api-log-errors",
    part="api",
    description="The api logs more than 5 errors a minute",
    reason="Threshold Crossed: 1 datapoint [23.0 (29/11/26 08:31:00)] was greater than the threshold (5.0).",
    since=ago(minutes=4),
)
EXPIRED = PreflightRefused(
    "cannot read the stacks: the AWS credentials have expired",
    evidence=["ExpiredTokenException: The security token included in the request is expired"],
    next_step="sign in again, for example with aws sso login",
)
MANY = {f"service-{number}": 4000 + number for number in range(1, 41)}

STATES: Mapping[str, State] = {
    "empty": State(
        status=replace(
            GOOD,
            url="",
            services=tuple(
                service(name, desired=0, running=0, deployment=MISSING, digest="", since=None, targets=(), tasks=(),
                        deployments=(), events=())
                for name in SERVICES
            ),
            stacks=tuple(replace(stack, status=MISSING) for stack in GOOD.stacks),
            release=None,
        )
    ),
    "good": State(status=GOOD),
    "releasing": State(
        status=replace(GOOD, services=changed(web=RELEASING), lock=LOCK), progress=progress(fails=False)
    ),
    "failing": State(status=replace(GOOD, services=changed(web=FAILING), lock=LOCK), progress=progress(fails=True)),
    "draining": State(status=replace(GOOD, services=changed(web=DRAINING))),
    "rolled-back": State(status=replace(GOOD, release=ROLLED_BACK)),
    "asleep": State(
        status=replace(
            GOOD,
            services=tuple(replace(s, desired=0, running=0, tasks=(), targets=()) for s in GOOD.services),
            asleep=Asleep(services={}, databases=(), by="maria", since=ago(hours=9).isoformat()),
        )
    ),
    "expired": State(status=EXPIRED),
    "alarms": State(
        status=replace(
            GOOD,
            alarms=(ALARM, replace(ALARM, name="database-cpu", part="database", description="CPU above 85 %")),
        )
    ),
    "no-tasks": State(status=replace(GOOD, services=changed(api=NO_TASKS))),
    "unhealthy": State(status=replace(GOOD, services=changed(auth=UNHEALTHY))),
    "worker": State(
        status=replace(GOOD, services=(*GOOD.services, service("worker", has_port=False))),
        services={**SERVICES, "worker": None},
    ),
    "many": State(status=replace(GOOD, services=tuple(map(service, MANY))), services=MANY),
}  # fmt: skip


def picture_of(services: Mapping[str, int | None]) -> Picture:
    """All services can reach the data stores and each other, as the environment's security group allows."""
    listening = {name: port for name, port in services.items() if port is not None}
    group = Group(
        name="alva-staging-ecs", rules=("in from alva-staging-alb, ports 3000 to 3003", "out to 0.0.0.0/0, port 443")
    )
    parts = [
        Part(name="internet", kind="internet", title="Internet"),
        Part(name="alb", kind="alb", title="Load balancer", note="internet-facing", ports=("80",)),
        *(
            Part(
                name=name,
                kind="service",
                title=name,
                note=f"/{name} /{name}/*" if port else "",
                ports=(str(port),) if port else (),
                groups=(group,),
                containers=(
                    Container(
                        name=name, environment=("DATABASE_URL", "PORT"), secrets=("JWT_PUBLIC_KEY", "PGPASSWORD")
                    ),
                ),
                size="512 CPU units, 1024 MiB",
            )
            for name, port in services.items()
        ),
        Part(name="database", kind="database", title="PostgreSQL", note="db.t3.micro", ports=("5432",)),
        Part(name="cache", kind="cache", title="Redis", note="cache.t3.micro", ports=("6379",)),
    ]
    arrows = [Arrow(source="internet", target="alb", ports=("80",))]
    arrows += [Arrow(source="alb", target=name, ports=(str(port),)) for name, port in listening.items()]
    for source in services:
        arrows += [Arrow(source=source, target=t, ports=(str(p),)) for t, p in listening.items() if t != source]
        arrows += [
            Arrow(source=source, target=target, ports=(port,))
            for target, port in (("database", "5432"), ("cache", "6379"), ("internet", "443"))
        ]
    return Picture(name="staging", parts=tuple(parts), arrows=tuple(arrows))


def chart(title: str, lines: list[dict[str, Any]], *thresholds: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "lines": lines, "thresholds": list(thresholds)}


def chart_line(label: str, values: Sequence[float | None]) -> dict[str, Any]:
    return {"label": label, "values": list(values)}


def threshold(label: str, value: float, state: str) -> dict[str, Any]:
    return {"label": label, "value": value, "state": state, "comparison": "GreaterThanThreshold"}


SAVING = {"name": "nat = instance", "price": "one machine, no redundancy", "saves_usd": 28.4, "usd": 149.3}


class StateSession(Session):
    """A session whose environment is a `State`."""

    def __init__(self, state: State) -> None:
        super().__init__(
            Aws(Target.local("http://127.0.0.1:9")),
            MANIFEST,
            {},
            seconds_between_readings=1.0,
            chart_library=PROJECT / "node_modules" / "uplot" / "dist",
            extra={},
            read_savings=lambda: {"savings": [SAVING]},
        )
        self._state = state
        self._watch = Watch(self._look, 1.0)

    def _look(self) -> dict[str, Any]:
        status = self._state.status
        if isinstance(status, AlvaError):
            raise status
        return {
            **asdict(status),
            "outcome_in_words": status.release.outcome_in_words if status.release is not None else "",
            "condition": asdict(judge(status)),
            "drifts": [],
            "lock": str(status.lock) if status.lock is not None else None,
            "at": NOW,
            "progress": self._state.progress,
            "extra": {"target": "local", "inbox": "http://127.0.0.1:8025/"},
        }

    def _check(self) -> None:
        if isinstance(self._state.status, AlvaError):
            raise self._state.status

    def picture(self) -> dict[str, Any]:
        self._check()
        if self._state.status is STATES["empty"].status:
            raise AlvaError("cannot draw staging: not all of its stacks exist")
        picture = picture_of(self._state.services)
        return {
            "svg": drawing.draw(picture),
            "parts": {part.name: asdict(part) for part in picture.parts},
            "arrows": [asdict(arrow) for arrow in picture.arrows],
        }

    def releases(self) -> dict[str, Any]:
        self._check()
        assert isinstance(self._state.status, Status)
        newest = self._state.status.release
        if newest is None:
            return {"releases": []}
        older = [release(number) for number in range(min(newest.number - 1, 7), 0, -1)]
        older[2] = replace(older[2], outcome="failed", cause='cannot migrate: relation "plans" does not exist')
        older[3] = replace(older[3], rollback_of=2)
        return {"releases": [{**asdict(each), "outcome_in_words": each.outcome_in_words} for each in (newest, *older)]}

    def causes(self, release: int | None) -> dict[str, Any]:
        self._check()
        assert isinstance(self._state.status, Status)
        newest = self._state.status.release
        account = None
        if newest is not None and newest.outcome != "succeeded":
            account = {
                "release": newest.number,
                "message": "cannot release: the new version does not run; all services run the former version again",
                "exit_code": 5,
                "causes": [CAUSE.as_json()],
            }
        return {"now": [CAUSE.as_json()] if account and release is None else [], "release": account}

    def charts(self, minutes: int) -> dict[str, Any]:
        self._check()
        start = int(NOW.timestamp()) - minutes * 60
        rising = [float((number * 7) % 23) for number in range(minutes)]
        names = list(self._state.services)
        errors = [chart_line(f"staging-{name}-errors", [None, *rising[1:]]) for name in names]
        cpu = [chart_line(f"alva-{name}", [value / 4 + i for value in rising]) for i, name in enumerate(names)]
        return {
            "times": [start + 60 * number for number in range(minutes)],
            "charts": [
                chart("Requests a minute", [chart_line("RequestCount", rising)]),
                chart("Errors in logs a minute", errors, threshold("api-log-errors", 5.0, "ALARM")),
                chart("CPU of services, %", cpu, *(threshold(f"{name}-cpu", 85.0, "OK") for name in names)),
                chart("Queue depth, jobs that wait", [chart_line("staging-api-queue-depth", [None] * minutes)]),
            ],
        }

    def cost(self) -> dict[str, Any]:
        self._check()
        network = {"subject": "alva-staging-network/NatGatewayA", "what": "NAT gateway, without data", "usd": 32.85}
        tasks = {"what": "1 x 0.5 vCPU, 1 GB, X86_64", "usd": 18.02}
        items = [network, *({"subject": f"alva-{name}", **tasks} for name in self._state.services)]
        return {"usd": 177.7, "prices_as_of": "2026-11-23", "items": items}

    def log_batches(
        self, names: list[str], since: datetime, pattern: str, size: int, *, is_following: bool
    ) -> Iterator[list[dict[str, object]]]:
        self._check()
        del names, since, size
        levels = ("INFO", "INFO", "INFO", "WARNING", "ERROR")
        yield [
            {
                "time": (NOW - timedelta(seconds=LOG_LINES - number)).isoformat(timespec="milliseconds"),
                "source": ("web", "api", "api/worker", "auth")[number % 4],
                "task": "t",
                "message": {
                    "level": levels[number % 5],
                    "message": f"GET /items/{number} <b>200</b>",
                    "duration_ms": 7,
                },
            }
            for number in range(LOG_LINES)
            if pattern in levels[number % 5]
        ]
        while is_following and not self._watch.is_closed:
            yield []
            self._aws.poll.pause(0.5)


@contextmanager
def served(state: State) -> Iterator[Console]:
    """Serve a console of this state during the block."""
    with serving(StateSession(state)) as console:
        yield console
