"""Each loop of the region continues after an exception and records the failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import eventbridge

from alva.region import engine_metrics
from alva.region.background import Background
from alva.region.cloudwatch import alarms
from alva.region.cloudwatch.metrics import Metrics
from alva.region.control_plane import ControlPlane
from alva.region.ecs import controller as controller_module
from alva.region.ecs.containers import ContainerPlan, HealthCheck, RunningContainer
from alva.region.ecs.controller import Controller
from alva.region.ecs.model import Health, Service
from alva.region.ecs.state import State
from alva.region.log_stream import LogStream
from alva.region.network.namespaces import Namespaces
from alva.region.recovery import keep_running
from tests.waiting import async_until

pytestmark = pytest.mark.anyio
ACCOUNT, REGION = "000000000000", "us-east-1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def background() -> Background:
    return Background(retry_seconds=0.01)


class Once:
    """A function that raises at its first call."""

    def __init__(self, answer: Any = None) -> None:
        self.calls = 0
        self._answer = answer

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("once")
        return self._answer


def controller_of(background: Background) -> Controller:
    region: Any = SimpleNamespace(
        background=background,
        names=None,
        metrics=Metrics(),
        persistence=SimpleNamespace(mark_changed=lambda: None),
    )
    state = State(account_id=ACCOUNT, region=REGION)
    return Controller(region, state, ControlPlane(ACCOUNT, REGION))


def add_service(controller: Controller, name: str) -> Any:
    arn = controller._state.arn("service", "main", name)
    service: Any = SimpleNamespace(arn=arn, name=name, status="ACTIVE", deployments=[], open_service_deployment=None)
    controller._state.services[arn] = service
    return service


async def test_services_are_reconciled_although_one_cannot_be(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = controller_of(background)
    broken, _ = add_service(controller, "broken"), add_service(controller, "good")
    reconciled: list[str] = []

    def reconcile(service: Service) -> None:
        if service is broken:
            raise RuntimeError("no view of it")
        reconciled.append(service.name)

    monkeypatch.setattr(controller, "_reconcile", reconcile)
    await controller._reconcile_all()
    assert reconciled == ["good"]
    assert [failure.name for failure in background.failures] == ["reconcile ECS service broken"]
    monkeypatch.setattr(controller, "_reconcile", lambda _: None)
    await controller._reconcile_all()
    assert background.failures == []


async def test_controller_continues_after_an_exception_in_each_of_its_loops(
    background: Background, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    controller = controller_of(background)
    controller._region.config = SimpleNamespace(run_folder=tmp_path)  # type: ignore[assignment]
    forget, refresh, publish = Once(), Once(False), Once()
    monkeypatch.setattr(controller_module, "ALARM_POLL_SECONDS", 0.01)
    monkeypatch.setattr(controller_module, "PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(controller_module, "POLL_SECONDS", 0.01)

    async def refreshed(*_: Any) -> bool:
        return bool(refresh())

    async def published(*_: Any) -> None:
        publish()

    monkeypatch.setattr(controller._state, "forget_old_tasks", forget)
    monkeypatch.setattr(controller._alarms, "refresh", refreshed)
    monkeypatch.setattr(controller._metrics, "publish", published)
    await controller.start()
    await async_until(lambda: min(forget.calls, refresh.calls, publish.calls) >= 3 and not background.failures)
    await controller.stop()


async def test_alarms_are_evaluated_although_one_cannot_be(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def evaluate(_: Metrics, alarm: dict[str, Any], **__: float) -> None:
        seen.append(alarm["AlarmName"])
        if alarm["AlarmName"] == "broken":
            raise ValueError("no metric")

    async def all_alarms() -> list[dict[str, str]]:
        return [{"AlarmName": "broken"}, {"AlarmName": "good"}]

    monkeypatch.setattr(alarms, "evaluate", evaluate)
    monkeypatch.setattr(alarms, "_all_alarms", all_alarms)
    region: Any = SimpleNamespace(background=background, metrics=Metrics())
    component = alarms.Alarms(region, evaluation_seconds=0.01)
    await component.start()
    await async_until(lambda: seen.count("good") >= 2)
    assert [failure.name for failure in background.failures] == ["evaluate alarm broken"]
    await component.stop()


async def test_alarms_go_on_after_the_records_could_not_be_read(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = Once([])

    async def all_alarms() -> Any:
        return values()

    monkeypatch.setattr(alarms, "_all_alarms", all_alarms)
    region: Any = SimpleNamespace(background=background, metrics=Metrics())
    component = alarms.Alarms(region, evaluation_seconds=0.01)
    await component.start()
    await async_until(lambda: values.calls >= 2 and not background.failures)
    await component.stop()


async def test_engines_are_measured_again_after_a_failure(background: Background) -> None:
    measured = Once()

    async def measure() -> None:
        measured()

    publisher = engine_metrics.Publisher(background, "databases", measure)
    publisher.start()
    publisher.wake()
    await async_until(lambda: measured.calls == 1)
    publisher.wake()
    await async_until(lambda: measured.calls == 2 and not background.failures)
    await publisher.stop()


class Process:
    """A program, or the probe of a health check, that ends when `ended` is set."""

    is_running = True
    pid = 1
    name = "web"
    started_at = 0.0

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def wait(self) -> Any:
        await self.ended.wait()
        return SimpleNamespace(code=0)

    async def stop(self, _: float) -> None:
        self.kill()

    def kill(self) -> None:
        self.ended.set()


def checked_container(background: Background, start_probe: Callable[[], Process]) -> tuple[Any, RunningContainer]:
    """A container's record, and the container, which is checked every 10 ms with the probes of `start_probe`."""

    class Supervisor:
        async def start(self, spec: Any) -> Any:
            return start_probe() if "health check" in spec.name else Process()

    record: Any = SimpleNamespace(name="web", health=Health.UNKNOWN, exit_code=None, last_status="PENDING")
    plan = ContainerPlan(
        name="web", argv=("serve",), environment={}, sandbox=None, user=None, stop_signal=15,  # type: ignore[arg-type]
        stop_timeout_seconds=1, network=None, memory=None,
        health_check=HealthCheck(argv=("true",), interval_seconds=0.01, timeout_seconds=5, retries=3,
                                 start_period_seconds=0),
    )  # fmt: skip
    supervisor: Any = Supervisor()
    return record, RunningContainer(record, plan, supervisor, background, None, lambda: None)


