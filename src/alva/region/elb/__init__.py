"""Load balancing (elbv2): the API, target health, and Envoy configured from listeners, rules and target groups.

api.py                the API over HTTP;  calls/ has one function for each action
store.py              what is remembered, made of the values of records.py
reading.py            requests -> records, refused where the data plane would not follow;  attributes.py, refusals.py
describing.py         records -> answers, and what is saved
cloudformation.py     the resource types, provisioned through the API
targets.py            registered and draining targets;  checker.py asks them, target_health.py decides
envoy_config.py       pure: records and health in, Envoy's configuration out (envoy_listeners.py, routes.py)
envoy.py              the Envoy process: its files, its admin socket
visitors.py           which listeners the security groups open;  interfaces.py: the addresses that are sent from
metrics.py            CloudWatch metrics from Envoy's access log
load_balancers.py     the component that holds these together: from the store to the data plane
"""

from alva.region.elb.load_balancers import LoadBalancers
from alva.region.elb.target_health import State, TargetHealth

__all__ = ["LoadBalancers", "State", "TargetHealth"]
