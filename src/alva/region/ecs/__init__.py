"""Our own ECS: deployments that fail the way they fail on AWS, tasks that are processes.

From a request to a process, in this order:

    api.py            the API over HTTP: input checked (shapes.py) against what is honoured (support.py)
    calls/            the actions
    cloudformation.py the resource types, through the same actions
    state.py          everything that is known (model.py), on disk and back
    scheduler.py      pure: a service and its tasks in, actions (actions.py) out
    controller.py     carries the actions out; rollouts.py keeps the records of deployments
    tasks.py          a task's life, with network.py, containers.py, dependencies.py, discovery.py
    preparation.py    what it needs first: permissions.py, pull.py, logs.py
    metadata.py       what a container is told about itself
    alarms.py, notifications.py, metrics.py
                      deployment alarms; what EventBridge and CloudWatch are told
    control_plane.py  calls to the other services of the region
    render.py         records as the API shows them
"""

from alva.region.ecs.service import ContainerService

__all__ = ["ContainerService"]
