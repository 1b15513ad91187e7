"""The OpenAI stand-in's answers: values for the requested JSON schema, with text from the prompt.

Pure and deterministic: the same request always gets the same answer. A property's name selects a text from a list of
marketing advice, so that the result reads like a plan; all other values follow from the schema's types and limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LABEL = "Written by the local stand-in, not by a language model."

_USUAL_LENGTHS = {"tasks": 8, "actions": 3}
_USUAL_LENGTH = 3


@dataclass(frozen=True, kw_only=True)
class Business:
    """The prompt's facts about a business."""

    name: str = "your business"
    industry: str = "your line of business"
    audience: str = "the people you serve"
    goals: tuple[str, ...] = ("win more customers",)
    location: str = ""

    @property
    def goal(self) -> str:
        return self.goals[0]

    @property
    def place(self) -> str:
        return f" in {self.location}" if self.location else ""


@dataclass(frozen=True)
class _Place:
    """The place of a value in the answer: its property, that of the enclosing object, and its number in the list.

    `part` is the number of the innermost object in a list: it selects the object's channel.
    """

    name: str = ""
    parent: str = ""
    index: int = 0
    part: int = 0


_CHANNELS = (
    ("Search and maps", "people look for {industry}{place} at the moment they need it"),
    ("E-mail", "{audience} who know {name} already are the likeliest to come back"),
    ("Instagram", "{audience} want to see {name} before they buy"),
    ("Local partners", "others{place} serve {audience} without competing with {name}"),
    ("Events", "meeting {name} in person builds the trust that advertising cannot"),
    ("Short articles", "answers to common questions about {industry} keep bringing visitors for years"),
)
_ACTIONS = (
    "Complete the profile of {name} on {channel} with photos, prices and opening hours.",
    "Publish one story a week that shows how {name} helps {audience}.",
    "Answer every message on {channel} within one working day.",
    "Ask three happy customers of {name} for a sentence to quote.",
)
_TASKS = (
    ("Describe the ideal customer", "Write half a page on {audience}: what they need, and why they choose {name}."),
    ("Set up {channel}", "Open or complete the account of {name} on {channel} and link it from the website."),
    ("Make an offer for newcomers", "Design one small offer that lets {audience} try {name} without risk."),
    ("Collect ten reviews", "Ask ten recent customers for a review, with a link that opens the right page."),
    ("Plan four weeks of posts", "Note twelve ideas about {industry}, give each a date, and prepare the first four."),
    ("Talk to a partner", "Find a business{place} that serves {audience} too, and propose one joint action."),
    ("Write the first newsletter", "Tell what is new at {name}, what it means for readers, and how to reach you."),
    ("Look at the numbers", 'Compare this month with the last, against the goal "{goal}", and stop what did not work.'),
)
_QUICK_WINS = (
    ("Say what you do in one sentence", "Put it at the top of the website: {name}, {industry} for {audience}."),
    ("Claim your entry on maps", "Search for {name} on every map service, claim the entry and correct it."),
    ("Add a link to your signature", "Every mail from {name} ends with an invitation to the current offer."),
    ("Thank your best customers", "Write five personal messages today; one of them will recommend {name}."),
)
_MEASURES = (
    'Progress towards "{goal}", written down every Monday.',
    "New enquiries from {audience} each week, with the channel that they came through.",
    "The share of customers who come back to {name} within three months.",
    "Reviews received each month, and their average.",
)
_SENTENCES = {
    "summary": (
        "{name} reaches {audience}{place} through a few channels that it can keep up, with one goal before all others:"
        " {goal}. The first month sets the foundations, the second makes {name} visible, the third repeats what worked."
        " " + LABEL
    ),
    "positioning": (
        "For {audience}{place}, {name} is the one in its field ({industry}) that knows them personally, answers"
        " quickly and keeps its word."
    ),
    "audience": "{audience}",
    "industry": "{industry}",
    "business_name": "{name}",
    "goal": "{goal}",
    "goals": "{goal}",
}


def read_business(texts: Sequence[str]) -> Business:
    """The business in a prompt, from JSON in it or from lines such as `Industry: bakery`."""
    found: dict[str, Any] = {}
    for text in texts:
        for values in _objects_in(text):
            _collect(values, found)
        for line in re.finditer(
            r"^\W*(business name|industry|audience|goals?|location)\W*:\s*(.+)$", text, re.I | re.M
        ):
            found.setdefault(line[1].lower().replace(" ", "_").removesuffix("s"), line[2].strip())
    goals = found.get("goal") or ()
    if isinstance(goals, str):
        goals = [goal.strip() for goal in goals.split(",")]
    known = {
        "name": found.get("business_name") or found.get("name"),
        "industry": found.get("industry"),
        "audience": found.get("audience"),
        "location": found.get("location"),
    }
    fields: dict[str, Any] = {key: str(value).strip() for key, value in known.items() if value}
    if goals:
        fields["goals"] = tuple(str(goal) for goal in goals)
    return Business(**fields)


