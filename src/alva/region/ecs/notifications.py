"""ECS's events on EventBridge: "ECS Deployment State Change", once for each change of a deployment's rollout state.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html
Task and service action events are not sent.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from alva.region.ecs.model import Deployment, RolloutState, Service

logger = logging.getLogger(__name__)

_EVENTS = {
    RolloutState.IN_PROGRESS: ("INFO", "SERVICE_DEPLOYMENT_IN_PROGRESS"),
    RolloutState.COMPLETED: ("INFO", "SERVICE_DEPLOYMENT_COMPLETED"),
    RolloutState.FAILED: ("ERROR", "SERVICE_DEPLOYMENT_FAILED"),
}


class Notifications:
    """Tells EventBridge what has become of deployments since the last time."""

    def __init__(self, account_id: str, region: str) -> None:
        self._account_id = account_id
        self._region = region
        self._told: dict[str, str] = {}

    def take_note(self, services: Iterable[Service]) -> None:
        """Remember how things stand without telling anybody: the restored state is no news."""
        for service in services:
            self._told.update({d.id: d.rollout_state_reason for d in service.deployments})

    def tell(self, service: Service) -> None:
        """Send an event for each deployment of the service whose rollout changed."""
        for deployment in service.deployments:
            if self._told.get(deployment.id) != deployment.rollout_state_reason:
                self._told[deployment.id] = deployment.rollout_state_reason
                self._send(service, deployment)

    def _send(self, service: Service, deployment: Deployment) -> None:
        from ministack.core.responses import request_scope
        from ministack.services import eventbridge

        event_type, name = _EVENTS[deployment.rollout_state]
        updated_at = datetime.fromtimestamp(deployment.updated_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        detail = {
            "eventType": event_type,
            "eventName": name,
            "deploymentId": deployment.id,
            "updatedAt": updated_at,
            "reason": deployment.rollout_state_reason,
        }
        entry = {
            "Source": "aws.ecs",
            "DetailType": "ECS Deployment State Change",
            "Resources": [service.arn],
            "Detail": json.dumps(detail),
        }
        try:
            with request_scope(self._account_id, self._region):
                eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
        except Exception:
            # A broken target of somebody's rule must not keep the service from being looked after.
            logger.exception("cannot tell EventBridge of %s of %s", name, service.name)
