"""Named checks of a running environment through its public endpoint. Each result is OK, SKIP, WARN or FAIL, with a
reason.

ECS and the load balancer show which image serves: the digest of each running task, and the health of each task's
address. Requests through the load balancer show that its rules lead to the service. If an image names its digest in a
response header, another digest fails the check.
"""

from __future__ import annotations

import enum
import http.client
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from alva.aws import Aws, explained
from alva.errors import AlvaError, TimedOut, VerificationFailed
from alva.release import rollout, serving
from alva.release.manifest import Manifest, Service
from alva.release.public_endpoint import Answer, PublicEndpoint, find_addresses
from alva.release.secrets import Secrets, State
from alva.release.stack_state import running_digests
from alva.release.stacks import Stacks

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import ServiceTypeDef

DIGEST_HEADER = "x-alva-digest"
"""The response header in which an image can name its digest (`IMAGE_DIGEST` in its environment)."""

RELEASED_PATIENCE_SECONDS = 5
"""After a rollout, ECS has already found the tasks healthy: a check that keeps failing must roll back soon."""

FOUND_PATIENCE_SECONDS = 90
"""Without a rollout, tasks may still be starting: after a start of the region, or where ECS replaces a task."""


class Verdict(enum.Enum):
    """The result of a check."""

    OK = "OK"
    SKIP = "SKIP"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check with its verdict and reason."""

    name: str
    verdict: Verdict
    reason: str
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary."""
        return {
            "check": self.name,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
        }


Finding = tuple[Verdict, str]
"""A verdict and its reason."""

Check = Callable[[], Finding]


class Verification:
    """The checks of one environment. `digests` must serve; None means those of the services stack."""

    def __init__(self, aws: Aws, manifest: Manifest, digests: Mapping[str, str] | None = None) -> None:
        self._aws = aws
        self._manifest = manifest
        self._digests = digests

    def run(self) -> list[Result]:
        """Run all checks in parallel; return their results in order."""
        endpoint = PublicEndpoint.of(self._aws, self._manifest)
        stacks = Stacks(self._aws)
        digests = dict(self._digests or {})
        if not digests:
            for stack in self._manifest.stacks_of("services"):
                digests |= _running(self._manifest, stacks, stack.name)
        services = rollout.describe_services(self._aws, self._manifest)
        checks: list[tuple[str, Check]] = [("secrets are set", self._secrets)]
        for service in self._manifest.services:
            digest = digests.get(service.name)
            found = services.get(service.service)
            checks.append((f"{service.name} runs", self._runs(service, found, digest)))
            checks.append((f"{service.name} targets are healthy", self._targets(service, found)))
            if service.host is not None:
                checks.append(
                    (
                        f"{service.host} resolves to the load balancer",
                        self._resolves(endpoint, service.host),
                    )
                )
            checks += [
                (f"{service.name} answers {path}", self._answers(endpoint, service, path, digest))
                for path in probe_paths(service)
            ]
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="verify") as pool:
            return list(pool.map(run_check, checks))

    def run_until_good(self, patience_seconds: float) -> list[Result]:
        """Repeat the checks until none fails, for at most `patience_seconds`; return the last results."""
        results = self.run()

        def good() -> list[Result] | None:
            nonlocal results
            if any(result.verdict is Verdict.FAIL for result in results):
                results = self.run()
            return None if any(result.verdict is Verdict.FAIL for result in results) else results

        try:
            return self._aws.poll.until(good, timeout_seconds=patience_seconds, what="the checks to pass")
        except TimedOut:
            return results

    def _secrets(self) -> tuple[Verdict, str]:
        """Every secret that a container reads has a well-formed value."""
        wrong = [s for s in Secrets(self._aws, self._manifest).check() if s.state is not State.SET and s.secret.used_by]
        if wrong:
            return Verdict.FAIL, "; ".join(f"{s.secret.name}: {s.problem or s.state.value}" for s in wrong)
        return Verdict.OK, f"{len(self._manifest.secrets)} secrets"

    def _runs(self, service: Service, found: ServiceTypeDef | None, digest: str | None) -> Check:
        """All tasks run, their deployment succeeded, and each task runs the expected image."""

        def check() -> tuple[Verdict, str]:
            if found is None:
                return Verdict.FAIL, f"ECS has no service {service.service}"
            running, desired = found.get("runningCount", 0), found.get("desiredCount", 0)
            if running < desired:
                return Verdict.FAIL, serving.tasks_run(running, desired)
            runs = rollout.running_digest(self._aws, found["taskDefinition"], service.name)
            if digest is not None and runs != digest:
                return Verdict.FAIL, f"{runs} is deployed, {digest} should be"
            if runs is not None:
                tasks = serving.tasks_of(self._aws, self._manifest, service)
                if others := serving.other_images(tasks, service.name, runs):
                    return Verdict.FAIL, "; ".join(others)
            deployment = rollout.last_deployment(self._aws, self._manifest, service)
            said = f"{serving.tasks_run(running, desired)}, {(runs or 'no digest')[7:19]}"
            status = deployment["status"] if deployment is not None else "SUCCESSFUL"
            if status not in ("SUCCESSFUL", "ROLLBACK_SUCCESSFUL"):
                return Verdict.FAIL, f"its last deployment is {status}"
            # ECS rolled back to the expected digest.
            return Verdict.OK, said if status == "SUCCESSFUL" else f"{said}, after a rollback"

        return check

    def _targets(self, service: Service, found: ServiceTypeDef | None) -> Check:
        """The load balancer reports every task healthy: each answers the service's health path."""

        def check() -> tuple[Verdict, str]:
            groups = [b["targetGroupArn"] for b in (found or {}).get("loadBalancers", []) if "targetGroupArn" in b]
            if not groups:
                return Verdict.SKIP, "it is behind no load balancer"
            tasks = serving.tasks_of(self._aws, self._manifest, service)
            addresses = {serving.address_of(task) for task in tasks if task.get("lastStatus") == "RUNNING"}
            for group in groups:
                with explained("read target health"):
                    targets = self._aws.elbv2.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
                if problem := serving.problem_of_targets(targets, addresses):
                    return Verdict.FAIL, problem
            return Verdict.OK, f"{len(addresses)} healthy"

        return check

    def _answers(self, endpoint: PublicEndpoint, service: Service, path: str, digest: str | None) -> Check:
        """The load balancer forwards `/admin`, `/admin/` and `/admin/x` to the service, and its home page exists."""

        def check() -> tuple[Verdict, str]:
            answer = endpoint.fetch(endpoint.base(service) + path)
            return judge_answer(answer, digest, is_page=service.has_pages and is_home(path))

        return check

    @staticmethod
    def _resolves(endpoint: PublicEndpoint, host: str) -> Check:
        """The service's host name resolves to the load balancer, from this machine."""

        def check() -> tuple[Verdict, str]:
            try:
                found = find_addresses(host)
            except OSError as error:
                # A new record takes minutes to propagate. A zone without a delegation never resolves.
                return Verdict.WARN, f"the name does not resolve from here: {error.strerror or error}"
            ours = find_addresses(urlsplit(f"//{endpoint.address}").hostname or "")
            if found & ours:
                return Verdict.OK, ", ".join(sorted(found))
            return Verdict.WARN, f"it resolves to {', '.join(sorted(found))}, not to {', '.join(sorted(ours))}"

        return check


