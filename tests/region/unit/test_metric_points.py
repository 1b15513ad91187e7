"""The region's own metrics in CloudWatch, and MiniStack's function that stores them."""

from __future__ import annotations

import inspect
import time

from ministack.services import cloudwatch

from alva.region import metric_points


def test_the_function_that_stores_a_datum_has_the_parameters_that_are_given() -> None:
    assert list(inspect.signature(cloudwatch._store_datum).parameters) == [
        "namespace",
        "name",
        "dims",
        "ts",
        "unit",
        "value",
        "values",
        "counts",
        "stat_values",
    ]


def test_points_are_stored_with_how_often_they_were_seen() -> None:
    metric_points.put("Test/Points", "a", {"x": "y"}, "Count", [1.0, 2.0], [1.0, 5.0])
    (series,) = [each for key, each in cloudwatch._metrics.items() if key[0] == "Test/Points"]
    assert [(point["Value"], point["Count"], point["Unit"]) for point in series] == [(1, 1, "Count"), (2, 5, "Count")]
    assert abs(series[0]["Timestamp"] - time.time()) < 60
