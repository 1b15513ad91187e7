"""Plans survive failures of workers, the queue and the model, or fail with a message."""

from __future__ import annotations

import asyncio
import signal
import time

import httpx
import redis
from bullmq import Queue, Worker
from redis.asyncio import Redis

from tests.apps.api.conftest import Laboratory, order_plan, wait_for
from tests.apps.conftest import Outside, PostgresServer
from tests.waiting import until


def status_of(client: httpx.Client, plan_id: str) -> str:
    status: str = client.get(f"/plans/{plan_id}").json()["status"]
    return status


def test_job_of_a_killed_worker_is_finished_by_another(laboratory: Laboratory, outside: Outside) -> None:
    outside.seconds_per_chunk = 0.5
    victim = laboratory.start_worker(lock_milliseconds=2000)
    plan = order_plan(laboratory.customer)
    wait_for(laboratory.customer, plan["id"], "running")
    victim.stop(signal.SIGKILL)
    outside.seconds_per_chunk = 0.0
    other = laboratory.start_worker()
    wait_for(laboratory.customer, plan["id"], "ready")
    assert "lost its worker" in other.log


def test_stopping_worker_returns_its_job_to_the_queue(laboratory: Laboratory, outside: Outside) -> None:
    outside.seconds_per_chunk = 0.5
    first = laboratory.start_worker(finish_seconds=0.5)
    plan = order_plan(laboratory.customer)
    wait_for(laboratory.customer, plan["id"], "running")
    assert first.stop(signal.SIGTERM) == 0
    assert "returned to the queue" in first.log
    outside.seconds_per_chunk = 0.0
    second = laboratory.start_worker()
    wait_for(laboratory.customer, plan["id"], "ready")
    assert "lost its worker" not in second.log, "a returned job need not be recovered"
    jobs = laboratory.admin.get("/jobs").json()["items"]
    assert [job["attempts"] for job in jobs] == [1], "a return does not count as an attempt"


def test_stopping_worker_takes_no_job_with_a_fetch_that_has_not_started(laboratory: Laboratory) -> None:
    assert asyncio.run(_fetch_while_stopping(laboratory)) is None


async def _fetch_while_stopping(laboratory: Laboratory) -> object:
    """Stop a worker in the turn of the event loop in which it schedules a fetch, add a job, and return what it took."""
    from api.worker import stop_fetching

    password = laboratory.environment["REDIS_PASSWORD"]
    async with Redis(port=laboratory.cache_port, password=password, decode_responses=True) as client:
        worker = Worker("fetches", None, {"connection": client})
        assert await worker.getNextJob("first") is None, "the queue is empty, so the next fetch waits"
        fetch = asyncio.ensure_future(worker.getNextJob("second"))
        await stop_fetching(worker)
        await Queue("fetches", {"connection": client}).add("make", {})
        taken = await fetch
        await worker.close()
    return taken


def test_stopping_worker_finishes_a_job_that_is_nearly_done(laboratory: Laboratory, outside: Outside) -> None:
    outside.seconds_per_chunk = 0.04
    worker = laboratory.start_worker(finish_seconds=25)
    plan = order_plan(laboratory.customer)
    until(lambda: laboratory.customer.get(f"/plans/{plan['id']}").json()["progress"] >= 45, "half the plan")
    assert worker.stop(signal.SIGTERM) == 0
    assert status_of(laboratory.customer, plan["id"]) == "ready"


def test_plan_survives_an_unavailable_cache(laboratory: Laboratory, outside: Outside) -> None:
    outside.seconds_per_chunk = 0.2
    worker = laboratory.start_worker()
    plan = order_plan(laboratory.customer)
    wait_for(laboratory.customer, plan["id"], "running")
    laboratory.stop_cache()
    time.sleep(1)  # Long enough for broken connections to be detected.
    laboratory.start_cache()

    def is_ready() -> bool:
        try:
            return status_of(laboratory.customer, plan["id"]) == "ready"
        except (httpx.TransportError, KeyError, ValueError):
            return False  # the api has not recovered yet

    until(is_ready, "the plan")
    assert worker.process.poll() is None
    outside.seconds_per_chunk = 0.0
    wait_for(laboratory.customer, order_plan(laboratory.customer)["id"], "ready")


def test_plan_ordered_while_the_queue_is_unavailable_is_made_later(
    laboratory: Laboratory, postgres: PostgresServer
) -> None:
    laboratory.stop_cache()
    plan = order_plan(laboratory.customer)
    assert plan["status"] == "queued"
    laboratory.start_cache()
    laboratory.start_worker()
    _let_time_pass(laboratory, postgres)
    wait_for(laboratory.customer, plan["id"], "ready")


