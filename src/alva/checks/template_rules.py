"""Template rules that generic scanners lack, because they check how the environment's parts fit together.

Each rule reads the synthesis and yields findings; `RULES` lists them. Rules make no calls and change nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from alva.checks.assembly import Assembly, Parameter, Reference, Resource
from alva.checks.aws_rules import ascii_templates, unset_settings
from alva.checks.dockerfiles import last_stage
from alva.checks.findings import Finding, Inputs
from alva.checks.paths import missing_paths
from alva.checks.routing import listener_rules, probes, served_by
from alva.checks.security_groups import SecurityGroup, security_groups
from alva.checks.services import containers_of, deployed_services

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"

# superuser_reserved_connections (3) and rds.rds_superuser_reserved_connections (2) are not for applications.
RESERVED_CONNECTIONS = 5

# Characters that RDS' master password, an ElastiCache AUTH token or a URL does not accept.
# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html (MasterUserPassword)
# https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth.html
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
PASSWORD_LENGTHS = range(16, 129)


Rule = Callable[[Inputs], Iterator[tuple[object, str]]]


def listener_priorities(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Rules of a listener have different priorities: CloudFormation fails at the second rule with the same one."""
    taken: dict[tuple[Reference, int], Resource] = {}
    for rule in listener_rules(inputs.assembly):
        key = (rule.listener, rule.priority)
        if key in taken:
            yield rule.resource, f"priority {rule.priority} is that of {taken[key]}"
        taken[key] = rule.resource


