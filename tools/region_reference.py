"""Writes docs/reference/region.md: what the local region honours, accepts without effect and refuses.

    .venv/bin/python tools/region_reference.py           write it
    .venv/bin/python tools/region_reference.py --check   exit with 1 if it is not current

It constructs the region without starting it, and reads its tables. For MiniStack it reads the source: the calls that
have an entry, and the properties that a handler's code names.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alva.region import environment
from alva.region.cloudformation.registry import Registry
from alva.region.config import RegionConfig

FILE = Path(__file__).resolve().parents[1] / "docs/reference/region.md"

# botocore's names of services whose names differ in MiniStack.
MODELS = {
    "elasticloadbalancing": "elbv2",
    "monitoring": "cloudwatch",
    "tagging": "resourcegroupstaggingapi",
    "application-autoscaling": "application-autoscaling",
}
WIDTH = 150


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="region-reference-") as home:
        text = reference(Path(home))
    if "--check" in sys.argv:
        if FILE.exists() and FILE.read_text() == text:
            return 0
        print(f"{FILE} is not current: run tools/region_reference.py", file=sys.stderr)
        return 1
    FILE.write_text(text)
    return 0


def reference(home: Path) -> str:
    """The whole document; `home` is a folder for the region's files."""
    registry = install(home)
    types, drifts = resource_types(registry), drift(registry)
    parts = [*introduction(), *types, *calls(), *ecs(), *load_balancing(), *drifts, *metrics()]
    return "\n".join(parts).rstrip() + "\n"


def install(home: Path) -> Registry:
    """Construct the region in this process, as `server.run` does before it serves; returns its resource types."""
    config = RegionConfig(home=home)
    environment.prepare(config)
    from ministack import app

    from alva.region import offered_services, server

    offered_services.disable_other_entry_points(app)
    region, components = server.build(config)
    server.install_cloudformation(region)
    for component in components:
        component.install()
    return region.resource_types


def introduction() -> Iterator[str]:
    from importlib.metadata import version

    yield "# What the local region honours"
    yield ""
    yield from wrapped(
        "Made from the code by `tools/region_reference.py`; a test keeps it current. *Honoured*: it has the effect "
        "that it has on AWS. *Without effect*: it is accepted and described, but has no effect here. *Refused*: "
        "the call or the resource fails, and the error names what the region does not have. Anything that is not "
        "listed is refused."
    )
    yield ""
    yield from wrapped(
        f"*On record* means MiniStack {version('ministack')}: the API keeps it and describes it; other parts of the "
        "region can use the record (tasks use roles and log groups, alarms use metrics). *Read* means the same for a "
        "handler of the region. Both lists contain the names that the handler's code mentions. The names of all "
        "properties are checked against AWS's schema of the type: a misspelt name is refused."
    )
    yield ""


# CloudFormation


def resource_types(registry: Registry) -> Iterator[str]:
    from alva.region.cloudformation import schemas
    from alva.region.cloudformation.provisioning import Provisioner
    from alva.region.cloudformation.replacement import replacing_properties

    yield "## CloudFormation: resource types"
    yield ""
    tables = property_tables()
    for name in sorted(Provisioner(registry).known_types):
        schema = schemas.all_schemas()[name]
        settable = set(schema["properties"]) - {key for key in schema["read_only"] if "/" not in key}
        ours = name in registry.types
        yield f"### {name}"
        if name in tables:
            honoured, without_effect, note = tables[name]
            yield from entry("Honoured", honoured)
            yield from entry("Without effect", without_effect)
            yield from entry("Refused", settable - set(honoured) - set(without_effect))
            if note:
                yield from wrapped(note)
        else:
            read = set(mentioned(functions_of(registry, name))) & settable
            yield from entry("Read" if ours else "On record", read)
            yield from entry("Without effect", settable - read)
        yield from entry("Replaced when changed", replacing_properties(name))
        yield ""


