"""Counts and durations of requests in Prometheus' text format (version 0.0.4).

The process keeps one series per method, route template and status, so the number of routes bounds the memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class _Series:
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    seconds: float = 0.0


class RequestMetrics:
    """The counts of one process."""

    def __init__(self) -> None:
        self._series: defaultdict[tuple[str, str, int], _Series] = defaultdict(_Series)
        self.in_flight = 0

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one response."""
        series = self._series[method, route, status]
        series.buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        series.seconds += seconds

    def render(self) -> str:
        """Return all series as text."""
        lines = [
            "# HELP alva_requests_in_flight Requests that are being answered.",
            "# TYPE alva_requests_in_flight gauge",
            f"alva_requests_in_flight {self.in_flight}",
            "# HELP alva_request_duration_seconds How long requests took.",
            "# TYPE alva_request_duration_seconds histogram",
        ]
        for (method, route, status), series in sorted(self._series.items()):
            labels = f'method="{_escape(method)}",route="{_escape(route)}",status="{status}"'
            total = 0
            for bound, number in zip((*BUCKETS_SECONDS, "+Inf"), series.buckets, strict=True):
                total += number
                lines.append(f'alva_request_duration_seconds_bucket{{{labels},le="{bound}"}} {total}')
            lines.append(f"alva_request_duration_seconds_sum{{{labels}}} {series.seconds:.6f}")
            lines.append(f"alva_request_duration_seconds_count{{{labels}}} {total}")
        return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
