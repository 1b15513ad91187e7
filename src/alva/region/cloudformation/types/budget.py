"""AWS::Budgets::Budget: a record and its notifications. It has no effect here: the local region costs nothing."""

from __future__ import annotations

import copy

from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    budget = copy.deepcopy(properties.get("Budget") or {})
    name = budget.setdefault("BudgetName", f"{stack_name}-{logical_id}")
    limit = budget.get("BudgetLimit")
    if limit:
        limit["Amount"] = str(limit["Amount"])
    await call(
        "budgets",
        "CreateBudget",
        {
            "AccountId": _account(),
            "Budget": budget,
            "NotificationsWithSubscribers": properties.get("NotificationsWithSubscribers") or [],
        },
    )
    return name, {}


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
    budget = {**(new.get("Budget") or {}), "BudgetName": physical_id}
    await delete(physical_id, old)
    return await create("", {**new, "Budget": budget}, stack_name)


async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    try:
        await call("budgets", "DeleteBudget", {"AccountId": _account(), "BudgetName": physical_id})
    except HandlerFailed as error:
        if error.code != "NotFound":
            raise


def _account() -> str:
    from ministack.core.responses import get_account_id

    return str(get_account_id())


def register(registry: Registry) -> None:
    registry.register("AWS::Budgets::Budget", Handlers(create=create, update=update, delete=delete))
