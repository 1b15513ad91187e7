"""The load balancers' data plane: target health, and Envoy configured from listeners, rules and target groups.

MiniStack's `alb` module keeps the records of the elbv2 API. From them follows the rest, in this order:

    api.py            elbv2 calls that MiniStack gets wrong or that change the data plane
    cloudformation.py the resource types, provisioned through that API
    records.py        the records, read into dataclasses; what is not honoured is refused here
    checker.py        asks the targets;  target_health.py decides what the answers mean
    envoy_config.py   pure: records and health in, Envoy's configuration out
    envoy.py          the Envoy process: its files, its admin socket
    load_balancers.py the component that holds these together
"""

from alva.region.elb.load_balancers import LoadBalancers
from alva.region.elb.target_health import State, TargetHealth

__all__ = ["LoadBalancers", "State", "TargetHealth"]
