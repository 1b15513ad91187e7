"""The load balancer's CloudWatch metrics, from real requests."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from alva.region import retention
from alva.region.cloudwatch.metrics import statistic
from alva.region.elb import metrics
from alva.region.elb.metrics import AccessLog, read_request, request_metrics


def run(make_rig, test):
    async def body():
        async with make_rig() as rig, httpx.AsyncClient(base_url=rig.url, timeout=20) as client:
            await test(rig, client)

    asyncio.run(body())


def line(status_code, details="via_upstream", flags="-", host="127.20.1.1:80", response_ms="120"):
    fields = (
        "t",
        "app/x/1",
        "targetgroup/api/1",
        host,
        status_code,
        details,
        flags,
        "130",
        response_ms,
        "9",
        "GET",
        "/",
    )
    return "\t".join(map(str, fields))


def test_responses_of_targets_and_of_the_load_balancer_are_counted_separately():
    balancer = (("LoadBalancer", "app/x/1"),)
    both = (*balancer, ("TargetGroup", "targetgroup/api/1"))
    lines = (
        line(200),
        line(500, response_ms="121"),
        line(502, "upstream_reset_before_response_started{connection_termination}", "UC"),
        line(502, "upstream_reset_before_response_started{remote_connection_failure}", "UF"),
        line(503, "no_healthy_upstream", "UH", host="-"),
    )
    metrics = {key: sum(series.values.values()) for key, series in request_metrics(map(read_request, lines)).items()}
    assert metrics == {
        ("RequestCount", balancer): 4,
        ("RequestCount", both): 4,
        ("HTTPCode_Target_2XX_Count", balancer): 1,
        ("HTTPCode_Target_2XX_Count", both): 1,
        ("HTTPCode_Target_5XX_Count", balancer): 1,
        ("HTTPCode_Target_5XX_Count", both): 1,
        ("TargetResponseTime", balancer): 2,
        ("TargetResponseTime", both): 2,
        ("TargetConnectionErrorCount", balancer): 1,
        ("TargetConnectionErrorCount", both): 1,
        ("HTTPCode_ELB_5XX_Count", balancer): 3,
        ("HTTPCode_ELB_502_Count", balancer): 2,
        ("HTTPCode_ELB_503_Count", balancer): 1,
    }


def test_an_incomplete_line_is_read_once_it_is_complete(tmp_path):
    path = tmp_path / "access.log"
    log = AccessLog(path)
    path.write_text(line(200) + "\n" + line(200)[:20])
    assert len(log.read()) == 1
    path.write_text(line(200) + "\n" + line(200) + "\n")
    assert len(log.read()) == 1
    assert log.read() == []


@pytest.mark.parametrize("emptied_by", ["its reader", "the retention"])
def test_emptied_log_is_read_from_its_start(tmp_path, monkeypatch, emptied_by):
    assert metrics.LARGEST_LOG_BYTES < retention.LOG_FILE_BYTES
    monkeypatch.setattr(metrics, "LARGEST_LOG_BYTES", 8_000)
    monkeypatch.setattr(retention, "LOG_FILE_BYTES", 10_000)
    path = tmp_path / "access.log"
    log = AccessLog(path)
    request = line(200) + "\n"

    def append(size):
        with path.open("a") as file:
            file.write(request * (size // len(request)))

    append(7_000 if emptied_by == "the retention" else 9_000)
    assert log.read()
    if emptied_by == "the retention":
        append(4_000)
        retention.rotate_files(tmp_path)
    assert path.stat().st_size == 0
    append(3 * len(request))
    assert len(log.read()) == 3


def points(stored, name, **dimensions):
    return [
        point
        for metric in stored.known()
        for point in stored.points(metric)
        if metric[:2] == ("AWS/ApplicationELB", name) and dict(metric.dimensions).keys() == dimensions.keys()
    ]


def total(stored, name, **dimensions):
    return statistic(points(stored, name, **dimensions), "Sum")


def latest(stored, name):
    found = points(stored, name, LoadBalancer=1, TargetGroup=1)
    return statistic(found[-1:], "Maximum")


def test_real_requests_reach_cloudwatch(make_rig):
    async def test(rig, client):
        stored = rig.metrics
        group, target = await rig.serving()
        for _ in range(3):
            await client.get("/")
        await rig.until(lambda: latest(stored, "HealthyHostCount") == 1)
        target.answer = rig.answer("500 Oops")
        await client.get("/")
        await target.stop()
        await client.get("/")
        await rig.until(lambda: total(stored, "HTTPCode_ELB_5XX_Count", LoadBalancer=1) == 1)
        assert total(stored, "HTTPCode_Target_2XX_Count", LoadBalancer=1, TargetGroup=1) == 3
        assert total(stored, "HTTPCode_Target_5XX_Count", LoadBalancer=1, TargetGroup=1) == 1
        assert total(stored, "RequestCount", LoadBalancer=1) == 5
        latency = points(stored, "TargetResponseTime", LoadBalancer=1)
        assert {point.unit for point in latency} == {"Seconds"}
        assert 0 <= statistic(latency, "Minimum") <= statistic(latency, "Maximum") < 2
        await rig.until_state(group, target, "unhealthy")
        await rig.until(lambda: latest(stored, "UnHealthyHostCount") == 1)
        (names,) = [dict(each.dimensions) for each in stored.known() if each.name == "HealthyHostCount"]
        assert names["LoadBalancer"].startswith("app/lb-")
        assert names["TargetGroup"] == group.rpartition(":")[2]

    run(make_rig, test)
