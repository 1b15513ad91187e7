"""Checks of the account that no template can show: its plan, its budgets, its limits, and the database and cache
classes that its zones offer.

Each check reads AWS's API before anything costs money. No API reports two faults in advance: a new account that cannot
create load balancers yet ("This AWS account currently does not support creating load balancers"), which AWS Support
enables, and the cache nodes that each zone has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from alva.aws import Aws, error_code, explained, pages
from alva.errors import AlvaError
from alva.release.images import is_published, open_blob, read_manifest
from alva.release.manifest import Manifest
from alva.release.stacks import Stacks
from alva.release.verify import Finding, Verdict

PLAN_REGION = "us-east-1"
"""The only region with the API of the account's plan: https://docs.aws.amazon.com/general/latest/gr/billing.html"""

FREE_PLAN_BACKUP_DAYS = 1
FREE_PLAN_CLASSES = ("db.t3.micro", "db.t4g.micro")
"""RDS refuses more on the free plan: "FreeTierRestrictionError: The specified backup retention period exceeds ..."."""

SERVICE_LINKED_ROLES = {
    "AWS::ECS::Cluster": "ecs.amazonaws.com",
    "AWS::ElastiCache::ReplicationGroup": "elasticache.amazonaws.com",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "elasticloadbalancing.amazonaws.com",
    "AWS::RDS::DBInstance": "rds.amazonaws.com",
}
"""Resource type -> the service-linked role that its first resource needs;
https://docs.aws.amazon.com/IAM/latest/UserGuide/using-service-linked-roles.html
"""

BALANCER_LIMITS = {
    "application-load-balancers": "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "rules-per-application-load-balancer": "AWS::ElasticLoadBalancingV2::ListenerRule",
    "target-groups-per-application-load-balancer": "AWS::ElasticLoadBalancingV2::TargetGroup",
}
"""Limit -> the resource type that it limits.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Limit.html
"""

CPU_ARCHITECTURES = {"amd64": "X86_64", "arm64": "ARM64"}
"""The architecture in an image -> the same in a task definition."""

CONFIGURATIONS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")

MISSING_CODES = ("InvalidAction", "NotImplemented", "UnknownOperationException", "UnsupportedOperation")
"""Error codes of an endpoint without the operation."""


class NotHere(AlvaError):
    """The endpoint does not have the operation: a local region, or a partition without the service."""


