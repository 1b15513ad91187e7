"""Target health and draining, with real targets behind the real Envoy."""

# ruff: noqa: ARG001 - answers and tests have a common signature, and some use only a part of it

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from unittest.mock import Mock

import httpx
import pytest

from alva.region.background import Background
from alva.region.elb import target_health as health
from alva.region.elb.checker import CheckedTarget
from alva.region.elb.reading import DEFAULT_HEALTH_CHECK
from alva.region.elb.target_health import CheckedHealth, State, matches
from tests.waiting import async_until


def run(make_rig, test):
    async def body():
        async with make_rig() as rig, httpx.AsyncClient(base_url=rig.url, timeout=20) as client:
            await test(rig, client)

    asyncio.run(body())


def after(*results, healthy_threshold=3, unhealthy_threshold=2, start=None):
    checked = start or CheckedHealth()
    for result in results:
        checked = checked.after(result, healthy_threshold, unhealthy_threshold)
    return checked


def test_one_success_makes_a_new_target_healthy_and_thresholds_count_after_that():
    assert after(health.FAILED).health == health.INITIAL_HEALTH_CHECKING
    well = after(health.FAILED, health.SUCCESS)
    assert well.health == health.HEALTHY
    assert after(health.FAILED, health.SUCCESS, health.FAILED, start=well).health == health.HEALTHY
    ill = after(health.FAILED, health.TIMED_OUT, start=well)
    assert (ill.health.state, ill.health.reason) == (State.UNHEALTHY, "Target.Timeout")
    assert after(health.SUCCESS, health.SUCCESS, start=ill).health == ill.health
    assert after(health.SUCCESS, health.SUCCESS, health.FAILED, health.SUCCESS, start=ill).health.state == "unhealthy"
    assert after(health.SUCCESS, health.SUCCESS, health.SUCCESS, start=ill).health == health.HEALTHY


def test_a_new_target_that_never_answers_becomes_unhealthy():
    assert after(health.FAILED, health.FAILED).health.state is State.UNHEALTHY


def test_new_target_is_found_healthy_before_the_next_interval_and_its_failures_count_once_in_it():
    answers = asyncio.Event()
    checks = 0

    async def connect(address, port, *, tls, limit):
        nonlocal checks
        checks += 1
        if not answers.is_set():
            raise ConnectionRefusedError
        reader = asyncio.StreamReader()
        reader.feed_data(b"HTTP/1.1 200 OK\r\n\r\n")
        reader.feed_eof()
        return reader, Mock(spec=asyncio.StreamWriter)

    async def body():
        background = Background()
        check = replace(DEFAULT_HEALTH_CHECK, interval_seconds=300)
        target = CheckedTarget(
            "10.0.0.1", 80, Mock(health_check=check), 1, Mock(), connect, background, registration_seconds=0
        )
        target.start()
        await async_until(lambda: checks >= 4, "four checks")
        assert target.health == health.INITIAL_HEALTH_CHECKING
        answers.set()
        await async_until(lambda: target.health == health.HEALTHY, "a healthy target")
        await background.stop()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("matcher", "code", "accepted"),
    [
        ("200", 200, True),
        ("200", 204, False),
        ("200,202", 202, True),
        ("200-299", 250, True),
        ("200-299,301", 301, True),
        ("200-299", 300, False),
    ],
)
def test_a_matcher_accepts_its_codes_and_ranges(matcher, code, accepted):
    assert matches(matcher, code) is accepted


def test_a_target_is_initial_then_healthy_and_only_then_gets_requests(make_rig):
    async def test(rig, client):
        group = await rig.target_group()
        await rig.listener(await rig.load_balancer(), {"Type": "forward", "TargetGroupArn": group})
        target = await rig.target(start=False)
        rig.load_balancers.register(group, target.address, target.port)
        described = await rig.call("DescribeTargetHealth", TargetGroupArn=group)
        assert described.findtext(".//State") == "initial"
        assert described.findtext(".//Reason") == "Elb.RegistrationInProgress"
        await rig.until(lambda: rig.load_balancers.health(group, target.address, 8000).reason.endswith("Checking"))
        assert (await client.get("/")).status_code == 503
        await target.start()
        await rig.until_state(group, target, "healthy")
        assert (await client.get("/")).text == "fine"
        described = await rig.call("DescribeTargetHealth", TargetGroupArn=group)
        assert described.findtext(".//Target/Id") == target.address
        assert described.findtext(".//State") == "healthy"
        assert described.find(".//Reason") is None

    run(make_rig, test)


def test_an_unhealthy_target_shows_why_in_the_words_of_aws(make_rig):
    async def test(rig, client):
        async def silence(head, reader, writer):
            await asyncio.sleep(5)

        group, target = await rig.serving()

        async def shows(reason, description):
            def is_shown():
                health = rig.load_balancers.health(group, target.address, target.port)
                return (health.state, health.reason, health.description) == ("unhealthy", reason, description)

            await rig.until(is_shown)

        target.health = rig.answer("500 Oops")
        await shows("Target.ResponseCodeMismatch", "Health checks failed with these codes: [500]")
        target.health = silence
        await shows("Target.Timeout", "Request timed out")
        await target.stop()
        await shows("Target.FailedHealthChecks", "Health checks failed")

    run(make_rig, test)


def test_health_checks_go_to_the_given_path_and_port(make_rig):
    async def test(rig, client):
        heads = []

        async def answer(head, reader, writer):
            heads.append(head.decode())
            await rig.answer()(head, reader, writer)

        group = await rig.target_group(HealthCheckPath="/health", HealthCheckPort="8000")
        await rig.listener(await rig.load_balancer(), {"Type": "forward", "TargetGroupArn": group})
        target = await rig.target()
        target.health = answer
        rig.load_balancers.register(group, target.address, 9999)
        await rig.until(lambda: rig.load_balancers.health(group, target.address, 9999).state == "healthy")
        assert heads[0].startswith(f"GET /health HTTP/1.1\r\nHost: {target.address}:8000\r\n")
        assert "User-Agent: ELB-HealthChecker/2.0\r\n" in heads[0]

    run(make_rig, test)


def test_an_unhealthy_target_gets_nothing_while_another_is_healthy(make_rig):
    async def test(rig, client):
        group, _ = await rig.serving(rig.answer(body="well"))
        ill = await rig.target(rig.answer(body="ill"))
        rig.load_balancers.register(group, ill.address, ill.port)
        await rig.until_state(group, ill, "healthy")
        assert {(await client.get("/")).text for _ in range(10)} == {"well", "ill"}
        ill.health = rig.answer("500 Oops")
        await rig.until_state(group, ill, "unhealthy")
        assert {(await client.get("/")).text for _ in range(10)} == {"well"}

    run(make_rig, test)


def test_with_only_unhealthy_targets_the_load_balancer_fails_open(make_rig):
    async def test(rig, client):
        group, target = await rig.serving(rig.answer(body="still here"))
        target.health = rig.answer("500 Oops")
        await rig.until_state(group, target, "unhealthy")
        assert (await client.get("/")).text == "still here"

    run(make_rig, test)


def test_a_target_group_without_a_listener_is_unused_and_not_checked(make_rig):
    async def test(rig, client):
        group = await rig.target_group()
        target = await rig.target()
        rig.load_balancers.register(group, target.address, target.port)
        await asyncio.sleep(0.5)
        described = await rig.call("DescribeTargetHealth", TargetGroupArn=group)
        assert [described.findtext(f".//{name}") for name in ("State", "Reason", "Description")] == [
            "unused",
            "Target.NotInUse",
            "Target group is not configured to receive traffic from the load balancer",
        ]
        assert target.health_checks == 0
        await rig.listener(await rig.load_balancer(), {"Type": "forward", "TargetGroupArn": group})
        await rig.until_state(group, target, "healthy")

    run(make_rig, test)


