"""The budget, in its own stack, because some accounts cannot create budgets.

A new member account of an organization may not create budgets on its first day, until its management account enables
them. The release reports the failure and continues: `OPTIONAL` in lib/manifest.py.
"""

from __future__ import annotations

from aws_cdk import aws_budgets as budgets
from constructs import Construct

from lib.config.environments import Environment
from lib.stacks.environment_stack import EnvironmentStack


class BudgetStack(EnvironmentStack):
    """Notifies at 80 % of `monitoring.monthly_budget_usd`, and if the forecast exceeds it."""

    def __init__(self, scope: Construct, *, environment: Environment, topic_arn: str) -> None:
        super().__init__(scope, "budget", environment=environment, description="Alarm on the bill")
        subscriber = budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=topic_arn)
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=environment.prefix,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(
                    amount=environment.monitoring.monthly_budget_usd, unit="USD"
                ),
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        notification_type=kind,
                        comparison_operator="GREATER_THAN",
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[subscriber],
                )
                for kind, percent in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )
