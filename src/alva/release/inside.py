"""What only shows from inside the network: each service's dependencies, the database and the queue.

A load balancer's health check must not ask dependencies: docs/decisions/load-balancer-fails-open.md. So a release, a
restart, a rotation and `./alva verify` start one task of the api's task definition that asks: it signs in to the
database and the cache with what a new task reads now, and asks each service's health path with `?deep=1`. A service
that answers with its dependencies' states (`{"checks": {name: "ok"}}`) is judged by them, any other by its status.
"""

from __future__ import annotations

import inspect
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alva.aws import Aws
from alva.errors import AlvaError, TimedOut
from alva.release import inside_probe, oneoff
from alva.release.manifest import Manifest, Service
from alva.release.verify import Result, Verdict, Verification

PROBE_SECONDS = 180

PATIENCE_SECONDS = 30
"""How long a dependency may take: a new task's name has to be known, a worker has to connect."""

_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
"""How a container runtime says that an image lacks the program that it is to run (runc; containerd, Docker)."""

_WRONG_PASSWORD = re.compile(r"password authentication failed|WRONGPASS|invalid username-password pair")


@dataclass(frozen=True)
class Inside:
    """The checks from inside of one environment."""

    aws: Aws
    manifest: Manifest

    def run(self, customer: str | None = None, services: Sequence[Service] | None = None) -> list[Result]:
        """Ask the database, the queue and the `services` (None: all of them) from a one-off task.

        `customer` is the address of somebody who is forgotten there.
        """
        started = time.monotonic()
        lines: list[str] = []
        service = self.manifest.service(self.manifest.migration.service)
        try:
            task_definition, subnets, security_groups = oneoff.network_of_service(
                self.aws, self.manifest.cluster, service.service
            )
            ended = oneoff.run(
                self.aws,
                oneoff.OneOff(
                    cluster=self.manifest.cluster,
                    task_definition=task_definition,
                    container=service.name,
                    subnets=subnets,
                    security_groups=security_groups,
                    command=("python", "-c", inspect.getsource(inside_probe), self._asked(customer, services)),
                    started_by="alva-verify",
                    timeout_seconds=PROBE_SECONDS,
                ),
                output=lines.append,
                state=lambda _: None,
            )
        except AlvaError as error:
            reason = "; ".join((error.message, *error.evidence))
            return [Result(name="inside", verdict=Verdict.FAIL, reason=reason, seconds=time.monotonic() - started)]
        results = list(read_results(lines, seconds=time.monotonic() - started))
        if not ended.succeeded or not results:
            reason = "; ".join((*ended.reasons, ended.stopped_reason, *lines[-3:]))
            is_able = ended.exit_code is not None or not _NO_PROGRAM.search(reason)
            results.append(
                Result(name="inside", verdict=Verdict.FAIL, reason=reason)
                if is_able
                else Result(name="inside", verdict=Verdict.SKIP, reason=f"the api's image has no Python: {reason}")
            )
        return results

    def run_until_good(
        self, patience_seconds: float = PATIENCE_SECONDS, services: Sequence[Service] | None = None
    ) -> list[Result]:
        """Ask until nothing fails, or for `patience_seconds`; the last results."""
        results: list[Result] = []

        def good() -> list[Result] | None:
            nonlocal results
            results = self.run(services=services)
            return None if failures(results) else results

        try:
            return self.aws.poll.until(good, timeout_seconds=patience_seconds, what="what services need to answer")
        except TimedOut:
            return results

    def _asked(self, customer: str | None, services: Sequence[Service] | None) -> str:
        """What the probe is asked: each service where its siblings find it, and whom to forget."""
        asked = {
            s.name: f"http://{s.name}.{self.manifest.namespace}:{s.port}{s.health_path}?deep=1"
            for s in (self.manifest.services if services is None else services)
            if s.port is not None
        }
        return json.dumps({"services": asked, "customer": customer})


def verify_outside_and_inside(
    aws: Aws, manifest: Manifest, digests: Mapping[str, str] | None, patience_seconds: float
) -> list[Result]:
    """The checks from outside until they are good, then those from inside; the last results of both.

    While users do not get through there is nothing to learn from inside.
    """
    results = Verification(aws, manifest, digests).run_until_good(patience_seconds)
    if failures(results):
        return results
    return [*results, *Inside(aws, manifest).run_until_good(max(patience_seconds, PATIENCE_SECONDS))]


def failures(results: Sequence[Result]) -> list[str]:
    """Name and reason of each check that failed."""
    return [f"{result.name}: {result.reason}" for result in results if result.verdict is Verdict.FAIL]


def cure_of(manifest: Manifest, failed: Sequence[str]) -> str | None:
    """The command that heals what failed, where that is known: a password that the engines do not take."""
    if not any(_WRONG_PASSWORD.search(each) for each in failed):
        return None
    generated = next((secret for secret in manifest.secrets if secret.kind == "generated"), None)
    if generated is None:
        return None
    name = generated.name.removeprefix(f"{manifest.prefix}-")
    return f"./alva secrets rotate {name} gives the database, the cache and the tasks one new password"


def read_results(lines: Sequence[str], *, seconds: float) -> list[Result]:
    """The probe's results among a task's output."""
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
