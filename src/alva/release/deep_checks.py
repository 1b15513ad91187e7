"""Checks beyond those of a release: a customer's journey, logs, alarms and open ports.

The journey creates a customer, which the task of the dependency checks deletes again. So they run on request only
(`./alva verify --deep`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alva.aws import Aws, explained, pages
from alva.errors import TimedOut
from alva.release.alarms import alarms_are_quiet
from alva.release.dependency_checks import DependencyChecks
from alva.release.exposure import public_rules
from alva.release.manifest import Manifest, Service
from alva.release.public_endpoint import PublicEndpoint
from alva.release.verify import Finding, Result, Verdict, run_check

LOG_SECONDS = 30
JOURNEY_SECONDS = 300

_PROMETHEUS = re.compile(r"^(# (TYPE|HELP) |[a-zA-Z_:][\w:]*(\{[^}\n]*\})? -?[\d.])", re.MULTILINE)
"""A line of Prometheus' text format; any other content at /metrics is a page of the image."""


@dataclass(frozen=True, kw_only=True)
class DeepChecks:
    """The deep checks of one environment. `inbox_url` is where mails can be read, if anywhere.

    `root` is the repository's root, the working directory of the journey.
    """

    aws: Aws
    manifest: Manifest
    root: Path
    inbox_url: str | None = None

    def run(self) -> list[Result]:
        """Run every check and return the results in order. The checks of the public endpoint run in parallel."""
        endpoint = PublicEndpoint.of(self.aws, self.manifest)
        customer = f"verify-{uuid.uuid4().hex[:12]}@example.com"
        runs_journey = self.manifest.journey_command is not None and self.inbox_url is not None
        checks: list[tuple[str, Callable[[], Finding]]] = [
            ("metrics and deep health are private", lambda: self._private_pages(endpoint)),
            ("only the load balancer is public", self._only_load_balancer_is_public),
            *((f"{s.name} writes its log", self._log_check(endpoint, s)) for s in self.manifest.services if s.port),
            ("customer's journey", lambda: self._journey(endpoint, customer)),
            ("alarms are quiet", lambda: alarms_are_quiet(self.aws, self.manifest)),
        ]
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="deep") as pool:
            seen = list(pool.map(run_check, checks))
        return [*DependencyChecks(self.aws, self.manifest).run(customer if runs_journey else None), *seen]

    def _private_pages(self, endpoint: PublicEndpoint) -> Finding:
        """The load balancer must not serve metrics or the results of the deep health check."""
        metrics = endpoint.fetch(f"{endpoint.url}/metrics")
        if metrics.status == 200 and _PROMETHEUS.search(metrics.body):
            return Verdict.FAIL, "/metrics is public"
        health = endpoint.fetch(f"{endpoint.url}/health?deep=1")
        if '"checks"' in health.body:
            return Verdict.FAIL, "the result of /health?deep=1 is public"
        return Verdict.OK, f"/metrics answers {metrics.status}, and /health has no results"

    def _only_load_balancer_is_public(self) -> Finding:
        """Only the load balancer's deployed security groups admit the internet."""
        count, ways = public_rules(self.aws, self.manifest)
        if ways:
            return Verdict.FAIL, "; ".join(ways)
        return Verdict.OK, f"{count} security groups, only the load balancer's admits the internet"

    def _log_check(self, endpoint: PublicEndpoint, service: Service) -> Callable[[], Finding]:
        """A request with a random path appears in the service's log group."""

        def check() -> Finding:
            marker = f"verify-{uuid.uuid4().hex[:12]}"
            prefix = service.paths[0].removesuffix("*").rstrip("/") if service.paths else ""
            since = datetime.now(UTC) - timedelta(minutes=1)
            started = time.monotonic()
            endpoint.fetch(f"{endpoint.base(service)}{prefix}/{marker}")

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

            try:
                self.aws.poll.until(arrived, timeout_seconds=LOG_SECONDS, what=f"a log line of {service.name}")
            except TimedOut:
                # An image may log no requests, or no paths.
                return Verdict.WARN, f"{service.log_group} has no line with the request's path after {LOG_SECONDS} s"
            return Verdict.OK, f"the request is in {service.log_group} after {time.monotonic() - started:.1f} s"

        return check

    def _journey(self, endpoint: PublicEndpoint, customer: str) -> Finding:
        """The product's own command acts as a new customer (`journey_command` in a service's entry)."""
        command = self.manifest.journey_command
        if command is None:
            return Verdict.SKIP, "no service entry has a journey_command"
        if self.inbox_url is None:
            return Verdict.SKIP, (
                "no inbox can be read here, so sign-up and the keys of outside services were not tried:"
                " sign up once in a browser"
            )
        program, *arguments = command
        try:
            ended = subprocess.run(
                [sys.executable if program == "python" else program, *arguments],
                cwd=self.root,
                env={**os.environ, **self._variables(endpoint, customer)},
                capture_output=True,
                text=True,
                timeout=JOURNEY_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            return Verdict.FAIL, f"cannot run {program}: the program does not exist"
        except subprocess.TimeoutExpired:
            return Verdict.FAIL, f"{' '.join(command)} was still running after {JOURNEY_SECONDS} s and was stopped"
        lines = [line for line in (*ended.stdout.splitlines(), *ended.stderr.splitlines()) if line.strip()]
        if ended.returncode:
            return Verdict.FAIL, "; ".join(lines[-3:]) or f"{' '.join(command)} ended with {ended.returncode}"
        return Verdict.OK, lines[-1] if lines else "ended with 0"

    def _variables(self, endpoint: PublicEndpoint, customer: str) -> dict[str, str]:
        """Return the command's environment variables: the product's URLs and the customer's address."""
        return {
            "BASE_URL": endpoint.url,
            "LOAD_BALANCER": endpoint.address,
            "INBOX_URL": self.inbox_url or "",
            "CUSTOMER_EMAIL": customer,
            **({"CA_BUNDLE": str(endpoint.ca_bundle)} if endpoint.ca_bundle else {}),
            **{
                f"{service.name.upper().replace('-', '_')}_URL": endpoint.base(service)
                for service in self.manifest.services
                if service.port is not None
            },
        }