def property_tables() -> dict[str, tuple[Iterable[str], Iterable[str], str]]:
    """By type: the honoured properties, those without effect, and a note."""
    from alva.region.cloudformation import schemas
    from alva.region.cloudformation.types import alarm, elastic_ip, nat_gateway, secret, security_group_rule
    from alva.region.constraints import service_model
    from alva.region.ecs import support
    from alva.region.elasticache import resources as elasticache
    from alva.region.elb import cloudformation as elb
    from alva.region.rds import resources as rds

    known = schemas.all_schemas()
    groups = [f"AWS::{of}{kind}Group" for of in ("ElastiCache::", "RDS::DB") for kind in ("Parameter", "Subnet")]
    prefix = "AWS::ElasticLoadBalancingV2::"
    tables: dict[str, tuple[Iterable[str], Iterable[str], str]] = {
        "AWS::RDS::DBInstance": (rds.HONOURED, rds.RECORDED, ""),
        "AWS::ElastiCache::ReplicationGroup": (elasticache.HONOURED, elasticache.RECORDED, ""),
        "AWS::CloudWatch::Alarm": (alarm.HONOURED, alarm.WITHOUT_EFFECT, ""),
        **{name: (set(known[name]["properties"]) - set(known[name]["read_only"]), (), "") for name in groups},
        "AWS::EC2::NatGateway": (nat_gateway.HONOURED, (), ""),
        "AWS::EC2::EIP": (elastic_ip.HONOURED, (), ""),
        "AWS::SecretsManager::Secret": (secret.HONOURED, (), ""),
        f"{prefix}LoadBalancer": (elb.LOAD_BALANCER | {"LoadBalancerAttributes"}, (), "Attributes: see below."),
        f"{prefix}TargetGroup": (
            elb.TARGET_GROUP | {"TargetGroupAttributes", "Targets"},
            (),
            "Attributes: see below.",
        ),
        f"{prefix}Listener": (elb.LISTENER | {"ListenerAttributes"}, (), "Attributes: see below."),
        f"{prefix}ListenerRule": (elb.RULE, (), ""),
    }
    for direction, other in (("Ingress", "Destination"), ("Egress", "Source")):
        effective, ineffective = (
            {name for name in names if not name.startswith(other)}
            for names in (security_group_rule.HONOURED, security_group_rule.WITHOUT_EFFECT)
        )
        tables[f"AWS::EC2::SecurityGroup{direction}"] = (effective, ineffective, "")
    for type_name, action in (
        ("AWS::ECS::Cluster", "CreateCluster"),
        ("AWS::ECS::TaskDefinition", "RegisterTaskDefinition"),
        ("AWS::ECS::Service", "CreateService"),
        ("AWS::ECS::ClusterCapacityProviderAssociations", "PutClusterCapacityProviders"),
    ):
        rules = support.ACTIONS[action]
        shape = service_model("ecs").operation_model(action).input_shape
        names = {member: member[0].upper() + member[1:] for member in shape.members} if shape is not None else {}
        without = [names[key] for key, rule in rules.items() if rule == support.WITHOUT_EFFECT]
        honoured = [names[key] for key in rules if names[key] not in without]
        tables[type_name] = (honoured, without, f"As {action}, see below.")
    return tables


def functions_of(registry: Registry, type_name: str) -> list[Callable[..., Any]]:
    """The functions that create and update a resource of this type."""
    from alva.region import scaling
    from alva.region.cloudformation import ministack_types

    if handlers := registry.types.get(type_name):
        called = {
            "AWS::ApplicationAutoScaling::ScalableTarget": [scaling.Scaling.register_scalable_target],
            "AWS::ApplicationAutoScaling::ScalingPolicy": [scaling.Scaling.put_scaling_policy],
        }
        return [handlers.create, handlers.update, *called.get(type_name, [])]
    entry = ministack_types.handlers()[type_name]
    return [entry[key] for key in ("create", "update") if key in entry]


def mentioned(functions: Iterable[Callable[..., Any]]) -> set[str]:
    """The string constants in the source of functions and of the functions that they call in their own modules."""
    found: set[str] = set()
    waiting, seen = list(functions), set()
    while waiting:
        function = inspect.unwrap(waiting.pop())
        if isinstance(function, functools.partial):
            waiting.append(function.func)
            continue
        if function in seen or not inspect.isroutine(function):
            continue
        seen.add(function)
        module = sys.modules[function.__module__]
        for node in ast.walk(parsed(function)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.Name):
                value = getattr(module, node.id, None)
                if inspect.isfunction(value) and value.__module__.split(".")[0] in ("alva", "ministack"):
                    waiting.append(value)
                elif isinstance(value, (tuple, frozenset, set, dict)):
                    found.update(each for each in value if isinstance(each, str))
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and inspect.ismodule(owner := getattr(module, node.value.id, None))
                and inspect.isfunction(called := getattr(owner, node.attr, None))
                and owner.__name__.endswith(("provisioners", "alarm"))
            ):
                waiting.append(called)
    return found


