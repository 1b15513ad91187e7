"""CloudWatch's metric math, as far as the region calculates it.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping


def value_of(name: str, values: Mapping[str, float | None], expressions: Mapping[str, str]) -> float | None:
    """The value of a metric or an expression, by its id, from the values of the metrics in one period.

    Raises ValueError for unsupported metric math and for an unknown id.
    """
    if name in values:
        return values[name]
    if name not in expressions:
        raise ValueError(f"no metric has the id {name!r}")
    return calculate(expressions[name], lambda other: value_of(other, values, expressions))


def calculate(expression: str, value: Callable[[str], float | None]) -> float | None:
    """Metric math for one period: arithmetic, comparisons, IF, FILL, ABS, CEIL, FLOOR, SUM, AVG, MIN and MAX of a list.

    `value` returns the metric of an id. The result is None where a metric has no data. Raises ValueError for other
    expressions.
    """

    def evaluated(node: ast.expr) -> float | None:
        match node:
            case ast.Constant(value=int() | float() as constant):
                return float(constant)
            case ast.Name(id=name):
                return value(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = evaluated(operand)
                return None if number is None else -number
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _apply(_ARITHMETIC[type(op)], evaluated(left), evaluated(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                return _apply(_COMPARISONS[type(op)], evaluated(left), evaluated(right))
            case ast.Call(func=ast.Name(id="IF"), args=[condition, yes, no]):
                chosen = evaluated(condition)
                return None if chosen is None else evaluated(yes if chosen else no)
            case ast.Call(func=ast.Name(id="FILL"), args=[metric, filling]):
                number = evaluated(metric)
                return evaluated(filling) if number is None else number
            case ast.Call(func=ast.Name(id=name), args=[ast.List(elts=elements)]) if name in _OF_LISTS:
                numbers = [number for number in map(evaluated, elements) if number is not None]
                return _OF_LISTS[name](numbers) if numbers else None
            case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _OF_ONE:
                number = evaluated(argument)
                return None if number is None else _OF_ONE[name](number)
        raise ValueError(f"cannot evaluate metric math: {ast.unparse(node)!r} in {expression!r}")

    try:
        parsed = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"cannot evaluate metric math: {expression!r}") from error
    return evaluated(parsed.body)


_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float | None]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    # CloudWatch has no value where it would divide by zero.
    ast.Div: lambda left, right: left / right if right else None,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], float | None]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_OF_LISTS: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "MIN": min,
    "MAX": max,
    "AVG": lambda numbers: sum(numbers) / len(numbers),
}
_OF_ONE: dict[str, Callable[[float], float]] = {
    "ABS": abs,
    "CEIL": lambda number: float(-(-number // 1)),
    "FLOOR": lambda number: float(number // 1),
}


def _apply(function: Callable[[float, float], float | None], left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    result = function(left, right)
    return None if result is None else float(result)