def test_queue_that_lost_its_data_is_filled_again(laboratory: Laboratory, postgres: PostgresServer) -> None:
    plan = order_plan(laboratory.customer)
    with redis.Redis(port=laboratory.cache_port, password=laboratory.environment["REDIS_PASSWORD"]) as client:
        client.flushall()
    laboratory.start_worker()
    _let_time_pass(laboratory, postgres)
    wait_for(laboratory.customer, plan["id"], "ready")


def _let_time_pass(laboratory: Laboratory, postgres: PostgresServer) -> None:
    """Move the last change of a plan into the past."""
    with postgres.connect(laboratory.database_name) as connection:
        connection.execute("UPDATE api.plans SET updated_at = updated_at - interval '1 minute'")


def test_plan_fails_after_all_attempts_and_an_administrator_can_retry_it(
    laboratory: Laboratory, outside: Outside
) -> None:
    laboratory.start_worker()
    outside.plan_faults += ["no plan at all"] * 4
    plan = order_plan(laboratory.customer)

    def promote() -> bool:
        asyncio.run(_promote(laboratory))  # Skip the delays of the back-off.
        return status_of(laboratory.customer, plan["id"]) == "failed"

    until(promote, "the last attempt")
    failed = laboratory.customer.get(f"/plans/{plan['id']}").json()
    assert failed["problem"] == "The planning service gave an incomplete plan."
    job = laboratory.admin.get("/jobs", params={"state": "failed"}).json()["items"][0]
    assert (job["id"], job["attempts"], job["failed_reason"]) == (plan["id"], 4, failed["problem"])
    assert laboratory.admin.post(f"/jobs/{plan['id']}/retry").status_code == 200
    assert wait_for(laboratory.customer, plan["id"], "ready")["problem"] == ""
    assert laboratory.admin.post(f"/jobs/{plan['id']}/retry").status_code == 409


async def _promote(laboratory: Laboratory) -> None:
    client = Redis(port=laboratory.cache_port, password=laboratory.environment["REDIS_PASSWORD"], decode_responses=True)
    await Queue("plans", {"connection": client}).promoteJobs()
    await client.aclose()


def test_administrator_sees_queue_workers_and_plans(laboratory: Laboratory) -> None:
    plan = order_plan(laboratory.customer)
    queue = laboratory.admin.get("/queue").json()
    assert (queue["name"], queue["counts"]["waiting"], queue["workers"]) == ("plans", 1, 0)
    laboratory.start_worker()
    laboratory.start_worker()
    wait_for(laboratory.customer, plan["id"], "ready")
    until(lambda: laboratory.admin.get("/queue").json()["workers"] == 2, "both workers to be connected")
    counts = laboratory.admin.get("/queue").json()["counts"]
    assert (counts["waiting"], counts["completed"]) == (0, 1)
    plans = laboratory.admin.get("/plans").json()
    assert [(entry["id"], entry["business_name"]) for entry in plans["items"]] == [(plan["id"], "Crumb & Co")]
    assert "content" not in plans["items"][0], "the content of a plan is private to its customer"


def test_administrator_cancels_a_waiting_job(laboratory: Laboratory) -> None:
    plan = order_plan(laboratory.customer)
    assert laboratory.admin.post(f"/jobs/{plan['id']}/cancel").json()["status"] == "cancelled"
    assert laboratory.admin.get("/jobs").json() == {"items": [], "total": 0}
    assert laboratory.admin.post(f"/jobs/{plan['id']}/retry").json()["state"] == "waiting"
    laboratory.start_worker()
    wait_for(laboratory.customer, plan["id"], "ready")


def test_administrators_pages_are_closed_to_customers(laboratory: Laboratory) -> None:
    for path in ("plans", "queue", "jobs"):
        assert laboratory.customer.get(f"/admin/{path}").status_code == 403
        bare = httpx.get(f"{laboratory.customer.base_url}admin/{path}", trust_env=False)
        assert bare.status_code == 401


def test_worker_logs_how_many_jobs_wait(laboratory: Laboratory) -> None:
    worker = laboratory.start_worker()
    # The field that the metric filter of the services stack reads.
    until(lambda: '"queue_depth": 0' in worker.log, "the depth of the empty queue")


def test_deep_health_reports_a_missing_worker(laboratory: Laboratory) -> None:
    url = f"http://127.0.0.1:{laboratory.environment['PORT']}/health?deep=1"
    alone = httpx.get(url, trust_env=False, timeout=60)
    said = alone.json()["checks"]["worker"]
    assert (alone.status_code, said) == (503, "RuntimeError: no worker is connected to the queue")
    laboratory.start_worker()
    # The worker logs that it works before BullMQ is connected.
    until(lambda: httpx.get(url, trust_env=False, timeout=60).json()["checks"]["worker"] == "ok", "the worker")
