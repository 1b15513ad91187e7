"""Checks inside the network: the database, the queue, and each service's dependencies.

A load balancer's health check must not test dependencies: docs/decisions/load-balancer-fails-open.md. So a release, a
restart, a rotation and `./alva verify` run a command in a one-off task with a service's image; the service's entry
names it (`deep_check_command`). It signs in to the database and the cache with the stored secrets, and requests each
service's health path with `?deep=1`. Without such an entry, these checks are skipped.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from alva.aws import Aws, explained
from alva.errors import AlvaError
from alva.release import oneoff, rollout
from alva.release.manifest import Manifest, Service
from alva.release.verify import Result, Verdict, Verification

PROBE_SECONDS = 180

PATIENCE_SECONDS = 20
"""How long to retry: names are cached for 10 s (Cloud Map's records), and a worker needs time to connect."""

TARGET_GROUPS_AT_ONCE = 20
"""The maximum of DescribeTargetGroups.
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetGroups.html
"""

_NO_PROGRAM = re.compile(
    r"executable file not found|no such file or directory|No module named|Cannot find module", re.IGNORECASE
)
"""How a container runtime, Python or Node reports that an image lacks the program: an image older than the check."""

_WRONG_PASSWORD = re.compile(r"password authentication failed|WRONGPASS|invalid username-password pair")


@dataclass(frozen=True)
class DependencyChecks:
    """The checks that run inside the network of one environment."""

    aws: Aws
    manifest: Manifest
    given_up: threading.Event = field(default_factory=threading.Event)
    """When set, the task is stopped."""

    def run(
        self,
        customer: str | None = None,
        services: Sequence[Service] | None = None,
        *,
        patience_seconds: float = 0.0,
    ) -> list[Result]:
        """Check the database, the queue and the `services` (None: all) from a one-off task.

        `customer` is the address of a customer whom the task deletes. Failed checks are retried for `patience_seconds`
        by the same task: on Fargate, starting another one takes longer than a dependency needs.
        """
        started = time.monotonic()
        lines: list[str] = []
        service = self.manifest.deep_checked
        if service is None or service.deep_check_command is None:
            return [Result(name="inside", verdict=Verdict.SKIP, reason="no service entry has a deep_check_command")]
        try:
            task_definition, subnets, security_groups = oneoff.network_of_service(
                self.aws, self.manifest.cluster, service.service
            )
            asked = self.as_deployed(self.manifest.services if services is None else services)
            ended = oneoff.run(
                self.aws,
                oneoff.OneOff(
                    cluster=self.manifest.cluster,
                    task_definition=task_definition,
                    container=service.name,
                    subnets=subnets,
                    security_groups=security_groups,
                    command=self.command(service.deep_check_command, customer, asked, patience_seconds),
                    idle_commands=service.idle_commands,
                    started_by="alva-verify",
                    timeout_seconds=PROBE_SECONDS + patience_seconds,
                ),
                output=lines.append,
                state=lambda _: None,
                given_up=self.given_up,
            )
        except AlvaError as error:
            reason = "; ".join((error.message, *error.evidence))
            return [Result(name="inside", verdict=Verdict.FAIL, reason=reason, seconds=time.monotonic() - started)]
        results = list(read_results(lines, seconds=time.monotonic() - started))
        if not ended.succeeded or not results:
            reason = "; ".join((*ended.reasons, ended.stopped_reason, *lines[-3:]))
            lacks_it = not results and _NO_PROGRAM.search(reason)
            results.append(
                Result(
                    name="inside", verdict=Verdict.SKIP, reason=f"the image does not contain its deep check: {reason}"
                )
                if lacks_it
                else Result(name="inside", verdict=Verdict.FAIL, reason=reason)
            )
        return results

    def as_deployed(self, services: Sequence[Service]) -> list[Service]:
        """Return the services with the deployed container port and health path, where a load balancer has them.

        The manifest belongs to the last synthesis, which may never have been released. Raises AlvaError.
        """
        if not services:
            return []
        found = rollout.describe_services(self.aws, self.manifest)
        balancers = {name: each["loadBalancers"][0] for name, each in found.items() if each.get("loadBalancers")}
        arns = sorted({each["targetGroupArn"] for each in balancers.values()})
        paths: dict[str, str] = {}
        with explained("read the services' target groups"):
            for start in range(0, len(arns), TARGET_GROUPS_AT_ONCE):
                asked = arns[start : start + TARGET_GROUPS_AT_ONCE]
                answer = self.aws.elbv2.describe_target_groups(TargetGroupArns=asked)
                paths |= {group["TargetGroupArn"]: group.get("HealthCheckPath", "") for group in answer["TargetGroups"]}
        return [
            replace(
                service,
                port=balancer["containerPort"],
                health_path=paths.get(balancer["targetGroupArn"]) or service.health_path,
            )
            if (balancer := balancers.get(service.service)) is not None
            else service
            for service in services
        ]

    def command(
        self,
        deep_check: tuple[str, ...],
        customer: str | None,
        services: Sequence[Service],
        patience_seconds: float,
    ) -> tuple[str, ...]:
        """Return the image's command with its argument: each service's port and path, and the customer to delete."""
        asked = {
            "address": f"http://{{}}.{self.manifest.namespace}",
            "services": {s.name: f":{s.port}{s.health_path}?deep=1" for s in services if s.port is not None},
            "customer": customer,
            "patience": patience_seconds,
        }
        return (*deep_check, json.dumps(asked))


def verify_with_dependencies(
    aws: Aws, manifest: Manifest, digests: Mapping[str, str] | None, patience_seconds: float
) -> list[Result]:
    """Run the checks of the public endpoint until they pass, and the dependency checks in parallel.

    If the public endpoint fails, the task of the dependency checks is stopped.
    """
    checks = DependencyChecks(aws, manifest)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="dependencies") as pool:
        asking = pool.submit(checks.run, patience_seconds=max(patience_seconds, PATIENCE_SECONDS))
        try:
            results = Verification(aws, manifest, digests).run_until_good(patience_seconds)
            if failures(results):
                checks.given_up.set()
                return results
            return [*results, *asking.result()]
        except BaseException:
            checks.given_up.set()
            raise


def failures(results: Sequence[Result]) -> list[str]:
    """Return the name and reason of each failed check."""
    return [f"{result.name}: {result.reason}" for result in results if result.verdict is Verdict.FAIL]


def next_step_of(manifest: Manifest, failed: Sequence[str]) -> str | None:
    """Return the next step for the failure, if known: a rotation where an engine refuses the password."""
    if not any(_WRONG_PASSWORD.search(each) for each in failed):
        return None
    generated = manifest.generated_secret
    if generated is None:
        return None
    return (
        f"./alva secrets rotate {generated.short_name} sets one new password for the database, the cache and the tasks"
    )


def read_results(lines: Sequence[str], *, seconds: float) -> list[Result]:
    """Parse the command's results in a task's output."""
    found = []
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and "alva_check" in said:
            found.append(
                Result(
                    name=f"inside: {said['alva_check']}",
                    verdict=Verdict(said["verdict"]),
                    reason=" ".join(str(said["reason"]).split()),
                    seconds=seconds,
                )
            )
    return found
