"""ECS: deployments with AWS's failures and rollbacks, and tasks that run as processes.

From a request to a process:

    api.py              the API over HTTP; checks input (shapes.py) against the supported members (support.py)
    calls/              the actions
    cloudformation.py   the resource types, which call the actions
    state.py, model.py  the records, and their conversion to and from JSON
    scheduler.py        pure: decides actions (actions.py) from a service and its tasks
    controller.py       carries the actions out; rollouts.py updates the records of deployments
    tasks.py            runs a task, with network.py, containers.py, dependencies.py, discovery.py
    preparation.py      prepares a task, with permissions.py, pull.py, awslogs.py, volumes.py
    exec_agent.py       ECS Exec, with exec_sessions.py, data_channel.py, session_manager.py
    metadata.py         the task metadata endpoint
    alarms.py           deployment alarms
    notifications.py    events for EventBridge
    metrics.py          metrics for CloudWatch
    render.py           records as responses of the API
"""

from alva.region.ecs.service import ContainerService

__all__ = ["ContainerService"]
