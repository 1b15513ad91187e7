"""The architecture drawn from templates: its parts, allowed connections, and what a change adds or removes."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lib.config.environments import STAGING, Environment

from alva.checks.assembly import Assembly
from alva.console.drawing import draw
from alva.console.picture import Picture, compare, read_picture

from .conftest import Synthesis

SVG = "{http://www.w3.org/2000/svg}"


def assembly_of(synthesis: Synthesis) -> Assembly:
    """The assembly of a synthesis."""
    manifest = synthesis.manifest
    templates = {s["name"]: json.loads((synthesis.folder / s["template"]).read_text()) for s in manifest["stacks"]}
    return Assembly(manifest, templates)


@pytest.fixture(scope="session")
def picture(staging: Synthesis) -> Picture:
    return read_picture(assembly_of(staging))


def test_every_service_is_a_part_with_its_port_and_reached_by_the_load_balancer(picture: Picture) -> None:
    parts = {part.name: part for part in picture.parts}
    arrows = {(arrow.source, arrow.target): arrow.ports for arrow in picture.arrows}
    for service in STAGING.services:
        assert str(service.port) in parts[service.name].ports
        assert arrows["alb", service.name] == (str(service.port),)
    assert {"internet", "alb", "database", "cache"} <= parts.keys()


def test_variables_and_secrets_are_named_without_values(staging: Synthesis, picture: Picture) -> None:
    text = str(picture)
    for service in STAGING.services:
        shown = next(part.containers for part in picture.parts if part.name == service.name)
        deployed = staging.containers("services", service.service_name)
        for container in shown:
            properties = deployed[container.name]
            assert list(container.environment) == sorted(pair["Name"] for pair in properties["Environment"])
            assert list(container.secrets) == sorted(pair["Name"] for pair in properties.get("Secrets", []))
    assert "rediss://" not in text
    assert "postgresql://" not in text


def test_drawing_is_valid_svg_with_a_box_per_part(picture: Picture) -> None:
    root = ET.fromstring(draw(picture))  # noqa: S314 - our own
    boxes = [group.get("data-part") for group in root.iter(f"{SVG}g") if group.get("data-part")]
    assert boxes == [part.name for part in picture.parts]
    paths = [path for path in root.iter(f"{SVG}path") if path.get("data-source")]
    # Two services that reach each other share one line with an arrowhead at each end.
    drawn = [{path.get("data-source"), path.get("data-target")} for path in paths]
    assert all(drawn.count(pair) == 1 for pair in drawn)
    assert {frozenset(pair) for pair in drawn} == {
        frozenset((arrow.source, arrow.target)) for arrow in picture.arrows if arrow.target != "internet"
    }
    both = next(path for path in paths if {path.get("data-source"), path.get("data-target")} == {"web", "api"})
    assert both.get("marker-start") == both.get("marker-end") == "url(#link)"


def test_names_from_templates_cannot_break_out_of_the_drawing(picture: Picture) -> None:
    evil = '"><script>alert(1)</script>&'
    parts = (*picture.parts[:-1], replace(picture.parts[-1], name=evil, title=evil, note=evil))
    root = ET.fromstring(draw(replace(picture, parts=parts, name=evil)))  # noqa: S314 - our own
    assert not list(root.iter(f"{SVG}script"))


def test_same_templates_show_no_change(picture: Picture) -> None:
    assert compare(picture, picture).is_empty


def test_added_and_removed_service_are_marked(picture: Picture, synthesise: Callable[[Environment], Synthesis]) -> None:
    removed = STAGING.services[-1]
    fewer = read_picture(assembly_of(synthesise(dataclasses.replace(STAGING, services=STAGING.services[:-1]))))
    taken = compare(picture, fewer)
    assert removed.name in taken.removed
    assert ("alb", removed.name) in taken.removed_arrows
    assert f"- {removed.name}" in taken.lines
    root = ET.fromstring(draw(fewer, taken, other=picture))  # noqa: S314 - our own
    marked = {g.get("data-part"): g.get("class") for g in root.iter(f"{SVG}g") if g.get("data-part")}
    assert marked[removed.name] == "part service removed"
    added = compare(fewer, picture)
    assert added.added == {removed.name}
    assert not added.removed


def test_forty_services_fit_without_overlap(picture: Picture) -> None:
    service = next(part for part in picture.parts if part.kind == "service")
    others = [part for part in picture.parts if part.kind != "service"]
    many = [replace(service, name=f"service-{number}", title=f"service-{number}") for number in range(40)]
    root = ET.fromstring(draw(Picture(name="many", parts=(*others, *many), arrows=())))  # noqa: S314 - our own
    places = [(box.get("x"), box.get("y")) for box in root.iter(f"{SVG}rect") if box.get("class") == "box"]
    assert len(set(places)) == len(others) + 40


def test_picture_in_the_readme_is_that_of_the_templates(picture: Picture) -> None:
    file = Path(__file__).resolve().parents[2] / "docs" / "images" / "architecture.svg"
    assert file.read_text() == draw(picture), "./alva draw --output docs/images/architecture.svg"