def parsed(function: Callable[..., Any]) -> ast.AST:
    import textwrap

    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return ast.Module(body=[], type_ignores=[])


# Calls


def calls() -> Iterator[str]:
    from botocore.session import get_session
    from ministack import app

    from alva.region import offered_services, scaling
    from alva.region.elasticache import api as elasticache
    from alva.region.elb import api as elb
    from alva.region.rds import api as rds

    yield "## Calls, by service"
    yield ""
    yield from wrapped(
        "Services that are not listed refuse every call. For ECS, see the next section. MiniStack's calls only "
        "change its records, except where the region implements the service."
    )
    yield ""
    engines = {"rds": rds, "elasticache": elasticache}
    session = get_session()
    for name in sorted({*offered_services.OFFERED, "application-autoscaling"} - {"ecs"}):
        operations = set(session.get_service_model(MODELS.get(name, name)).operation_names)
        yield f"### {MODELS.get(name, name)}"
        if name == "s3":
            yield from wrapped(
                "MiniStack's buckets and objects. S3's API uses URL paths instead of action names, so no action is "
                "listed."
            )
        elif name == "account":
            yield from wrapped(
                "MiniStack's records of the account's contacts and regions. Its API uses URL paths instead of action "
                "names, so no action is listed."
            )
        elif name == "elasticloadbalancing":
            yield from entry("Answered", elb.ACTIONS)
            yield from entry("Refused by name", operations - elb.ACTIONS)
        elif name in engines:
            yield from entry("Answered", engines[name].ACTIONS)
            yield from entry("Refused by name: use CloudFormation", engines[name].REFUSED)
            yield from wrapped("All other calls are refused by name, too.")
        elif name == "application-autoscaling":
            yield from entry("Honoured", scaling.Scaling().operations)
            yield from wrapped(
                "Scalable targets and policies are kept and described. Without effect: no policy and no scheduled "
                "action changes a service's desired count."
            )
        else:
            yield from entry("Answered", operations & keys_of(app.SERVICE_REGISTRY[name]["module"]))
        yield ""


def keys_of(module_name: str) -> set[str]:
    """The string keys of dictionaries, and the strings in comparisons, in the source of a MiniStack service."""
    import ministack.services

    folder = Path(ministack.services.__path__[0])
    single = folder / f"{module_name}.py"
    files = [single] if single.exists() else sorted((folder / module_name).rglob("*.py"))
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Dict):
                parts: Iterable[ast.expr | None] = node.keys
            elif isinstance(node, ast.Compare):
                parts = itertools.chain.from_iterable(
                    each.elts if isinstance(each, (ast.Tuple, ast.Set, ast.List)) else [each]
                    for each in node.comparators
                )
            else:
                continue
            found.update(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))
    return found


# ECS


def ecs() -> Iterator[str]:
    from alva.region.constraints import service_model
    from alva.region.ecs import support

    yield "## ECS: members of each call"
    yield ""
    for action, rules in sorted(support.ACTIONS.items()):
        shape = service_model("ecs").operation_model(action).input_shape
        yield f"### {action}"
        yield from entry("Honoured", flat(rules, lambda rule: rule == support.HONOURED))
        yield from entry("Only these values", values(rules))
        yield from entry("Without effect", flat(rules, lambda rule: rule == support.WITHOUT_EFFECT))
        yield from entry("Refused", set(shape.members) - set(rules) if shape is not None else ())
        yield ""
    yield "### What a task does not have"
    yield from wrapped(
        "No credentials: calls of AWS from a task are not supported. The task metadata "
        "endpoint, version 4 (`ECS_CONTAINER_METADATA_URI_V4`), answers for the container and its task (`/task`), "
        "without statistics (`/stats`, `/task/stats`). With loopback addresses there is no endpoint, and `HOST` is the "
        "address on which a task must listen."
    )
    yield ""
    yield "### Refused calls"
    yield from entry("Calls", set(service_model("ecs").operation_names) - set(support.ACTIONS))
    yield ""


