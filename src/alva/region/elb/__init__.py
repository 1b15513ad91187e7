"""Load balancing (elbv2): the API, target health, and an Envoy configured from listeners, rules and target groups.

api.py                the API over HTTP; calls/ has one function for each action
store.py              the state, which consists of the values of records.py
reading.py            requests -> records, with attributes.py and refusals.py; refuses input that Envoy cannot serve
describing.py         records -> responses, and the saved form
cloudformation.py     the resource types, provisioned through the API
targets.py            registered and draining targets; checker.py checks them, target_health.py decides
envoy_config.py       pure: records and health -> Envoy's configuration, with envoy_listeners.py and routes.py
envoy.py              the Envoy process: its files, its admin socket
clients.py            the listeners that the security groups open
interfaces.py         the source addresses of load balancers
metrics.py            CloudWatch metrics from Envoy's access log
load_balancers.py     the component, which updates the data plane from the store
"""

from alva.region.elb.load_balancers import LoadBalancers
from alva.region.elb.target_health import State, TargetHealth

__all__ = ["LoadBalancers", "State", "TargetHealth"]
