"""What only shows from inside the network: each service's dependencies, the database and the queue.

A load balancer's health check must not ask dependencies: docs/decisions/load-balancer-fails-open.md. So a release, a
restart, a rotation and `./alva verify` start one task of the api's task definition that asks: it signs in to the
database and the cache with what a new task reads now, and asks each service's health path with `?deep=1`. A service
that answers with its dependencies' states (`{"checks": {name: "ok"}}`) is judged by them, any other by its status.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from alva.aws import Aws
from alva.errors import AlvaError
from alva.release import inside_probe, oneoff
from alva.release.manifest import Manifest, Service
from alva.release.verify import Result, Verdict, Verification

PROBE_SECONDS = 180

PATIENCE_SECONDS = 20
"""How long a dependency may take: names are cached for 10 s (Cloud Map's records), and a worker has to connect."""

_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
"""How a container runtime says that an image lacks the program that it is to run (runc; containerd, Docker)."""

_WRONG_PASSWORD = re.compile(r"password authentication failed|WRONGPASS|invalid username-password pair")


@dataclass(frozen=True)
class Inside:
    """The checks from inside of one environment."""

    aws: Aws
    manifest: Manifest
    given_up: threading.Event = field(default_factory=threading.Event)
    """Stops the task: nobody waits for its answer any more."""

    def run(
        self,
        customer: str | None = None,
        services: Sequence[Service] | None = None,
        *,
        patience_seconds: float = 0.0,
    ) -> list[Result]:
        """Ask the database, the queue and the `services` (None: all of them) from a one-off task.

        `customer` is the address of somebody who is forgotten there. What fails is asked again for `patience_seconds`,
        by the same task: on Fargate another one takes longer to start than a dependency may take.
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
                    command=self.command(customer, services, patience_seconds),
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
            is_able = ended.exit_code is not None or not _NO_PROGRAM.search(reason)
            results.append(
                Result(name="inside", verdict=Verdict.FAIL, reason=reason)
                if is_able
                else Result(name="inside", verdict=Verdict.SKIP, reason=f"the api's image has no Python: {reason}")
            )
        return results

    def command(
        self, customer: str | None, services: Sequence[Service] | None, patience_seconds: float
    ) -> tuple[str, ...]:
        """The probe, with each service's port and path where its siblings find it, and whom to forget."""
        asked = {
            "address": f"http://{{}}.{self.manifest.namespace}",
            "services": {
                s.name: f":{s.port}{s.health_path}?deep=1"
                for s in (self.manifest.services if services is None else services)
                if s.port is not None
            },
            "customer": customer,
            "patience": patience_seconds,
        }
        return ("python", "-c", program(), json.dumps(asked))


@functools.cache
def program() -> str:
    """The probe's source without its docstrings."""
    tree = ast.parse(inspect.getsource(inside_probe))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.unparse(tree)


def verify_outside_and_inside(
    aws: Aws, manifest: Manifest, digests: Mapping[str, str] | None, patience_seconds: float
) -> list[Result]:
    """The checks from outside until they are good, side by side with those from inside; the results of both.

    Where users do not get through there is nothing to learn from inside: that task is stopped.
    """
    inside = Inside(aws, manifest)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="inside") as pool:
        asking = pool.submit(inside.run, patience_seconds=max(patience_seconds, PATIENCE_SECONDS))
        try:
            results = Verification(aws, manifest, digests).run_until_good(patience_seconds)
            if failures(results):
                inside.given_up.set()
                return results
            return [*results, *asking.result()]
        except BaseException:
            inside.given_up.set()
            raise


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