def test_target_that_is_not_registered_is_described_as_unused(make_rig):
    async def test(rig, client):
        group = await rig.target_group()
        asked = [{"Id": "10.0.10.7", "Port": 1}]
        described = await rig.call("DescribeTargetHealth", TargetGroupArn=group, Targets=asked)
        assert described.findtext(".//Reason") == "Target.NotRegistered"

    run(make_rig, test)


def test_draining_target_finishes_its_requests_and_gets_no_new_ones(make_rig):
    async def test(rig, client):
        async def slow(head, reader, writer):
            await asyncio.sleep(1.5)
            await rig.answer(body="old")(head, reader, writer)

        group, old = await rig.serving(slow)
        new = await rig.target(rig.answer(body="new"))
        rig.load_balancers.register(group, new.address, new.port)
        await rig.until_state(group, new, "healthy")
        first = [asyncio.create_task(client.get("/")) for _ in range(2)]
        await rig.until(lambda: len(old.requests) == 1)
        rig.load_balancers.deregister(group, old.address, old.port)
        await asyncio.sleep(0.5)
        assert rig.load_balancers.health(group, old.address, old.port).reason == "Target.DeregistrationInProgress"
        assert not rig.load_balancers.is_drained(group, old.address, old.port)
        assert {(await client.get("/")).text for _ in range(10)} == {"new"}
        assert sorted([(await task).text for task in first]) == ["new", "old"]
        await rig.until(lambda: rig.load_balancers.is_drained(group, old.address, old.port), 3)
        # Its deregistration is complete, and it is shown as draining until the delay is over.
        assert rig.state(group, old) == "draining"
        await rig.until(lambda: rig.load_balancers.health(group, old.address, old.port).reason.endswith("Registered"))

    run(make_rig, test)


def test_draining_ends_with_the_deregistration_delay(make_rig):
    async def test(rig, client):
        async def endless(head, reader, writer):
            await asyncio.sleep(30)

        group = await rig.target_group(delay=1)
        await rig.listener(await rig.load_balancer(), {"Type": "forward", "TargetGroupArn": group})
        target = await rig.target(endless)
        rig.load_balancers.register(group, target.address, target.port)
        await rig.until_state(group, target, "healthy")
        request = asyncio.create_task(client.get("/"))
        await rig.until(lambda: len(target.requests) == 1)
        started = time.monotonic()
        rig.load_balancers.deregister(group, target.address, target.port)
        await rig.until(lambda: rig.load_balancers.is_drained(group, target.address, target.port), 30)
        assert time.monotonic() - started > 0.9
        request.cancel()

    run(make_rig, test)


def test_no_request_fails_while_targets_are_added_and_removed(make_rig):
    async def test(rig, client):
        group, current = await rig.serving()
        statuses = []
        is_over = False

        async def load():
            async with httpx.AsyncClient(base_url=rig.url) as own:
                while not is_over:
                    statuses.append((await own.get("/")).status_code)

        loads = [asyncio.create_task(load()) for _ in range(3)]
        for _ in range(4):
            following = await rig.target()
            rig.load_balancers.register(group, following.address, following.port)
            await rig.until_state(group, following, "healthy")
            rig.load_balancers.deregister(group, current.address, current.port)
            await rig.until(lambda old=current: rig.load_balancers.is_drained(group, old.address, old.port))
            await current.stop()
            current = following
        is_over = True
        await asyncio.gather(*loads)
        assert len(statuses) > 50
        assert set(statuses) == {200}

    run(make_rig, test)


def test_targets_survive_a_restart_and_are_checked_again(make_rig):
    async def test(rig, client):
        group, target = await rig.serving()
        await rig.load_balancers.stop()
        target.health_checks = 0
        await rig.load_balancers.start()
        await rig.until(lambda: target.health_checks > 0)
        await rig.until_state(group, target, "healthy")
        assert (await client.get("/")).text == "fine"

    run(make_rig, test)
