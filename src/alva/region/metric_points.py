"""Publishes points of the region's metrics to CloudWatch; `retention.py` deletes old ones."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ministack.services import cloudwatch


def put(
    namespace: str,
    name: str,
    dimensions: Mapping[str, str],
    unit: str,
    values: Sequence[float],
    counts: Sequence[float] = (1.0,),
    *,
    at: float | None = None,
) -> None:
    """Publish the values of a metric, each with its count; `at` is seconds since 1970, the present time by default."""
    moment = time.time() if at is None else at
    cloudwatch._store_datum(namespace, name, dict(dimensions), moment, unit, None, list(values), list(counts), None)