def probe_paths(service: Service) -> list[str]:
    """Return the paths to request: each pattern as it is, with a slash, and with a path below it.

    `/api` and `/api/*` are two patterns of one prefix: `/api`, `/api/` and `/api/x` must all reach the service. A
    service with its own host keeps its prefix.
    """
    if service.port is None:
        return []
    prefixes = dict.fromkeys(pattern.removesuffix("*").rstrip("/") for pattern in service.paths) or {"": None}
    paths = []
    for prefix in prefixes:
        paths += [f"{prefix}/"] if not prefix else [prefix, f"{prefix}/", f"{prefix}/x"]
    return paths


def is_home(path: str) -> bool:
    """Whether a path of `probe_paths` is a home page: a prefix, with or without a slash."""
    return not path.endswith("/x")


def judge_answer(answer: Answer, digest: str | None, *, is_page: bool = False) -> tuple[Verdict, str]:
    """Judge a response: its status must be usable, and it must not name the digest of another image.

    A page must exist or redirect (below 400). Any other path may refuse, but must not fail (below 500). The load
    balancer itself answers 403 where a service does not admit this address (`load_balancer.admin_allowed_cidrs`).
    """
    served_by = answer.headers.get(DIGEST_HEADER)
    is_refused_before = answer.status == http.HTTPStatus.FORBIDDEN and served_by is None
    if answer.status >= 500 or (is_page and answer.status >= 400 and not is_refused_before):
        return Verdict.FAIL, f"HTTP {answer.status}"
    if is_refused_before and is_page:
        return Verdict.SKIP, f"HTTP {answer.status}: this address is not admitted"
    if served_by is None:
        return Verdict.OK, f"HTTP {answer.status}"
    if digest is not None and served_by != digest:
        return Verdict.FAIL, f"HTTP {answer.status} from {served_by[7:19]}, not from {digest[7:19]}"
    return Verdict.OK, f"HTTP {answer.status} from {served_by[7:19]}"


def require(results: list[Result]) -> None:
    """Raise VerificationFailed with the failed checks, if there are any."""
    failed = [result for result in results if result.verdict is Verdict.FAIL]
    if failed:
        raise VerificationFailed(
            f"cannot verify: {len(failed)} of {len(results)} checks failed",
            evidence=[f"{result.name}: {result.reason}" for result in failed],
            next_step="./alva verify runs the checks again; ./alva logs shows the services' logs",
        )


def run_check(check: tuple[str, Check]) -> Result:
    """Run one check; an exception is a FAIL with its message."""
    name, function = check
    started = time.monotonic()
    try:
        verdict, reason = function()
    except AlvaError as error:
        verdict, reason = Verdict.FAIL, "; ".join((error.message, *error.evidence))
    except (OSError, http.client.HTTPException) as error:
        verdict, reason = Verdict.FAIL, f"no answer: {error or type(error).__name__}"
    return Result(name=name, verdict=verdict, reason=reason, seconds=time.monotonic() - started)


def _running(manifest: Manifest, stacks: Stacks, stack_name: str) -> dict[str, str]:
    return running_digests(manifest, stacks.observe(stack_name, with_template=False))
