"""Draws a picture as SVG: columns for the internet, the load balancer, the services and the data stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from alva.checks.reachability import CACHE, DATABASE, INTERNET, LOAD_BALANCER
from alva.console.picture import Arrow, Comparison, Part, Picture

WIDTH, HEIGHT = 190, 76
"""The size of a box, in SVG user units."""
GAP_X, GAP_Y = 110, 26
MARGIN = 24
SERVICES_PER_COLUMN = 8
"""More services than this have a frame around them, because their arrows would hide everything else. Arrows end at the
frame, and the page shows the arrows of the selected part."""
FRAME_PAD, FRAME_TITLE = 16, 30

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1d2433 }
.title { font-weight: 650; font-size: 15px }
.note, .port { fill: #565d6d; font-size: 12px }
.box { fill: #fff; stroke: #8a93a5; stroke-width: 1.5 }
.arrow { fill: none; stroke: #8a93a5; stroke-width: 1.3 }
.between { stroke: #2b7a8c }
.head.link { fill: #2b7a8c }
.many .single:not(.added):not(.removed) { display: none }
.frame { fill: none; stroke: #8a93a5; stroke-dasharray: 3 4 }
.head { fill: #8a93a5 }
.backdrop { fill: #f6f7f9 }
.added .box, .arrow.added { stroke: #1a7f37; stroke-width: 2.5 }
.removed .box, .arrow.removed { stroke: #cf222e; stroke-width: 2.5; stroke-dasharray: 6 4 }
.changed .box { stroke: #9a6700; stroke-width: 2.5 }
"""
"""The colours of a file. The page replaces them with those of its theme."""


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
    """Return the picture as an SVG document.

    With a `comparison`, added parts are green, removed parts are red and changed parts are amber. `other` is the
    picture that still has the removed parts. Each box is a group with `data-part`, by which the page colours it.
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
    is_many = len(services) > SERVICES_PER_COLUMN
    body = [_frame(parts, arrows, places)] if is_many else []
    drawn: set[tuple[str, str]] = set()
    ports = {(arrow.source, arrow.target): ", ".join(arrow.ports) for arrow in arrows}
    for source, target in ports:
        if target == INTERNET or source not in places or target not in places:
            continue  # the details of a part list what it reaches on the internet
        pair, back = (source, target), (target, source)
        mark = _arrow_mark(pair, marks)
        if pair in drawn:
            continue
        title = f"{source} reaches {target} on {ports[pair]}"
        head = "link" if pair in between else "head"
        ends = f'marker-end="url(#{head})"'
        if pair in between and back in between and _arrow_mark(back, marks) == mark:
            # Two services that reach each other share one line with a head at each end.
            drawn.add(back)
            title += f"; {target} reaches {source} on {ports[back]}"
            ends += f' marker-start="url(#{head})"'
        mark += " between" if pair in between else ""
        mark += " single" if not services.isdisjoint(pair) else ""
        body.append(
            f'<path class="arrow{mark}" data-source={quoteattr(source)} data-target={quoteattr(target)} '
            f'd="{_curve(places[source], places[target])}" {ends}>'
            f"<title>{escape(title)}</title></path>"
        )
    for part in parts:
        body.append(_box(part, places[part.name], _mark(part.name, marks)))
    density = "many" if is_many else "few"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" class="{density}" role="group" '
        f"aria-label={quoteattr(f'Architecture of {picture.name}')}><style>{STYLE}</style>"
        f"<defs>{_head('head', 'head')}{_head('link', 'head link')}</defs>"
        f'<rect class="backdrop" width="{width:g}" height="{height:g}" rx="10"/>{"".join(body)}</svg>\n'
    )


def _frame(parts: Sequence[Part], arrows: Sequence[Arrow], places: Mapping[str, _Place]) -> str:
    """Draw a frame around the services, and one arrow for all connections between them and each other part."""
    services = {part.name for part in parts if part.kind == "service"}
    inside = [place for name, place in places.items() if name in services]
    x, y = min(place.x for place in inside) - FRAME_PAD, min(place.y for place in inside) - FRAME_TITLE
    right, bottom = (max(place.x for place in inside) + WIDTH + FRAME_PAD, max(place.y for place in inside) + HEIGHT)
    pairs = {(arrow.source, arrow.target) for arrow in arrows}
    reached = {target for source, target in pairs if source in services and target in services}
    is_full = all((source, target) in pairs for source in services for target in reached if source != target)
    title = f"{len(services)} services"
    title += ", each can reach the others" if is_full and reached else ", select one to see its connections"
    drawn = [
        f'<rect class="frame" x="{x:g}" y="{y:g}" width="{right - x:g}" height="{bottom + FRAME_PAD - y:g}" rx="14"/>',
        f'<text class="note" x="{x + FRAME_PAD:g}" y="{y + 20:g}">{escape(title)}</text>',
    ]
    for name in dict.fromkeys(part.name for part in parts if part.name in places and part.name not in services):
        for sources, targets, said in (({name}, services, "reaches"), (services, {name}, "is reached by")):
            count = sum(source in sources and target in targets for source, target in pairs)
            if not count or name == INTERNET:
                continue
            (x1, y1), (x2, y2) = (places[name].right, (x, places[name].left[1]))
            if targets == {name}:
                (x1, y1), (x2, y2) = (right, places[name].left[1]), places[name].left
            drawn.append(
                f'<path class="arrow" d="M{x1:g} {y1:g} L{x2:g} {y2:g}" marker-end="url(#head)">'
                f"<title>{escape(f'{name} {said} {count} of {len(services)} services')}</title></path>"
            )
    return "".join(drawn)


def _head(name: str, class_: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="10" markerHeight="10" '
        'markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path class="{class_}" d="M0 0 L8 4 L0 8 z"/></marker>'
    )


def _arrow_mark(pair: tuple[str, str], marks: Comparison) -> str:
    return " added" if pair in marks.added_arrows else " removed" if pair in marks.removed_arrows else ""


def _mark(name: str, marks: Comparison) -> str:
    if name in marks.added:
        return " added"
    if name in marks.removed:
        return " removed"
    return " changed" if name in marks.changed else ""


def _layout(parts: Sequence[Part]) -> dict[str, _Place]:
    """Place each part: services fill columns of SERVICES_PER_COLUMN, the others are centred beside them."""
    services = [part.name for part in parts if part.kind == "service"]
    rows = max(1, min(SERVICES_PER_COLUMN, len(services)))
    columns = max(1, -(-len(services) // SERVICES_PER_COLUMN))
    height = rows * HEIGHT + (rows - 1) * GAP_Y
    first = MARGIN + (FRAME_TITLE if columns > 1 else 0)

    def column(number: int) -> float:
        return MARGIN + number * (WIDTH + GAP_X)

    def centred(names: list[str], x: float) -> dict[str, _Place]:
        used = len(names) * HEIGHT + (len(names) - 1) * GAP_Y * 2
        top = first + max(0.0, (height - used) / 2)
        return {name: _Place(x, top + row * (HEIGHT + GAP_Y * 2)) for row, name in enumerate(names)}

    places = centred([INTERNET], column(0)) | centred([LOAD_BALANCER], column(1))
    for number, name in enumerate(services):
        x = column(2) + (number // SERVICES_PER_COLUMN) * (WIDTH + GAP_X / 2)
        places[name] = _Place(x, first + (number % SERVICES_PER_COLUMN) * (HEIGHT + GAP_Y))
    data_x = column(2) + (columns - 1) * (WIDTH + GAP_X / 2) + WIDTH + GAP_X
    places |= centred([part.name for part in parts if part.kind in (DATABASE, CACHE)], data_x)
    names = {part.name for part in parts}
    return {name: place for name, place in places.items() if name in names}


def _curve(source: _Place, target: _Place) -> str:
    if source.x == target.x:
        # Between services of one column, the curve starts and ends at their right edges.
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
