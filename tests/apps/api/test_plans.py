"""From a profile to a plan, through the queue and a real worker."""

from __future__ import annotations

import json
import secrets

import httpx
import pytest

from tests.apps.api.conftest import order_plan, sign_token, wait_for
from tests.apps.conftest import EXAMPLE_PLAN, KeyPair, Outside, RunningProcess
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("worker", "outside")


def test_plan_is_made_with_its_tasks_in_the_boards_order(customer: httpx.Client) -> None:
    plan = wait_for(customer, order_plan(customer)["id"], "ready")
    assert plan["content"] == EXAMPLE_PLAN
    assert plan["progress"] == 100
    tasks = customer.get(f"/plans/{plan['id']}/tasks").json()["items"]
    assert [(task["is_quick_win"], task["week"]) for task in tasks] == [
        (True, 1),
        (True, 1),
        (False, 1),
        (False, 2),
        (False, 3),
        (False, 12),
    ]
    assert {task["status"] for task in tasks} == {"todo"}


def test_watcher_sees_progress_rise_until_the_plan_is_ready(customer: httpx.Client, outside: Outside) -> None:
    outside.seconds_per_chunk = 0.03
    plan = order_plan(customer)
    seen = []
    with customer.stream("GET", f"/plans/{plan['id']}/events", timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))
            if line.startswith("id: "):
                last = line.removeprefix("id: ")
    percents = [event["progress"] for event in seen]
    assert percents == sorted(percents)
    assert len(set(percents)) >= 4
    assert seen[-1]["status"] == "ready"
    again = customer.get(f"/plans/{plan['id']}/events", headers={"Last-Event-ID": last})
    assert again.status_code == 204, "204 stops an EventSource that reconnects to a finished plan"


def test_cancelled_plan_stays_cancelled_and_its_worker_stops(
    customer: httpx.Client, worker: RunningProcess, outside: Outside
) -> None:
    outside.seconds_per_chunk = 0.5
    plan = order_plan(customer)
    wait_for(customer, plan["id"], "running")
    assert customer.post(f"/plans/{plan['id']}/cancel").json()["status"] == "cancelled"
    assert customer.post(f"/plans/{plan['id']}/cancel").status_code == 200
    until(lambda: f"plan {plan['id']}: cancelled" in worker.log, "the worker to notice")
    assert customer.get(f"/plans/{plan['id']}").json()["content"] is None


def test_two_orders_with_one_key_make_one_plan(customer: httpx.Client) -> None:
    key = secrets.token_hex(8)
    first = order_plan(customer, **{"Idempotency-Key": key})
    wait_for(customer, first["id"], "ready")
    assert order_plan(customer, **{"Idempotency-Key": key})["id"] == first["id"]
    assert order_plan(customer)["id"] != first["id"]


def test_plan_survives_a_model_that_fails_once(customer: httpx.Client, outside: Outside) -> None:
    outside.plan_faults += ['{"summary": "half a pl', 500]
    plan = wait_for(customer, order_plan(customer)["id"], "ready")
    assert plan["problem"] == ""


def test_plan_that_cannot_be_made_fails_with_a_message(customer: httpx.Client, outside: Outside) -> None:
    outside.plan_faults += [401]
    plan = wait_for(customer, order_plan(customer)["id"], "failed")
    assert plan["problem"] == "The planning service is not set up properly. We have to look at it."
    assert plan["content"] is None


def test_plan_of_another_user_is_not_found(customer: httpx.Client, api: RunningProcess, keys: KeyPair) -> None:
    plan = wait_for(customer, order_plan(customer)["id"], "ready")
    task = customer.get(f"/plans/{plan['id']}/tasks").json()["items"][0]
    stranger = sign_token(keys)
    for method, path, body in [
        ("GET", f"/plans/{plan['id']}", None),
        ("GET", f"/plans/{plan['id']}/events", None),
        ("GET", f"/plans/{plan['id']}/tasks", None),
        ("POST", f"/plans/{plan['id']}/cancel", None),
        ("PATCH", f"/tasks/{task['id']}", {"status": "done"}),
    ]:
        answer = httpx.request(method, f"{api.url}/api{path}", json=body, headers=stranger, trust_env=False)
        assert answer.status_code == 404, (method, path)


def test_task_moves_over_the_board(customer: httpx.Client) -> None:
    plan = wait_for(customer, order_plan(customer)["id"], "ready")
    task = customer.get(f"/plans/{plan['id']}/tasks").json()["items"][0]
    for status in ("doing", "done", "todo"):
        assert customer.patch(f"/tasks/{task['id']}", json={"status": status}).json()["status"] == status
    assert customer.patch(f"/tasks/{task['id']}", json={"status": "lost"}).status_code == 422


def test_plan_needs_a_profile(api: RunningProcess, keys: KeyPair) -> None:
    answer = httpx.post(f"{api.url}/api/plans", headers=sign_token(keys), trust_env=False)
    assert (answer.status_code, answer.json()["detail"]) == (409, "Please tell us about your business first.")