def path_coverage(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Every path of a service reaches it: `/api/*` alone does not match `/api`."""
    rules = listener_rules(inputs.assembly)
    for service in deployed_services(inputs.assembly):
        if service.target_group is None:
            continue
        host = service.manifest["host"] or "example.com"
        for path in dict.fromkeys(probe for pattern in service.manifest["paths"] for probe in probes(pattern)):
            target_group = served_by(rules, path, host)
            if target_group != service.target_group:
                yield service.name, f"{path} reaches {target_group or 'no target group'}, not its own"


def health_path(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """The target group uses the health path of the service's entry."""
    for service in deployed_services(inputs.assembly):
        if service.target_group is None:
            continue
        asked = service.target_group.properties.get("HealthCheckPath")
        promised = service.manifest["health_path"]
        if asked != promised:
            yield service.target_group, f"uses {asked}, the service serves {promised}"


def port_agreement(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """The task's PORT, target group and security group use the same port; otherwise requests end in 502 or 504."""
    groups = security_groups(inputs.assembly)
    for service in deployed_services(inputs.assembly):
        if service.target_group is None:
            continue
        port = service.manifest["port"]
        container = service.main_container
        (balancer,) = service.service.properties["LoadBalancers"]
        stated: Mapping[str, object] = {
            "the container's port mapping": list(container.ports),
            "PORT in the container's environment": [int(container.environment["PORT"])],
            "the service's load balancer": [balancer["ContainerPort"]],
        }
        for where, ports in stated.items():
            if ports != [port]:
                yield service.name, f"serves port {port}, but {where} says {ports}"
        if not _admits_load_balancer(inputs.assembly, groups, service.service, port):
            yield service.name, f"its security group admits nothing from the load balancer on port {port}"


def exposed_ports(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """A Dockerfile's EXPOSE, if any, names PORT. Otherwise a warning, because EXPOSE does not open ports."""
    for service in deployed_services(inputs.assembly):
        dockerfile = inputs.repository / service.manifest["dockerfile"]
        port = service.manifest["port"]
        if port is None or not dockerfile.exists():
            continue
        if (ports := last_stage(dockerfile).ports) and port not in ports:
            said = ", ".join(map(str, ports))
            yield (
                service.name,
                f"{service.manifest['dockerfile']} exposes {said}; the task's environment has PORT={port}",
            )


def writable_tmp(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """A Dockerfile with a USER declares each volume that it writes to. Otherwise a warning: its base image may declare
    it.

    Without VOLUME, the mounted volume belongs to root with mode 0755:
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
    """
    for service in deployed_services(inputs.assembly):
        dockerfile = inputs.repository / service.manifest["dockerfile"]
        if not dockerfile.exists():
            continue
        stage = last_stage(dockerfile)
        if stage.user.partition(":")[0] in ("", "0", "root"):
            continue
        for path in service.main_container.volumes:
            if path not in stage.volumes:
                yield (
                    service.name,
                    f"user {stage.user} cannot write to {path}: {service.manifest['dockerfile']} has no VOLUME {path}",
                )


def connection_budget(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """The database has enough connections while all services roll out at once and the migration runs."""
    manifest = inputs.assembly.manifest
    allowed = manifest["database"]["max_connections"] - RESERVED_CONNECTIONS
    needed = manifest["migration"]["database_connections"]
    for service in deployed_services(inputs.assembly):
        percent = service.service.properties["DeploymentConfiguration"]["MaximumPercent"]
        tasks = _most_tasks(inputs.assembly, service.service)
        needed += service.manifest["database_connections"] * (tasks * percent // 100)
    if needed > allowed:
        instance_class = manifest["database"]["instance_class"]
        yield "database", f"{needed} connections at most are opened, {instance_class} allows {allowed}"


def password_alphabet(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """A generated password is valid in the database, in the cache and in a URL."""
    for secret in inputs.assembly.of_type("SecretsManager::Secret"):
        generated = secret.properties.get("GenerateSecretString")
        if generated is None:
            continue
        excluded = set(generated.get("ExcludeCharacters", ""))
        if generated.get("ExcludePunctuation"):
            excluded |= set(PUNCTUATION)
        if left := set(PUNCTUATION) - excluded - set("-_."):
            yield secret, f"may contain {' '.join(sorted(left))}, which a URL, RDS or an AUTH token does not accept"
        if generated.get("IncludeSpace"):
            yield secret, "may contain a space"
        if (length := generated.get("PasswordLength", 32)) not in PASSWORD_LENGTHS:
            yield secret, f"has {length} characters; an AUTH token has {PASSWORD_LENGTHS[0]} to {PASSWORD_LENGTHS[-1]}"


def secrets_consumed(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Each secret is used, by a container or by CloudFormation."""
    read = {
        str(arn)
        for definition in inputs.assembly.of_type("ECS::TaskDefinition")
        for container in containers_of(definition)
        for arn in container.secrets.values()
    } | {
        str(made.properties["SecretString"]).partition("{{resolve:secretsmanager:")[2]
        for made in inputs.assembly.of_type("SecretsManager::Secret")
        if "SecretString" in made.properties
    }
    for secret in inputs.assembly.of_type("SecretsManager::Secret"):
        if not any(arn.startswith(str(secret.reference)) for arn in read):
            yield secret, "no container reads it"


def secrets_readable(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """The execution role can read each secret of its containers; otherwise tasks fail with
    ResourceInitializationError.
    """
    for definition in inputs.assembly.of_type("ECS::TaskDefinition"):
        role = inputs.assembly.target(definition.properties.get("ExecutionRoleArn"))
        readable = _allowed_resources(role, "secretsmanager:GetSecretValue") if role else set()
        for container in containers_of(definition):
            for variable, value in container.secrets.items():
                if not any(str(value).startswith(arn) for arn in readable):
                    yield definition, f"{variable} of {container.name}: the execution role cannot read {value}"


def open_ports(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Each public port has a listener, and each listener's port is public."""
    groups = security_groups(inputs.assembly)
    for balancer in inputs.assembly.of_type("ElasticLoadBalancingV2::LoadBalancer"):
        listening = {
            int(each.properties["Port"])
            for each in inputs.assembly.of_type("ElasticLoadBalancingV2::Listener")
            if inputs.assembly.target(each.properties["LoadBalancerArn"]) == balancer
        }
        own = [groups[group.reference] for group in _groups_of(inputs.assembly, balancer.properties["SecurityGroups"])]
        ingress = [rule for group in own for rule in group.ingress]
        for rule in ingress:
            silent = [port for port in range(rule.first, rule.last + 1) if port not in listening]
            if silent:
                yield balancer, f"port {silent[0]} is open, but nothing listens on it"
        for port in listening:
            if not any(rule.admits_port(port) for rule in ingress):
                yield balancer, f"listens on port {port}, which no security group opens"
    served = {reference for reference, group in groups.items() if _serves_everybody(inputs.assembly, group)}
    for reference, group in groups.items():
        for rule in group.ingress:
            if rule.admits_everybody and reference not in served:
                yield (
                    group.resource,
                    f"ports {rule.first} to {rule.last} are public, without a load balancer",
                )


def needed_paths(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Security groups and routes allow every needed connection."""
    for path in missing_paths(inputs.assembly):
        yield path.subject, str(path)


def images_by_digest(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Images are named by digest, because a tag can change before the next task starts."""
    for definition in inputs.assembly.of_type("ECS::TaskDefinition"):
        for container in containers_of(definition):
            _, _, digest = container.image.partition("@")
            if re.fullmatch(DIGEST_PATTERN.strip("^$"), digest):
                continue
            parameter = next(
                (
                    declared
                    for name, declared in inputs.assembly.templates[definition.stack].get("Parameters", {}).items()
                    if digest == str(Parameter(definition.stack, name))
                ),
                None,
            )
            if parameter is None:
                yield definition, f"{container.name} runs {container.image}, which is not named by digest"
            elif parameter.get("AllowedPattern") != DIGEST_PATTERN or "Default" in parameter:
                yield (
                    definition,
                    f"the parameter of {container.name}'s image accepts more than a digest, or has a default",
                )


def stack_order(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Each stack comes after those that it imports from, without cycles, and the manifest names each dependency."""
    seen: set[str] = set()
    for stack in inputs.assembly.manifest["stacks"]:
        template = json.dumps(inputs.assembly.templates[stack["name"]])
        imported = {
            exporter
            for name, (exporter, _) in inputs.assembly.exports.items()
            if json.dumps({"Fn::ImportValue": name}) in template
        }
        for missing in sorted(imported - set(stack["depends_on"])):
            yield stack["name"], f"imports from {missing}, which the manifest does not name as a dependency"
        for late in sorted(set(stack["depends_on"]) - seen):
            yield stack["name"], f"depends on {late}, which does not come before it"
        seen.add(stack["name"])


def log_retention(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Every log group has a retention, and containers log only to groups of the stacks."""
    for group in inputs.assembly.of_type("Logs::LogGroup"):
        if not group.properties.get("RetentionInDays"):
            yield group, "has no retention: its lines are kept and billed without limit"
    for definition in inputs.assembly.of_type("ECS::TaskDefinition"):
        for container in containers_of(definition):
            if inputs.assembly.target(container.log_group) is None:
                yield definition, f"{container.name} logs to {container.log_group}, which no stack creates"


def service_after_rule(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """A service depends on its listener rule: ECS refuses a service whose target group has no listener."""
    rules = listener_rules(inputs.assembly)
    for service in deployed_services(inputs.assembly):
        if service.target_group is None:
            continue
        own = {rule.resource.logical_id for rule in rules if rule.target_group == service.target_group}
        if not own & service.service.depends_on:
            yield service.service, "does not depend on the rule that attaches its target group to a listener"


RULES: Mapping[str, Rule] = {
    rule.__name__.replace("_", "-"): rule
    for rule in (
        listener_priorities,
        path_coverage,
        health_path,
        port_agreement,
        exposed_ports,
        writable_tmp,
        connection_budget,
        password_alphabet,
        secrets_consumed,
        secrets_readable,
        open_ports,
        needed_paths,
        images_by_digest,
        stack_order,
        log_retention,
        service_after_rule,
        ascii_templates,
        unset_settings,
    )
}

AWS_ONLY = frozenset({"unset-settings"})
"""Rules that do not apply to a local region."""


def check(assembly: Assembly, repository: Path, *, for_aws: bool = False) -> dict[str, list[Finding]]:
    """Run every rule, in order; return the rule's name -> its findings.

    `repository` is the root of the manifest's Dockerfile paths. `for_aws` also runs the rules of AWS_ONLY.
    """
    inputs = Inputs(assembly, repository)
    return {
        name: [Finding(rule=name, subject=str(subject), message=message) for subject, message in rule(inputs)]
        for name, rule in RULES.items()
        if for_aws or name not in AWS_ONLY
    }


def _groups_of(assembly: Assembly, values: list[object]) -> list[Resource]:
    return [group for value in values if (group := assembly.target(value)) is not None]


def _admits_load_balancer(
    assembly: Assembly, groups: Mapping[Reference, SecurityGroup], service: Resource, port: int
) -> bool:
    network = service.properties["NetworkConfiguration"]["AwsvpcConfiguration"]
    balancers = [
        group.reference
        for balancer in assembly.of_type("ElasticLoadBalancingV2::LoadBalancer")
        for group in _groups_of(assembly, balancer.properties["SecurityGroups"])
    ]
    return any(
        rule.admits_port(port) and rule.group in balancers
        for group in _groups_of(assembly, network["SecurityGroups"])
        for rule in groups[group.reference].ingress
    )


def _serves_everybody(assembly: Assembly, group: SecurityGroup) -> bool:
    return any(
        group.resource in _groups_of(assembly, balancer.properties["SecurityGroups"])
        and balancer.properties.get("Scheme") == "internet-facing"
        for balancer in assembly.of_type("ElasticLoadBalancingV2::LoadBalancer")
    )


def _most_tasks(assembly: Assembly, service: Resource) -> int:
    """Return the service's maximum number of tasks: its desired count, or its scaling's maximum."""
    name = service.properties["ServiceName"]
    for target in assembly.of_type("ApplicationAutoScaling::ScalableTarget"):
        if str(target.properties["ResourceId"]).endswith(f"/{name}"):
            return int(target.properties["MaxCapacity"])
    return int(service.properties.get("DesiredCount", 1))


def _allowed_resources(role: Resource, action: str) -> set[str]:
    return {
        str(resource)
        for policy in role.properties.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow" and action in _as_list(statement["Action"])
        for resource in _as_list(statement["Resource"])
    }


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
