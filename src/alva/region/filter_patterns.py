"""CloudWatch Logs' filter patterns, for FilterLogEvents, metric filters and subscriptions.

In MiniStack every JSON pattern matches, and terms ignore case. `validation/logs.py` searches with these patterns.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from ministack.services import cloudwatch_logs

Matches = Callable[[str], bool]
_Test = Callable[[Any], bool]

_TERM = re.compile(r'(?P<sign>[?-]?)(?:"(?P<phrase>[^"]*)"|%(?P<regex>[^%]+)%|(?P<word>[^\s"%]+))(?=\s|$)')
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<selector>\$(?:\.[\w-]+|\.?\[(?:\d+|"[^"]+")\])+)
      | (?P<text>"(?:[^"\\]|\\.)*")
      | %(?P<regex>[^%]+)%
      | (?P<operator>&&|\|\||!=|<=|>=|[=<>()])
      | (?P<word>[\w*.+:/@-]+)
    )""",
    re.VERBOSE,
)
_STEP = re.compile(r'\.([\w-]+)|\[(\d+)\]|\["([^"]+)"\]')
_MISSING = object()


class PatternError(ValueError):
    """A pattern that AWS refuses, or that the region does not support."""


@functools.lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Matches:
    """A function that tests whether a message matches the pattern: terms, or a condition on JSON in braces. An empty
    pattern matches all messages.

    Raises PatternError, also for the space-delimited form in brackets, which is not supported.
    """
    text = pattern.strip()
    if not text:
        return lambda _: True
    if text.startswith("["):
        raise PatternError("space-delimited filter patterns are not offered by the local region")
    if not text.startswith("{"):
        return _terms(text)
    if not text.endswith("}"):
        raise PatternError("Invalid filter pattern: a closing brace is missing")
    condition = _Conditions(text[1:-1]).read()

    def matches(message: str) -> bool:
        try:
            value = json.loads(message)
        except ValueError:
            return False
        return isinstance(value, dict) and condition(value)

    return matches


def install() -> None:
    """Use AWS's patterns in MiniStack's subscriptions and live tails."""

    def matches(pattern: str, message: str) -> bool:
        try:
            return compile_pattern(pattern or "")(message or "")
        except PatternError:  # A new invalid pattern is refused earlier; a restored one matches nothing.
            return False

    cloudwatch_logs._subscription_pattern_matches = matches


def field(message: str, selector: str) -> object:
    """The value of a selector such as `$.queue_depth` in a message; None without one."""
    try:
        value = _select(json.loads(message), selector)
    except ValueError:
        return None
    return None if value is _MISSING else value


def _terms(text: str) -> Matches:
    required: list[re.Pattern[str]] = []
    optional: list[re.Pattern[str]] = []
    excluded: list[re.Pattern[str]] = []
    by_sign = {"": required, "?": optional, "-": excluded}
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise PatternError(f"Invalid filter pattern: cannot read {text[position:]!r}")
        words = found["phrase"] if found["phrase"] is not None else found["word"]
        by_sign[found["sign"]].append(_regex(found["regex"]) if found["regex"] else re.compile(re.escape(words)))
        position = found.end() + len(text[found.end() :]) - len(text[found.end() :].lstrip())
    return lambda message: (
        all(each.search(message) for each in required)
        # Beside a required term, optional ones are ignored.
        and (not optional or bool(required) or any(each.search(message) for each in optional))
        and not any(each.search(message) for each in excluded)
    )


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise PatternError(f"Invalid filter pattern: {error}") from error


def _select(value: Any, selector: str) -> Any:
    for name, index, quoted in _STEP.findall(selector):
        if index:
            if not isinstance(value, list) or int(index) >= len(value):
                return _MISSING
            value = value[int(index)]
        elif isinstance(value, dict) and (name or quoted) in value:
            value = value[name or quoted]
        else:
            return _MISSING
    return value


class _Conditions:
    """Reads `$.level = "ERROR" || ($.status >= 500 && $.path != "/health*")`."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise PatternError(f"Invalid filter pattern: cannot read {text[position:]!r}")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()
        self._next = 0

    def read(self) -> _Test:
        """The whole condition."""
        condition = self._any()
        if self._next < len(self._tokens):
            raise PatternError(f"Invalid filter pattern: {self._tokens[self._next][1]!r} is not expected")
        return condition

    def _any(self) -> _Test:
        tests = [self._all()]
        while self._accept("||"):
            tests.append(self._all())
        return lambda value: any(test(value) for test in tests)

    def _all(self) -> _Test:
        tests = [self._one()]
        while self._accept("&&"):
            tests.append(self._one())
        return lambda value: all(test(value) for test in tests)

    def _one(self) -> _Test:
        if self._accept("("):
            inner = self._any()
            if not self._accept(")"):
                raise PatternError("Invalid filter pattern: a closing parenthesis is missing")
            return inner
        kind, selector = self._take()
        if kind != "selector":
            raise PatternError(f"Invalid filter pattern: {selector!r} is not a property selector")
        kind, operator = self._take()
        if kind == "word":
            return self._state(selector, operator)
        if operator in ("&&", "||", "(", ")"):
            raise PatternError(f"Invalid filter pattern: {operator!r} is not a comparison")
        kind, wanted = self._take()
        if operator in ("<", "<=", ">", ">="):
            return _numeric(selector, operator, wanted)
        test = _equality(kind, wanted)
        if operator == "=":
            return lambda value: (found := _select(value, selector)) is not _MISSING and test(found)
        return lambda value: (found := _select(value, selector)) is not _MISSING and not test(found)

    def _state(self, selector: str, word: str) -> _Test:
        words = f"{word} {self._take()[1]}".upper()
        states: dict[str, Any] = {"IS NULL": None, "IS TRUE": True, "IS FALSE": False, "NOT EXISTS": _MISSING}
        if words not in states:
            raise PatternError(f"Invalid filter pattern: {words!r} is not a comparison")
        wanted = states[words]
        return lambda value: _select(value, selector) is wanted

    def _take(self) -> tuple[str, str]:
        if self._next >= len(self._tokens):
            raise PatternError("Invalid filter pattern: it ends too early")
        self._next += 1
        return self._tokens[self._next - 1]

    def _accept(self, operator: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] == ("operator", operator):
            self._next += 1
            return True
        return False


def _equality(kind: str, wanted: str) -> _Test:
    if kind == "regex":
        pattern = _regex(wanted)
        return lambda found: pattern.search(_as_text(found)) is not None
    text = json.loads(wanted) if kind == "text" else wanted
    if kind == "word" and (number := _number(text)) is not None:
        return lambda found: isinstance(found, int | float) and not isinstance(found, bool) and found == number
    wildcards = re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)
    return lambda found: wildcards.fullmatch(_as_text(found)) is not None


def _numeric(selector: str, operator: str, wanted: str) -> _Test:
    limit = _number(wanted)
    if limit is None:
        raise PatternError(f"Invalid filter pattern: {wanted!r} is not a number")
    compare: Callable[[float], bool] = {
        "<": lambda found: found < limit,
        "<=": lambda found: found <= limit,
        ">": lambda found: found > limit,
        ">=": lambda found: found >= limit,
    }[operator]

    def test(value: Any) -> bool:
        found = _select(value, selector)
        return isinstance(found, int | float) and not isinstance(found, bool) and compare(found)

    return test


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
