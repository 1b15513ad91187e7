"""A picture as SVG: columns for the internet, the load balancer, the services and the data, and curves between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from alva.checks.reachability import CACHE, DATABASE, INTERNET, LOAD_BALANCER
from alva.console.picture import Comparison, Part, Picture

WIDTH, HEIGHT = 190, 76
"""Of a box, in the picture's units."""
GAP_X, GAP_Y = 110, 26
MARGIN = 24
SERVICES_PER_COLUMN = 8
MOST_ARROWS_BETWEEN_SERVICES = 24
"""More of them would hide everything else: a file leaves them out, the page shows those of the selected part."""

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1d2433 }
.title { font-weight: 650; font-size: 15px }
.note, .port { fill: #565d6d; font-size: 12px }
.box { fill: #fff; stroke: #8a93a5; stroke-width: 1.5 }
.arrow { fill: none; stroke: #8a93a5; stroke-width: 1.3 }
.between { opacity: 0.45 }
.many .between:not(.added):not(.removed) { display: none }
.head { fill: #8a93a5 }
.backdrop { fill: #f6f7f9 }
.added .box, .arrow.added { stroke: #1a7f37; stroke-width: 2.5 }
.removed .box, .arrow.removed { stroke: #cf222e; stroke-width: 2.5; stroke-dasharray: 6 4 }
.changed .box { stroke: #9a6700; stroke-width: 2.5 }
"""
"""The picture's own colours, for a file. The page gives it those of its theme."""


@dataclass(frozen=True)
class _Place:
    x: float
    y: float

    @property
    def left(self) -> tuple[float, float]:
        return self.x, self.y + HEIGHT / 2

    @property
    def right(self) -> tuple[float, float]:
        return self.x + WIDTH, self.y + HEIGHT / 2


def draw(picture: Picture, comparison: Comparison | None = None, *, other: Picture | None = None) -> str:
    """The picture as an SVG document.

    With a `comparison` what it adds is green, what it removes is red (`other` is the picture that still has those
    parts), and what it changes is amber. Each box is a group with `data-part`, for the page to colour.
    """
    marks = comparison or Comparison()
    parts = list(picture.parts)
    arrows = list(picture.arrows)
    if other is not None:
        parts += [part for part in other.parts if part.name in marks.removed]
        arrows += [arrow for arrow in other.arrows if (arrow.source, arrow.target) in marks.removed_arrows]
    places = _layout(parts)
    width = max(place.x for place in places.values()) + WIDTH + MARGIN
    height = max(place.y for place in places.values()) + HEIGHT + MARGIN
    services = {part.name for part in parts if part.kind == "service"}
    between = {(arrow.source, arrow.target) for arrow in arrows if {arrow.source, arrow.target} <= services}
    body: list[str] = []
    for arrow in arrows:
        if arrow.target == INTERNET or arrow.source not in places or arrow.target not in places:
            continue  # what a part reaches on the internet is told in its details
        pair = (arrow.source, arrow.target)
        mark = " added" if pair in marks.added_arrows else " removed" if pair in marks.removed_arrows else ""
        mark += " between" if pair in between else ""
        title = f"{arrow.source} reaches {arrow.target} on {', '.join(arrow.ports)}"
        body.append(
            f'<path class="arrow{mark}" data-source={quoteattr(arrow.source)} data-target={quoteattr(arrow.target)} '
            f'd="{_curve(places[arrow.source], places[arrow.target])}" marker-end="url(#head)">'
            f"<title>{escape(title)}</title></path>"
        )
    for part in parts:
        body.append(_box(part, places[part.name], _mark(part.name, marks)))
    density = "many" if len(between) > MOST_ARROWS_BETWEEN_SERVICES else "few"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" class="{density}" role="group" '
        f"aria-label={quoteattr(f'Architecture of {picture.name}')}><style>{STYLE}</style>"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="10" markerHeight="10" '
        'markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        f'<rect class="backdrop" width="{width:g}" height="{height:g}" rx="10"/>{"".join(body)}</svg>\n'
    )


def _mark(name: str, marks: Comparison) -> str:
    if name in marks.added:
        return " added"
    if name in marks.removed:
        return " removed"
    return " changed" if name in marks.changed else ""


def _layout(parts: Sequence[Part]) -> dict[str, _Place]:
    """Where each part is: services fill columns of SERVICES_PER_COLUMN, the others are centred beside them."""
    services = [part.name for part in parts if part.kind == "service"]
    rows = max(1, min(SERVICES_PER_COLUMN, len(services)))
    columns = max(1, -(-len(services) // SERVICES_PER_COLUMN))
    height = rows * HEIGHT + (rows - 1) * GAP_Y

    def column(number: int) -> float:
        return MARGIN + number * (WIDTH + GAP_X)

    def centred(names: list[str], x: float) -> dict[str, _Place]:
        used = len(names) * HEIGHT + (len(names) - 1) * GAP_Y * 2
        top = MARGIN + max(0.0, (height - used) / 2)
        return {name: _Place(x, top + row * (HEIGHT + GAP_Y * 2)) for row, name in enumerate(names)}

    places = centred([INTERNET], column(0)) | centred([LOAD_BALANCER], column(1))
    for number, name in enumerate(services):
        x = column(2) + (number // SERVICES_PER_COLUMN) * (WIDTH + GAP_X / 2)
        places[name] = _Place(x, MARGIN + (number % SERVICES_PER_COLUMN) * (HEIGHT + GAP_Y))
    data_x = column(2) + (columns - 1) * (WIDTH + GAP_X / 2) + WIDTH + GAP_X
    places |= centred([part.name for part in parts if part.kind in (DATABASE, CACHE)], data_x)
    names = {part.name for part in parts}
    return {name: place for name, place in places.items() if name in names}


def _curve(source: _Place, target: _Place) -> str:
    if source.x == target.x:
        # Between services of one column the curve leaves and arrives at the right.
        (x1, y1), (x2, y2) = source.right, target.right
        y1, y2 = (y1 + 10, y2 - 10) if y2 > y1 else (y1 - 10, y2 + 10)
        bow = 22 + abs(y2 - y1) / 6
        return f"M{x1:g} {y1:g} C{x1 + bow:g} {y1:g} {x2 + bow:g} {y2:g} {x2:g} {y2:g}"
    (x1, y1), (x2, y2) = (source.right, target.left) if target.x > source.x else (source.left, target.right)
    middle = (x1 + x2) / 2
    return f"M{x1:g} {y1:g} C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"


def _box(part: Part, place: _Place, mark: str) -> str:
    x, y, right = place.x, place.y, place.x + WIDTH - 12
    port = f":{', :'.join(part.ports)}" if part.ports else ""
    return (
        f'<g class="part {escape(part.kind)}{mark}" data-part={quoteattr(part.name)} role="button" tabindex="0">'
        f'<rect class="box" x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="10"/>'
        f'<text class="title" x="{x + 14:g}" y="{y + 24:g}">{escape(_shorten(part.title, 20))}</text>'
        f'<text class="port" x="{right:g}" y="{y + 24:g}" text-anchor="end">{escape(_shorten(port, 12))}</text>'
        f'<text class="note" x="{x + 14:g}" y="{y + 43:g}">{escape(_shorten(part.note, 26))}</text>'
        f'<g class="tasks" transform="translate({x + 14:g} {y + 54:g})"></g></g>'
    )


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
