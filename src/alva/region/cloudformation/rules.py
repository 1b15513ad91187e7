"""The Rules section: a template's assertions about its parameters, checked before a stack is created or updated.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
"""

from __future__ import annotations

from typing import Any

from alva.region.cloudformation.intrinsics import Json, Scope, TemplateError, function_of, text

_NOT_HONOURED = ("Fn::RefAll", "Fn::ValueOf", "Fn::ValueOfAll")


def check(template: Json, scope: Scope) -> None:
    """Raises TemplateError with the description of the first assertion that does not hold."""
    for name, rule in (template.get("Rules") or {}).items():
        if not isinstance(rule, dict) or not isinstance(rule.get("Assertions"), list):
            raise TemplateError(f"Template format error: Rule {name} must contain an Assertions list")
        if "RuleCondition" in rule and not _value(rule["RuleCondition"], scope):
            continue
        for number, assertion in enumerate(rule["Assertions"], start=1):
            if not isinstance(assertion, dict) or "Assert" not in assertion:
                raise TemplateError(
                    f"Template format error: Every assertion of rule {name} must contain an Assert"
                )  # fmt: skip
            if not _value(assertion["Assert"], scope):
                reason = assertion.get("AssertDescription") or f"assertion {number} evaluated to false"
                raise TemplateError(f"Template error: rule {name} failed: {reason}")


def _value(expression: Any, scope: Scope) -> Any:
    name, argument = function_of(expression)
    if isinstance(expression, list):
        return [_value(each, scope) for each in expression]
    if not name:
        return expression
    if name == "Ref":
        return scope.reference(text(argument))
    if name in _NOT_HONOURED:
        raise TemplateError(f"Template error: the local region does not honour {name} in Rules")
    values = _value(argument, scope)
    match name, values:
        case "Fn::And", list():
            return all(values)
        case "Fn::Or", list():
            return any(values)
        case "Fn::Not", [value]:
            return not value
        case "Fn::Equals", [left, right]:
            return left == right if isinstance(left, list) else text(left) == text(right)
        case "Fn::Contains", [list() as items, value]:
            return text(value) in map(text, items)
        case "Fn::EachMemberEquals", [list() as items, value]:
            return all(text(item) == text(value) for item in items)
        case "Fn::EachMemberIn", [list() as items, list() as allowed]:
            return {*map(text, items)} <= {*map(text, allowed)}
    raise TemplateError(
        f"Template format error: Following functions are not supported in the Rules block of the template: [{name}]"
    )