def flat(rules: Mapping[str, Any], wanted: Callable[[Any], bool], path: str = "") -> Iterator[str]:
    for name, rule in rules.items():
        if isinstance(rule, dict):
            yield from flat(rule, wanted, f"{path}{name}.")
        elif wanted(rule):
            yield path + name


def values(rules: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, rule in rules.items():
        if isinstance(rule, dict):
            yield from values(rule, f"{path}{name}.")
        elif isinstance(rule, frozenset):
            yield f"{path}{name} = {' or '.join(sorted(map(str, rule)))}"


# Load balancing, drift, metrics


def load_balancing() -> Iterator[str]:
    from alva.region.elb import attributes
    from alva.region.elb.calls import listeners

    yield "## Load balancers: attributes"
    yield ""
    for title, honoured, without_effect in (
        ("Load balancer", attributes.LOAD_BALANCER_ATTRIBUTES, attributes.LOAD_BALANCER_ATTRIBUTES_WITHOUT_EFFECT),
        ("Target group", attributes.TARGET_GROUP_ATTRIBUTES, attributes.TARGET_GROUP_ATTRIBUTES_WITHOUT_EFFECT),
        ("Listener", attributes.LISTENER_ATTRIBUTES, ()),
    ):
        yield f"### {title}"
        yield from entry("Honoured", [name for name, accepted in honoured.items() if accepted is None])
        yield from entry(
            "Only these values",
            [f"{name} = {' or '.join(accepted)}" for name, accepted in honoured.items() if accepted is not None],
        )
        yield from entry("Without effect", without_effect)
        yield ""
    ports = " and ".join(map(str, listeners.SERVED_PORTS))
    yield from wrapped(
        f"Application load balancers over IPv4, listeners on ports {ports}, targets by address, HTTP/1.1. Refused by "
        "name: actions other than forward, redirect and fixed-response, regular expressions in conditions, IPv6 "
        "conditions, a rewrite of the host header, sticky target groups, mutual TLS, matchers for gRPC codes."
    )
    yield ""


def drift(registry: Registry) -> Iterator[str]:
    yield "## Drift detection: what is compared"
    yield ""
    for name, (_, properties) in sorted(registry.drift.items()):
        yield from entry(name, properties)
    yield ""
    yield "Every other type is `NOT_CHECKED`."
    yield ""


def metrics() -> Iterator[str]:
    from alva.region.ecs import metrics as of_ecs
    from alva.region.ecs import notifications
    from alva.region.elasticache import metrics as of_elasticache
    from alva.region.elb import metrics as of_elb
    from alva.region.rds import metrics as of_rds

    yield "## CloudWatch and EventBridge: published metrics and events"
    yield ""
    for module, namespace in (
        (of_elb, of_elb.NAMESPACE),
        (of_ecs, "AWS/ECS"),
        (of_rds, of_rds.NAMESPACE),
        (of_elasticache, of_elasticache.NAMESPACE),
    ):
        yield from entry(namespace, metric_names(module))
    yield from entry("EventBridge, from aws.ecs", notifications.DETAIL_TYPES)
    yield ""


def metric_names(module: Any) -> set[str]:
    """The names of metrics in a module's source, found by their endings."""
    endings = (
        "Utilization", "Connections", "Memory", "Space", "Percentage", "Evictions", "Reclaimed", "CacheHits",
        "CacheMisses", "BytesUsedForCache", "CurrItems", "Count", "ResponseTime",
    )  # fmt: skip
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "*" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if text.endswith(endings) and " " not in text and text[:1].isupper() and text != "Count":
            found.add(text)
    # The constant parts of a formatted name are separate nodes; leave them out.
    return {name for name in found if not any(other != name and other.endswith(f"*{name}") for other in found)}


# Text


def entry(title: str, names: Iterable[str]) -> Iterator[str]:
    """A titled list of names; nothing for an empty one."""
    listed = sorted(set(names))
    if listed:
        yield from wrapped(f"- **{title}**: {', '.join(f'`{name}`' for name in listed)}", indent="  ")


def wrapped(text: str, indent: str = "") -> Iterator[str]:
    import textwrap

    yield from textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
