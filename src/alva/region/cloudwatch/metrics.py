"""CloudWatch's data points, and statistics over them. Times are seconds since 1970.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html
"""

from __future__ import annotations

import bisect
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from ministack.core.responses import AccountRegionScopedDict

Dimensions = tuple[tuple[str, str], ...]


class Metric(NamedTuple):
    """A metric's identity; metrics with other dimensions are other metrics."""

    namespace: str
    name: str
    dimensions: Dimensions
    """Names and values, sorted."""


class Part(NamedTuple):
    """A value that was seen `sample_count` times, or a published set of statistics."""

    sample_count: float
    total: float
    minimum: float
    maximum: float


class DataPoint(NamedTuple):
    """What one datum of PutMetricData publishes."""

    at: float
    unit: str
    parts: tuple[Part, ...]
    text: str
    """The point as JSON. It is encoded once, since all points are saved every few seconds."""


_at = attrgetter("at")


class Metrics:
    """The data points of all metrics, in every account and region."""

    def __init__(self) -> None:
        self._series = AccountRegionScopedDict()
        """Metric -> its data points in the order of their times."""

    def put(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        unit: str,
        values: Sequence[float],
        counts: Sequence[float] = (),
        *,
        at: float | None = None,
    ) -> None:
        """Publish the values of a metric, each with its count (1 by default); `at` is the present time by default."""
        self.add(metric(namespace, name, dimensions), unit, counted(values, counts), at=at)

    def add(self, to: Metric, unit: str, parts: Iterable[Part], *, at: float | None = None) -> None:
        """Add a data point to a metric, in the scope of the running request."""
        kept = [part for part in parts if part.sample_count > 0]
        if kept:
            point = _point(time.time() if at is None else at, unit, kept)
            bisect.insort(self._series.setdefault(to, []), point, key=_at)

    def known(self) -> list[Metric]:
        """The metrics that have data points, in the scope of the running request."""
        return list(self._series.keys())

    def points(self, of: Metric, unit: str | None = None) -> Sequence[DataPoint]:
        """The data points of a metric in the order of their times, only those of `unit` if it is given."""
        found: list[DataPoint] = self._series.get(of) or []
        return [point for point in found if point.unit == unit] if unit else found

    def delete_before(self, moment: float) -> None:
        """Delete the data points before this time, and the metrics that have none left; in every scope."""
        for (account, region, key), found in self._series.all_items():
            del found[: bisect.bisect_left(found, moment, key=_at)]
            if not found:
                self._series.pop_scoped(account, region, key)

    def state(self) -> list[Any]:
        """All data points as JSON, those of each metric in one text."""
        return [[*of, f"[{','.join([point.text for point in found])}]"] for of, found in self._series.all_items()]

    def restore(self, saved: Iterable[Any]) -> None:
        """Add the data points that `state` returned."""
        for account, region, (namespace, name, dimensions), found in saved:
            of = metric(namespace, name, dict(dimensions))
            self._series.set_scoped(account, region, of, [_point(*point) for point in json.loads(found)])

    def reset(self) -> None:
        """Delete all data points."""
        self._series.clear()


def counted(values: Sequence[float], counts: Sequence[float] = ()) -> list[Part]:
    """Values, each with its count (1 by default). Raises ValueError when their numbers differ."""
    pairs = zip(values, counts or [1.0] * len(values), strict=True)
    return [Part(count, value * count, value, value) for value, count in pairs]


def metric(namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
    """The metric of this name with exactly these dimensions."""
    return Metric(namespace, name, tuple(sorted(dimensions.items())))


def between(points: Sequence[DataPoint], start: float, end: float) -> Sequence[DataPoint]:
    """The points after `start` and until `end`."""
    return points[bisect.bisect_right(points, start, key=_at) : bisect.bisect_right(points, end, key=_at)]


def statistic(points: Iterable[DataPoint], name: str) -> float | None:
    """A statistic over data points: `Sum` or `p99.9`, for example. None if the points do not have it.

    Raises ValueError for one that is not supported.
    """
    parts = [part for point in points for part in point.parts]
    is_percentile = name[:1] in ("p", "P") and name[1:].replace(".", "", 1).isdigit()
    if not is_percentile and name not in _STATISTICS:
        raise ValueError(f"cannot calculate the statistic {name!r}")
    if not parts:
        return None
    return _percentile(parts, float(name[1:])) if is_percentile else _STATISTICS[name](parts)


def _count(parts: Sequence[Part]) -> float:
    return sum(part.sample_count for part in parts)


def _sum(parts: Sequence[Part]) -> float:
    return sum(part.total for part in parts)


_STATISTICS: Mapping[str, Callable[[Sequence[Part]], float]] = {
    "SampleCount": _count,
    "Sum": _sum,
    "Average": lambda parts: _sum(parts) / _count(parts),
    "Minimum": lambda parts: min(part.minimum for part in parts),
    "Maximum": lambda parts: max(part.maximum for part in parts),
}


def _percentile(parts: Sequence[Part], percent: float) -> float | None:
    """The value at a rank, interpolated between its neighbours. Negative values have none, nor have sets of statistics
    of different values: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
    """
    if any(not 0 <= part.minimum == part.maximum or part.total != part.minimum * part.sample_count for part in parts):
        return None
    ordered = sorted(parts, key=attrgetter("minimum"))
    rank = max(0.0, percent / 100 * (_count(ordered) - 1))

    def at(index: int) -> float:
        seen = 0.0
        for part in ordered:
            seen += part.sample_count
            if index < seen:
                return part.minimum
        return ordered[-1].minimum

    lower = at(int(rank))
    return lower + rank % 1 * (at(int(rank) + 1) - lower)


def _point(at: float, unit: str, parts: Sequence[Iterable[float]]) -> DataPoint:
    kept = tuple(Part(*map(float, part)) for part in parts)
    return DataPoint(at, unit, kept, json.dumps([at, unit, kept]))