def fill(schema: Mapping[str, Any], business: Business) -> Any:
    """A value for the JSON schema, about the business.

    Raises ValueError for a schema with an unsupported part, since the answer might not fit it.
    """
    return _fill(schema, schema, business, _Place())


def answer_text(business: Business) -> str:
    """An answer for a request without a schema."""
    return "\n".join(_word(sentence, business) for sentence in (_SENTENCES["summary"], *_MEASURES[:2]))


def _fill(schema: Mapping[str, Any], root: Mapping[str, Any], business: Business, place: _Place) -> Any:
    if "$ref" in schema:
        return _fill(_resolve(schema["$ref"], root), root, business, place)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][place.index % len(schema["enum"])]
    for alternatives in ("anyOf", "oneOf"):
        if alternatives in schema:
            wanted = [option for option in schema[alternatives] if option.get("type") != "null"]
            return _fill(wanted[0], root, business, place)
    if "allOf" in schema:
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= _resolve(part["$ref"], root) if "$ref" in part else part
        return _fill(merged, root, business, place)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
    match kind:
        case "object":
            return {
                name: _fill(part, root, business, _Place(name, place.name or place.parent, place.index, place.index))
                for name, part in (schema.get("properties") or {}).items()
            }
        case "array":
            length = _USUAL_LENGTHS.get(place.name, _USUAL_LENGTH)
            length = max(schema.get("minItems", 0), min(length, schema.get("maxItems", length)))
            places = [_Place(place.name, place.parent, index, place.part) for index in range(length)]
            return [_fill(schema["items"], root, business, item) for item in places]
        case "string":
            return _string(schema, business, place)
        case "integer" | "number":
            return _number(schema, place)
        case "boolean":
            return True
        case "null":
            return None
    raise ValueError(f"the stand-in does not understand this part of the schema: {json.dumps(schema)[:200]}")


def _string(schema: Mapping[str, Any], business: Business, place: _Place) -> str:
    formats = {
        "date": "2027-01-04",
        "date-time": "2027-01-04T09:00:00Z",
        "time": "09:00:00",
        "uuid": f"00000000-0000-4000-8000-{place.index:012d}",
        "email": "hello@example.com",
        "uri": "https://example.com/",
    }
    if schema.get("format") in formats:
        return formats[schema["format"]]
    if schema.get("pattern"):
        raise ValueError(f"the stand-in makes no strings for patterns ({schema['pattern']})")
    text = _word(_template(place), business, _channel(place.part))
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 10_000)
    while len(text) < shortest:
        text += f" {text}"
    return text[:longest]


def _template(place: _Place) -> str:
    """The advice for a property; `place.index` selects one of several."""
    name, parent, index = place.name, place.parent, place.index
    if name == "channel" or (parent == "channels" and name in ("name", "title", "channel")):
        return _channel(index)
    if parent == "channels" and name in ("why", "reason", "rationale", "description"):
        reason = _CHANNELS[index % len(_CHANNELS)][1]
        return f"{reason}."
    if name in ("actions", "steps"):
        return _ACTIONS[index % len(_ACTIONS)]
    for word, stock in (("win", _QUICK_WINS), ("task", _TASKS)):
        if word in parent and name in ("title", "name"):
            return stock[index % len(stock)][0]
        if word in parent:
            return stock[index % len(stock)][1]
    if name in ("measures", "metrics", "kpis"):
        return _MEASURES[index % len(_MEASURES)]
    if name in _SENTENCES:
        return _SENTENCES[name]
    if name in ("title", "headline", "name"):
        return "A marketing plan for {name}"
    label = name.replace("_", " ") or "answer"
    return f"{label.capitalize()} for {{name}}: what helps {{audience}} and serves the goal to {{goal}}."


def _channel(index: int) -> str:
    # The default length of a list of channels, so that every channel is one of that list.
    return _CHANNELS[index % _USUAL_LENGTH][0]


def _word(template: str, business: Business, channel: str = _CHANNELS[0][0]) -> str:
    words = {
        "name": business.name,
        "industry": business.industry,
        "audience": business.audience,
        "goal": business.goal,
        "place": business.place,
        "channel": channel,
    }
    text = re.sub(r"\{(\w+)\}", lambda match: words[match[1]], template)
    return text[:1].upper() + text[1:]


def _number(schema: Mapping[str, Any], place: _Place) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 1)
    high = schema.get("maximum", schema["exclusiveMaximum"] - 1 if "exclusiveMaximum" in schema else low + 1000)
    return min(low + place.index, high)  # type: ignore[no-any-return]


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        node = node[part] if part else node
    return node  # type: ignore[no-any-return]


def _objects_in(text: str) -> list[Any]:
    """The outermost JSON objects in the text."""
    decoder, objects, position = json.JSONDecoder(), [], 0
    while (start := text.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, start)
            objects.append(value)
        except ValueError:
            position = start + 1
    return objects


def _collect(value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            name = key.lower().removesuffix("s")
            if name in ("business_name", "name", "industry", "audience", "goal", "location") and item:
                found.setdefault(name, item)
            _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)
