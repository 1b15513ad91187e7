"""The load balancers' data plane: target health, and Envoy configured from listeners, rules and target groups.

MiniStack's `alb` module keeps the records of the elbv2 API. From them follows the rest, in this order:

    cloudformation.py     the resource types, provisioned through the API
    api.py                elbv2 calls corrected;  query.py, checks.py, attributes.py, refusals.py belong to it
    reading.py            the records of MiniStack, read into the dataclasses of records.py
    checker.py            asks the targets;  target_health.py decides what the answers mean
    envoy_config.py       pure: records and health in, Envoy's configuration out (envoy_listeners.py, routes.py)
    envoy.py              the Envoy process: its files, its admin socket
    metrics.py            CloudWatch metrics from Envoy's access log
    load_balancers.py     the component that holds these together
"""

from alva.region.elb.load_balancers import LoadBalancers
from alva.region.elb.target_health import State, TargetHealth

__all__ = ["LoadBalancers", "State", "TargetHealth"]
