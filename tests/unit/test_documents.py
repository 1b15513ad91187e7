"""What a document links to or names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts and path.name != "CHANGELOG.md"
)
"""The changelog speaks of what there was."""
INDEXED = ("decisions", "guides", "reference", "runbooks")
TOP_FOLDERS = ("apps", "benchmarks", "docs", "examples", "infrastructure", "src", "tests", "tools", ".github", ".ci")


def links(text: str) -> list[str]:
    """The relative targets of a document's links and images, without their fragments."""
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.partition("#")[0] for target in found if not re.match(r"[a-z]+:|#", target)]


def paths(text: str) -> list[str]:
    """The repository's paths that a document names: in backticks, beginning with a top folder.

    Not those with a placeholder in capitals (`apps/NAME/Dockerfile`).
    """
    named = re.findall(r"`([\w./-]+)`", text)
    return [
        name
        for name in named
        if "/" in name and name.split("/")[0] in TOP_FOLDERS and not re.search(r"/[A-Z]+(/|$|\.)(?!md)", name)
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_lead_somewhere(document: str) -> None:
    file = ROOT / document
    text = file.read_text()
    assert [target for target in links(text) if target and not (file.parent / target).exists()] == []
    assert [path for path in paths(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("folder", INDEXED)
def test_index_of_a_folder_links_to_each_of_its_documents(folder: str) -> None:
    index = ROOT / "docs" / folder / "README.md"
    documents = {path.name for path in index.parent.glob("*.md")} - {"README.md"}
    assert documents - set(links(index.read_text())) == set()


def test_what_does_not_exist_would_be_found() -> None:
    text = "[a](missing.md#part) ![b](docs/none.png) [c](https://example.com) `src/alva/nothing.py` `a/b`"
    assert links(text) == ["missing.md", "docs/none.png"]
    assert paths(text) == ["src/alva/nothing.py"]
