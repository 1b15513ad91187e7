"""The checks that look deeper than a release does: from inside a task, through a customer's eyes, into logs and alarms.

They start a task and make a customer, whom the task then forgets, so they run when asked for (`./alva verify --deep`).
"""

from __future__ import annotations

import inspect
import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from alva.aws import Aws, explained, pages
from alva.errors import AlvaError
from alva.release import inside_probe, oneoff
from alva.release.exposure import open_ways
from alva.release.journey import Journey
from alva.release.manifest import Manifest, Service
from alva.release.outside import Outside
from alva.release.preflight import alarms_are_quiet
from alva.release.verify import Result, Verdict, run_check

PROBE_SECONDS = 180
LOG_SECONDS = 30

Said = tuple[Verdict, str]


@dataclass(frozen=True, kw_only=True)
class DeepChecks:
    """The deeper checks of one environment. `inbox_url` is where mails can be read, if they can."""

    aws: Aws
    manifest: Manifest
    inbox_url: str | None = None

    def run(self) -> list[Result]:
        """Run every check, those from outside side by side, and return their results in order."""
        outside = Outside.of(self.aws, self.manifest)
        journey = self._journey(outside)
        checks: list[tuple[str, Callable[[], Said]]] = [
            ("inner pages stay inside", lambda: self._inner_pages(outside)),
            ("nothing else is open", self._nothing_else_is_open),
            *((f"{s.name} writes its log", self._log_check(outside, s)) for s in self.manifest.services),
            ("sign-up to plan", lambda: _walk(journey)),
            ("alarms are quiet", lambda: alarms_are_quiet(self.aws, self.manifest)),
        ]
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="deep") as pool:
            seen = list(pool.map(run_check, checks))
        return [*self._inside(journey.address if journey is not None else None), *seen]

    def _inside(self, customer: str | None) -> list[Result]:
        """The checks of `inside_probe`, as a one-off task with the api's image, environment and network."""
        started = time.monotonic()
        service = self.manifest.service(self.manifest.migration.service)
        lines: list[str] = []
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
                    command=("python", "-c", inspect.getsource(inside_probe), self._asked(customer)),
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
            results.append(Result(name="inside", verdict=Verdict.FAIL, reason=reason))
        return results

    def _asked(self, customer: str | None) -> str:
        """What the probe is asked: each service where its siblings find it, and whom to forget."""
        services = {
            s.name: f"http://{s.name}.{self.manifest.namespace}:{s.port}{s.health_path}?deep=1"
            for s in self.manifest.services
        }
        return json.dumps({"services": services, "customer": customer})

    def _inner_pages(self, outside: Outside) -> Said:
        """What is for the inside must not be told outside: metrics, and what the deep health check finds."""
        metrics = outside.fetch(f"{outside.url}/metrics")
        if metrics.status == 200:
            return Verdict.FAIL, "/metrics answers everybody"
        health = outside.fetch(f"{outside.url}/health?deep=1")
        if '"checks"' in health.body:
            return Verdict.FAIL, "/health?deep=1 tells everybody what it found"
        return Verdict.OK, f"/metrics answers {metrics.status}, /health tells nothing"

    def _nothing_else_is_open(self) -> Said:
        """No security group but the load balancer's lets the internet in, as they are now."""
        count, ways = open_ways(self.aws, self.manifest)
        if ways:
            return Verdict.FAIL, "; ".join(ways)
        return Verdict.OK, f"{count} security groups, the load balancer's alone lets the internet in"

    def _log_check(self, outside: Outside, service: Service) -> Callable[[], Said]:
        """A request with a word of its own turns up in the service's log group."""

        def look() -> Said:
            marker = f"verify-{uuid.uuid4().hex[:12]}"
            prefix = service.paths[0].removesuffix("*").rstrip("/") if service.paths else ""
            since = datetime.now(UTC) - timedelta(minutes=1)
            started = time.monotonic()
            outside.fetch(f"{outside.base(service)}{prefix}/{marker}")

            def arrived() -> bool | None:
                with explained(f"read the log of {service.name}"):
                    events = pages(
                        self.aws.logs,
                        "filter_log_events",
                        "events",
                        logGroupName=service.log_group,
                        startTime=int(since.timestamp() * 1000),
                        filterPattern=f'"{marker}"',
                    )
                    return True if any(marker in event.get("message", "") for event in events) else None

            self.aws.poll.until(arrived, timeout_seconds=LOG_SECONDS, what=f"a log line of {service.name}")
            return Verdict.OK, f"a request is in {service.log_group} after {time.monotonic() - started:.1f} s"

        return look

    def _journey(self, outside: Outside) -> Journey | None:
        if self.inbox_url is None:
            return None
        api, auth = (outside.base(self.manifest.service(name)) for name in ("api", "auth"))
        return Journey(outside, api, auth, self.inbox_url)


def _walk(journey: Journey | None) -> Said:
    """A customer who did not exist before signs up by mail, describes a business and gets a plan."""
    if journey is None:
        return Verdict.SKIP, "no inbox can be read here: sign-in goes through a mail"
    return Verdict.OK, journey.run()


def read_results(lines: list[str], *, seconds: float) -> list[Result]:
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
                    reason=str(said["reason"]),
                    seconds=seconds,
                )
            )
    return found
