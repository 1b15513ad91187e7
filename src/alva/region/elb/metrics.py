"""CloudWatch metrics of the load balancers, from Envoy's access log and the targets' health.

The names, dimensions and reporting criteria are those of
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
An ALB publishes once a minute. The region publishes every few seconds, so that alarms change their state sooner.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from alva.region.cloudwatch.metrics import Metrics

NAMESPACE = "AWS/ApplicationELB"
PUBLISH_SECONDS = 10.0
HOST_COUNT_SECONDS = 30.0

LARGEST_LOG_BYTES = 8 * 2**20
"""Less than `retention.LOG_FILE_BYTES`, so that the log is emptied when all of it has been read."""

Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request in the access log."""

    load_balancer: str
    """Full name, `app/<name>/<id>`."""
    target_group: str | None
    """Full name, if a target was chosen."""
    status_code: int
    is_from_target: bool
    flags: frozenset[str]
    seconds_to_response: float | None


@dataclass
class Series:
    """The values of one metric with one set of dimensions, each with its count."""

    unit: str
    values: Counter[float] = field(default_factory=Counter)


def read_request(line: str) -> Request | None:
    """A line of the access log (envoy_listeners.ACCESS_LOG_FIELDS); None for an incomplete line."""
    parts = line.split("\t")
    if len(parts) < 10:
        return None
    _, load_balancer, cluster, host, status_code, details, flags, _, response_ms, *_ = parts
    return Request(
        load_balancer=load_balancer,
        target_group=cluster if host != "-" else None,
        status_code=int(status_code),
        is_from_target=details == "via_upstream",
        flags=frozenset() if flags == "-" else frozenset(flags.split(",")),
        seconds_to_response=int(response_ms) / 1000 if response_ms.isdigit() else None,
    )


def request_metrics(requests: Iterable[Request]) -> dict[tuple[str, Dimensions], Series]:
    """The metrics that count requests, by name and dimensions. Counts of 0 are not reported."""
    result: dict[tuple[str, Dimensions], Series] = {}

    def add(name: str, dimensions: Dimensions, value: float = 1.0, unit: str = "Count") -> None:
        result.setdefault((name, dimensions), Series(unit)).values[value] += 1

    for request in requests:
        balancer: Dimensions = (("LoadBalancer", request.load_balancer),)
        both = balancer if request.target_group is None else (*balancer, ("TargetGroup", request.target_group))
        hundreds = f"{request.status_code // 100}XX"
        if request.target_group is not None:
            for dimensions in (balancer, both):
                add("RequestCount", dimensions)
                if "UF" in request.flags:
                    add("TargetConnectionErrorCount", dimensions)
        if request.is_from_target:
            for dimensions in (balancer, both):
                add(f"HTTPCode_Target_{hundreds}_Count", dimensions)
                if request.seconds_to_response is not None:
                    add("TargetResponseTime", dimensions, _rounded(request.seconds_to_response), "Seconds")
        elif request.status_code >= 300:
            add(f"HTTPCode_ELB_{hundreds}_Count", balancer)
            if request.status_code in (500, 502, 503, 504):
                add(f"HTTPCode_ELB_{request.status_code}_Count", balancer)
    return result


def _rounded(seconds: float) -> float:
    """Rounded to two digits: this keeps few values and is exact enough for a percentile."""
    return float(f"{seconds:.2g}")


class AccessLog:
    """Reads Envoy's access log from the end of the last read, and empties it when it is large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def read(self) -> list[Request]:
        """The requests since the last call."""
        if not self._path.exists():
            return []
        if self._path.stat().st_size < self._offset:  # emptied by `retention.rotate_files`
            self._offset = 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole, newline, _ = text.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        if self._offset > LARGEST_LOG_BYTES:
            # Envoy appends, so it continues at the new end.
            with self._path.open("r+b") as file:
                file.truncate(0)
            self._offset = 0
        requests = (read_request(line) for line in whole.decode(errors="replace").splitlines())
        return [request for request in requests if request is not None]


class HostCounts(Protocol):
    """Returns the numbers of healthy and unhealthy targets, by the full names of load balancer and target group."""

    def __call__(self) -> Mapping[tuple[str, str], tuple[int, int]]: ...


class Publisher:
    """Publishes metrics to CloudWatch while `publish_and_wait` is called in a loop."""

    def __init__(
        self,
        metrics: Metrics,
        access_log: AccessLog,
        host_counts: HostCounts,
        changed: Callable[[], None],
        *,
        publish_seconds: float = PUBLISH_SECONDS,
        host_count_seconds: float = HOST_COUNT_SECONDS,
    ) -> None:
        """`changed` is called after each publication, for alarms and persistence."""
        self._metrics = metrics
        self._access_log = access_log
        self._host_counts = host_counts
        self._changed = changed
        self._publish_seconds = publish_seconds
        self._host_count_seconds = host_count_seconds
        self._published_counts: Mapping[tuple[str, str], tuple[int, int]] = {}
        self._counts_published_at = float("-inf")

    async def publish_and_wait(self) -> None:
        """Publish, and wait until the next points are due."""
        self.publish()
        await asyncio.sleep(self._publish_seconds)

    def publish(self) -> None:
        """Publish the requests since the last call, and the targets' health."""
        series = request_metrics(self._access_log.read())
        for (name, dimensions), one in series.items():
            values, counts = zip(*one.values.items(), strict=True)
            self._metrics.put(NAMESPACE, name, dict(dimensions), one.unit, values, [float(count) for count in counts])
        counts_now = self._host_counts()
        is_due = time.monotonic() - self._counts_published_at >= self._host_count_seconds
        if is_due or counts_now != self._published_counts:
            self._published_counts, self._counts_published_at = dict(counts_now), time.monotonic()
            for (load_balancer, target_group), (healthy, unhealthy) in counts_now.items():
                names = {"LoadBalancer": load_balancer, "TargetGroup": target_group}
                self._metrics.put(NAMESPACE, "HealthyHostCount", names, "Count", [float(healthy)])
                self._metrics.put(NAMESPACE, "UnHealthyHostCount", names, "Count", [float(unhealthy)])
            self._changed()
        elif series:
            self._changed()
