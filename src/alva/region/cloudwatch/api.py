"""CloudWatch's API over HTTP: the operations on metrics, and MiniStack's on alarms and dashboards.

MiniStack writes some members of its answers only in JSON, and reads some of a request only there, so requests of the
query protocol are translated to JSON. CBOR is refused.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/Welcome.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.model import ServiceModel
from botocore.utils import parse_to_aware_datetime
from ministack.services import cloudwatch

from alva.region import constraints, json_protocol, query_protocol
from alva.region.aws_error import AwsError
from alva.region.cloudwatch import metrics
from alva.region.cloudwatch.metric_math import value_of
from alva.region.cloudwatch.metrics import DataPoint, Metric, Metrics, Part

if TYPE_CHECKING:
    from alva.region.unexpected import Handler, Response

Json = dict[str, Any]
CODE = "ValidationError"
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CommonErrors.html"""


class CloudWatch:
    """The service, for `ServiceTable.replace`."""

    def __init__(self, stored: Metrics) -> None:
        self._stored = stored
        self._theirs: Handler = cloudwatch.handle_request

    @property
    def _model(self) -> ServiceModel:
        return query_protocol.service_model("cloudwatch")

    def get_state(self) -> Json:
        """The state of MiniStack's part and the data points. It is not a copy: encode it before other code runs."""
        return {**cloudwatch.get_state(), "data_points": self._stored.state()}

    def load_persisted_state(self, data: Json) -> None:
        """Restore the state. Data points in MiniStack's format, of an earlier version, are not restored."""
        cloudwatch.load_persisted_state({**data, "metrics": {}})
        self._stored.restore(data.get("data_points", ()))

    def reset(self) -> None:
        """Delete everything."""
        cloudwatch.reset()
        self._stored.reset()

    async def handle_request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query_params: Json
    ) -> Response:
        """Answer a request in JSON or in the query protocol."""
        if "cbor" in headers.get("smithy-protocol", "") + headers.get("content-type", ""):
            return _refuse_cbor()
        if "x-amz-target" in headers:
            action = headers["x-amz-target"].rpartition(".")[2]
            if action not in OPERATIONS:
                return await self._theirs(method, path, headers, body, query_params)
            try:
                return json_protocol.answer(self._answer(action, json_protocol.read(body)))
            except AwsError as error:
                return json_protocol.refuse(error)
        form = query_protocol.read_form(body, query_params)
        action = form.get("Action", "")
        if action not in self._model.operation_names:
            return await self._theirs(method, path, headers, body, query_params)
        try:
            request = query_protocol.parse(self._model, action, form)
            if action in OPERATIONS:
                return query_protocol.answer(self._model, action, self._answer(action, request))
        except query_protocol.ConstraintViolated as error:
            return query_protocol.refuse(self._model, AwsError(CODE, str(error)))
        except AwsError as error:
            return query_protocol.refuse(self._model, error)
        target = {"x-amz-target": f"{self._model.metadata['targetPrefix']}.{action}"}
        status, _, answer = await self._theirs(method, path, target, json.dumps(request).encode(), {})
        content = json.loads(answer or b"{}")
        if status >= 400:
            return query_protocol.refuse(self._model, AwsError(content["__type"], content["message"], status))
        return query_protocol.answer(self._model, action, content)

    def _answer(self, action: str, request: Json) -> Json:
        try:
            constraints.check(self._model.operation_model(action).input_shape, request)
            return OPERATIONS[action](self._stored, request)
        except constraints.WrongType as error:
            raise AwsError("SerializationException", str(error)) from error
        except (ValueError, RecursionError) as error:  # An expression can refer to itself.
            raise AwsError(CODE, str(error)) from error


def _put_metric_data(stored: Metrics, request: Json) -> Json:
    accepted = []
    for number, datum in enumerate(request.get("MetricData") or (), start=1):
        found = datum.get("StatisticValues")
        if found:
            parts = [Part(found["SampleCount"], found["Sum"], found["Minimum"], found["Maximum"])]
        else:
            values = datum.get("Values") or ([datum["Value"]] if "Value" in datum else None)
            if values is None:
                raise AwsError("MissingParameter", f"The parameter MetricData.member.{number}.Value is required.")
            counts = datum.get("Counts") or ()
            if counts and len(counts) != len(values):
                message = f"The parameters MetricData.member.{number}.Values and Counts must have the same length."
                raise AwsError("InvalidParameterValue", message)
            parts = metrics.counted(values, counts)
        at = _seconds(datum["Timestamp"]) if "Timestamp" in datum else None
        accepted.append((_metric(request["Namespace"], datum), datum.get("Unit", "None"), parts, at))
    for metric, unit, parts, at in accepted:
        stored.add(metric, unit, parts, at=at)
    return {}