async def test_container_is_checked_again_after_the_check_itself_failed(background: Background) -> None:
    starting = Once()

    def start_probe() -> Process:
        starting()
        probe = Process()
        probe.ended.set()
        return probe

    record, container = checked_container(background, start_probe)
    await container.start()
    await async_until(lambda: record.health is Health.HEALTHY and not background.failures)
    assert starting.calls >= 2
    await container.stop()
    assert record.last_status == "STOPPED"


async def test_container_stops_at_the_moment_at_which_a_check_ends(background: Background) -> None:
    probes: list[Process] = []

    def start_probe() -> Process:
        probes.append(Process())
        return probes[-1]

    record, container = checked_container(background, start_probe)
    await container.start()
    await async_until(lambda: probes)
    await asyncio.sleep(0)  # The check waits for the probe now.
    probes[0].ended.set()
    async with asyncio.timeout(30):
        await container.stop()
    assert record.last_status == "STOPPED"


async def test_log_events_are_sent_after_some_were_refused(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    refuse = Once()

    class Plane:
        async def call(self, *_: str, logEvents: list[dict[str, Any]], **__: Any) -> None:
            refuse()
            sent.extend(event["message"] for event in logEvents)

    monkeypatch.setattr("alva.region.log_stream.FLUSH_DELAY_SECONDS", 0.0)
    plane: Any = Plane()
    stream = LogStream(background, plane, "group", "stream")
    stream.write("lost")
    await async_until(lambda: bool(background.failures))
    assert background.failures[0].name == "write log events to group"
    stream.write("kept")
    await async_until(lambda: sent == ["kept"])
    await stream.close()
    assert background.failures == []


async def test_service_continues_although_its_event_cannot_be_sent(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = controller_of(background)
    monkeypatch.setattr(eventbridge, "_put_events", Once())
    controller._notifications._put("ECS Task State Change", "arn", dict)
    assert [failure.name for failure in background.failures] == ["send ECS events to EventBridge"]
    controller._notifications._put("ECS Task State Change", "arn", dict)
    assert background.failures == []


async def test_network_rules_are_applied_again_after_a_failure(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Once()
    network = Namespaces.__new__(Namespaces)
    network._background = background
    network._tasks = set()
    network._is_change_pending = False

    async def applied() -> None:
        apply()

    monkeypatch.setattr(network, "_apply", applied)
    monkeypatch.setattr("alva.region.network.namespaces.RETRY_SECONDS", 0.01)
    network.changed()
    await async_until(lambda: apply.calls == 2 and not background.failures)


async def test_engine_is_restarted_although_the_first_attempt_failed(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alva.region.recovery.FIRST_DELAY_SECONDS", 0.01)
    starting = Once()

    async def start() -> None:
        starting()

    async def ended() -> Any:
        return SimpleNamespace(code=9)

    process: Any = SimpleNamespace(name="rds/main", wait=ended)
    keep_running(background, process, lambda: True, start)
    await async_until(lambda: starting.calls == 2 and not background.failures)


async def test_background_readers_see_the_regions_records_in_every_request_scope(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, tuple[str, str]] = {}
    network = Namespaces.__new__(Namespaces)
    network._background, network._tasks, network._is_change_pending = background, set(), False
    controller = controller_of(background)

    async def apply() -> None:
        seen["network rules"] = (get_account_id(), get_region())

    class Running:
        def __init__(self, task: Any, *_: Any, **__: Any) -> None:
            self.task = task

        async def run(self) -> None:
            seen["task"] = (get_account_id(), get_region())

    monkeypatch.setattr(network, "_apply", apply)
    monkeypatch.setattr(controller_module, "RunningTask", Running)
    monkeypatch.setattr(controller._notifications, "publish_task", lambda _: None)
    task: Any = SimpleNamespace(arn="arn", id="1", group="family:web")
    own = (get_account_id(), get_region())
    with request_scope("222222222222", "eu-west-1"):
        network.changed()
        controller.start_task(task, {})
    await async_until(lambda: len(seen) == 2)
    assert set(seen.values()) == {own}
    assert own[1] != "eu-west-1"