@dataclass(frozen=True, kw_only=True)
class AccountChecks:
    """The checks of the account for one environment."""

    aws: Aws
    manifest: Manifest

    def checks(self) -> list[tuple[str, Callable[[], Finding]]]:
        """Return the checks by name, in order."""
        checks: list[tuple[str, Callable[[], Finding]]] = [
            ("account: plan", self._plan),
            ("account: budgets", self._budgets),
            ("account: service-linked roles", self._service_linked_roles),
            ("account: load balancers", self._load_balancers),
            ("account: database class", self._database_class),
            ("account: cache node type", self._cache_node_type),
        ]
        return [(name, _skipping(check)) for name, check in checks]

    def _plan(self) -> Finding:
        """The account's plan allows the templates: the free plan limits databases and their backups."""
        freetier = Aws(replace(self.aws.target, region=PLAN_REGION), self.aws.poll).client("freetier")
        with _asking("read the account's plan"):
            try:
                plan = freetier.get_account_plan_state()
            except Exception as error:
                if error_code(error) == "ResourceNotFoundException":
                    return Verdict.OK, "the account is older than AWS's plans"
                raise
        if plan.get("accountPlanStatus") == "EXPIRED":
            return Verdict.FAIL, "the free plan has expired: upgrade to the paid plan in the Billing console"
        if plan.get("accountPlanType") != "FREE":
            return Verdict.OK, f"{plan.get('accountPlanType', '').lower()} plan"
        refused = []
        for database in self._properties("AWS::RDS::DBInstance"):
            if database.get("DBInstanceClass") not in FREE_PLAN_CLASSES:
                refused.append(f"the class {database.get('DBInstanceClass')}")
            if int(database.get("BackupRetentionPeriod", 1)) > FREE_PLAN_BACKUP_DAYS:
                refused.append(f"backups of {database['BackupRetentionPeriod']} days")
        if refused:
            return Verdict.FAIL, (
                f"free plan, on which RDS refuses {' and '.join(refused)}: "
                "upgrade to the paid plan in the Billing console"
            )
        ends = plan.get("accountPlanExpirationDate")
        return Verdict.WARN, f"free plan: AWS closes the account when it ends{f', {ends:%Y-%m-%d}' if ends else ''}"

    def _budgets(self) -> Finding:
        """The account can create a budget, which a new member of an organization cannot. A release continues without
        it.
        """
        if not self._properties("AWS::Budgets::Budget"):
            return Verdict.SKIP, "the templates have none"
        account = self.aws.account_id()
        with _asking("read the account's budgets"):
            try:
                self.aws.client("budgets").describe_budgets(AccountId=account, MaxResults=1)
            except Exception as error:
                if error_code(error) in ("AccessDeniedException", "AccessDenied"):
                    return Verdict.WARN, f"the release will not create a budget: {error}"
                raise
        return Verdict.OK, "allowed"

    def _service_linked_roles(self) -> Finding:
        """The service-linked roles exist before the first resource that needs them."""
        missing, asked = [], 0
        for name in sorted(SERVICE_LINKED_ROLES[kind] for kind in self._types_to_come() & set(SERVICE_LINKED_ROLES)):
            asked += 1
            with _asking(f"look for the service-linked role of {name}"):
                if not self.aws.client("iam").list_roles(PathPrefix=f"/aws-service-role/{name}/")["Roles"]:
                    missing.append(name)
        if missing:
            return Verdict.WARN, f"missing for {', '.join(missing)}; ./alva bootstrap creates them"
        return (Verdict.OK, f"{asked} roles") if asked else (Verdict.SKIP, "all exist")

    def _load_balancers(self) -> Finding:
        """The account's limits allow the load balancers, rules and target groups."""
        with _asking("read the account's limits on load balancers"):
            limits = {
                limit["Name"]: int(limit["Max"])
                for limit in pages(self.aws.elbv2, "describe_account_limits", "Limits")
                if limit.get("Name") in BALANCER_LIMITS
            }
        needed = {name: len(self._properties(BALANCER_LIMITS[name])) for name in limits}
        short = [f"{name}: {needed[name]} of {limits[name]}" for name in limits if needed[name] > limits[name]]
        if short:
            return Verdict.FAIL, f"{', '.join(short)}; request an increase: aws service-quotas list-service-quotas " + (
                "--service-code elasticloadbalancing"
            )
        return Verdict.OK, ", ".join(f"{name} {needed[name]} of {limits[name]}" for name in limits)

    def _database_class(self) -> Finding:
        """RDS offers the class, with this engine and storage, in the zones of the private subnets."""
        wrong, said = [], []
        for database in self._properties("AWS::RDS::DBInstance"):
            instance_class, engine = database["DBInstanceClass"], database["Engine"]
            version, storage = str(database["EngineVersion"]), database.get("StorageType", "gp2")
            with _asking(f"read which zones offer {instance_class}"):
                options = list(
                    pages(
                        self.aws.client("rds"),
                        "describe_orderable_db_instance_options",
                        "OrderableDBInstanceOptions",
                        Engine=engine,
                        DBInstanceClass=instance_class,
                        Vpc=True,
                    )
                )
            fitting = [
                option
                for option in options
                if option["EngineVersion"].split(".")[0] == version.split(".")[0] and option["StorageType"] == storage
            ]
            what = f"{instance_class} with {engine} {version} on {storage}"
            offered = {zone["Name"] for option in fitting for zone in option.get("AvailabilityZones", [])}
            if not fitting:
                wrong.append(f"{what} cannot be ordered in {self.manifest.region}")
            elif lacking := sorted(self._zones() - offered):
                wrong.append(f"{what} cannot be ordered in {', '.join(lacking)}, but in {', '.join(sorted(offered))}")
            said.append(what)
        return (Verdict.FAIL, "; ".join(wrong)) if wrong else (Verdict.OK, ", ".join(said))

    def _cache_node_type(self) -> Finding:
        """ElastiCache offers the node type in the region, by its reserved node offerings. No API has the zones."""
        wrong: list[str] = []
        said: list[str] = []
        for cache in self._properties("AWS::ElastiCache::ReplicationGroup"):
            node_type = cache["CacheNodeType"]
            with _asking(f"read whether ElastiCache offers {node_type}"):
                offers = self.aws.client("elasticache").describe_reserved_cache_nodes_offerings(CacheNodeType=node_type)
            (said if offers["ReservedCacheNodesOfferings"] else wrong).append(node_type)
        if wrong:
            return Verdict.FAIL, f"{', '.join(wrong)} cannot be ordered in {self.manifest.region}"
        return Verdict.OK, ", ".join(said)

    def _resources(self) -> Iterator[Mapping[str, Any]]:
        for stack in self.manifest.stacks:
            yield from stack.template().get("Resources", {}).values()

    def _properties(self, resource_type: str) -> list[Mapping[str, Any]]:
        return [each.get("Properties", {}) for each in self._resources() if each["Type"] == resource_type]

    def _types_to_come(self) -> set[str]:
        """Return the resource types of stacks that do not exist yet."""
        stacks = Stacks(self.aws)
        return {
            resource["Type"]
            for stack in self.manifest.stacks
            if stacks.observe(stack.name, with_template=False) is None
            for resource in stack.template().get("Resources", {}).values()
        }

    def _zones(self) -> set[str]:
        """Return the zones of the private subnets."""
        return {
            subnet["AvailabilityZone"]
            for subnet in self._properties("AWS::EC2::Subnet")
            if not subnet.get("MapPublicIpOnLaunch") and isinstance(subnet.get("AvailabilityZone"), str)
        }


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Like `explained`, but raises NotHere where the endpoint does not have the operation."""
    with explained(what):
        try:
            yield
        except Exception as error:
            code = error_code(error)
            # Where another server answers, botocore has only the HTTP status.
            if code.isdigit() or code in MISSING_CODES:
                raise NotHere(f"cannot {what}: this endpoint does not have the operation") from error
            raise


def _skipping(check: Callable[[], Finding]) -> Callable[[], Finding]:
    """Skip the check where the endpoint does not have the operation."""

    def checking() -> Finding:
        try:
            return check()
        except NotHere as error:
            return Verdict.SKIP, error.message

    return checking


def architectures(aws: Aws, manifest: Manifest, digests: Mapping[str, str | None]) -> Finding:
    """Each pushed image has the architecture of its task definition."""
    wrong, known = [], 0
    for name, digest in digests.items():
        service = manifest.service(name)
        if digest is None or not is_published(aws, service.repository, digest):
            continue
        found = image_architecture(aws, service.repository, digest)
        if found is None:
            continue
        known += 1
        if found != manifest.architecture:
            wrong.append(f"{name} is built for {found}, its task definition says {manifest.architecture}")
    if wrong:
        return Verdict.FAIL, "; ".join(wrong)
    return (
        (Verdict.OK, f"{known} images, {manifest.architecture}")
        if known
        else (Verdict.SKIP, "no image names its architecture")
    )


def image_architecture(aws: Aws, repository: str, digest: str) -> str | None:
    """Return the CPU architecture of an image's configuration, as a task definition names it; None if it has none."""
    configuration = (read_manifest(aws, repository, digest) or {}).get("config", {})
    if configuration.get("mediaType") not in CONFIGURATIONS:
        return None
    with open_blob(aws, repository, configuration["digest"]) as answer:
        named: str | None = json.loads(answer.read()).get("architecture")
    return CPU_ARCHITECTURES.get(named, named) if named is not None else None