def _get_metric_data(stored: Metrics, request: Json) -> Json:
    """GetMetricData. Values are in the order of time, the latest first by default."""
    queries = {query["Id"]: query for query in request["MetricDataQueries"]}
    start, end = _seconds(request["StartTime"]), _seconds(request["EndTime"])
    values = {
        name: _values(stored, _metric(stat["Metric"]["Namespace"], stat["Metric"]), stat, start, end)
        for name, query in queries.items()
        if (stat := query.get("MetricStat"))
    }
    expressions = {name: query["Expression"] for name, query in queries.items() if "Expression" in query}
    times = sorted({time for series in values.values() for time in series})
    at = {time: {name: series.get(time) for name, series in values.items()} for time in times}
    results = []
    for name, query in queries.items():
        if not query.get("ReturnData", True):
            continue
        found = {time: number for time in times if (number := value_of(name, at[time], expressions)) is not None}
        order = list(found) if request.get("ScanBy") == "TimestampAscending" else list(reversed(found))
        label = query.get("Label") or (query["MetricStat"]["Metric"]["MetricName"] if "MetricStat" in query else name)
        results.append({
            "Id": name, "Label": label, "Timestamps": order, "Values": [found[time] for time in order],
            "StatusCode": "Complete",
        })  # fmt: skip
    return {"MetricDataResults": results}


def _get_metric_statistics(stored: Metrics, request: Json) -> Json:
    statistics, extended = request.get("Statistics") or (), request.get("ExtendedStatistics") or ()
    if not statistics and not extended:
        raise AwsError("InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics")
    start, end = _seconds(request["StartTime"]), _seconds(request["EndTime"])
    found = stored.points(_metric(request["Namespace"], request), request.get("Unit"))
    data = []
    for time, points in _periods(found, request["Period"], start, end).items():
        more = {name: number for name in extended if (number := metrics.statistic(points, name)) is not None}
        data.append({
            "Timestamp": time, "Unit": points[0].unit,
            **{name: metrics.statistic(points, name) for name in statistics},
            **({"ExtendedStatistics": more} if more else {}),
        })  # fmt: skip
    return {"Label": request["MetricName"], "Datapoints": data}


def _list_metrics(stored: Metrics, request: Json) -> Json:
    wanted = request.get("Dimensions") or ()

    def is_listed(metric: Metric) -> bool:
        dimensions = dict(metric.dimensions)
        return (
            request.get("Namespace", metric.namespace) == metric.namespace
            and request.get("MetricName", metric.name) == metric.name
            and all(each["Name"] in dimensions for each in wanted)
            and all(dimensions[each["Name"]] == each["Value"] for each in wanted if "Value" in each)
        )

    return {
        "Metrics": [
            {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
            }
            for metric in stored.known()
            if is_listed(metric)
        ]
    }


OPERATIONS: Mapping[str, Callable[[Metrics, Json], Json]] = {
    "GetMetricData": _get_metric_data,
    "GetMetricStatistics": _get_metric_statistics,
    "ListMetrics": _list_metrics,
    "PutMetricData": _put_metric_data,
}


def _metric(namespace: str, named: Mapping[str, Any]) -> Metric:
    """The metric that MetricName and Dimensions of `named` name."""
    dimensions = {each["Name"]: each["Value"] for each in named.get("Dimensions") or ()}
    return metrics.metric(namespace, named["MetricName"], dimensions)


def _values(stored: Metrics, metric: Metric, stat: Mapping[str, Any], start: float, end: float) -> dict[int, float]:
    """Start of each period that has data -> the value of a MetricStat."""
    periods = _periods(stored.points(metric, stat.get("Unit")), stat["Period"], start, end)
    values = {time: metrics.statistic(points, stat["Stat"]) for time, points in periods.items()}
    return {time: value for time, value in values.items() if value is not None}


def _periods(points: Iterable[DataPoint], seconds: int, start: float, end: float) -> dict[int, list[DataPoint]]:
    """Start of each period that has data -> its points, in the order of time."""
    found: dict[int, list[DataPoint]] = {}
    for point in points:
        if start <= point.at < end:
            found.setdefault(int(point.at // seconds) * seconds, []).append(point)
    return found


def _seconds(time: float | str) -> float:
    """A time of a request, in seconds since 1970. Raises ValueError."""
    return parse_to_aware_datetime(str(time)).timestamp()


def _refuse_cbor() -> Response:
    """The refusal of a request in CBOR, in CBOR: https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html"""
    message = "The local region does not honour the protocol smithy-rpc-v2-cbor: use JSON or the query protocol"
    # A map of two members; 0x78 is a text whose length is the next byte (RFC 8949, 3.1).
    texts = (each.encode() for each in ("__type", "UnsupportedProtocol", "message", message))
    body = b"\xa2" + b"".join(b"\x78" + bytes([len(each)]) + each for each in texts)
    return 415, {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}, body
