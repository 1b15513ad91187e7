"""The links and paths in documents exist."""

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
"""The changelog names removed things."""
INDEXED = ("decisions", "guides", "reference", "runbooks")
TOP_FOLDERS = ("apps", "benchmarks", "docs", "examples", "infrastructure", "src", "tests", "tools", ".github", ".ci")


def links(text: str) -> list[str]:
    """The relative targets of a document's links and images, without their fragments."""
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.partition("#")[0] for target in found if not re.match(r"[a-z]+:|#", target)]


def paths(text: str) -> list[str]:
    """The repository's paths that a document has in backticks, beginning with a top-level folder.

    Paths with a placeholder in capitals (`apps/NAME/Dockerfile`) are left out.
    """
    named = re.findall(r"`([\w./-]+)`", text)
    return [
        name
        for name in named
        if "/" in name and name.split("/")[0] in TOP_FOLDERS and not re.search(r"/[A-Z]+(/|$|\.)(?!md)", name)
    ]


def anchors(text: str) -> set[str]:
    """The fragments of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_anchors(file: Path) -> list[str]:
    """The links of a document to a heading that does not exist, in the document itself or in another one."""
    missing = []
    for target, fragment in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)#([^)\s]+)\)", file.read_text()):
        destination = file.parent / target if target else file
        if destination.exists() and fragment not in anchors(destination.read_text()):
            missing.append(f"{target}#{fragment}")
    return missing


SETTINGS = set(re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/reference/settings.md").read_text(), flags=re.MULTILINE))
SETTING_GROUPS = {name.partition(".")[0] for name in SETTINGS if "." in name}


def unknown_names(text: str) -> list[str]:
    """The settings (`tasks.arm64`) and modules (`alva.checks.sql`) in backticks that do not exist."""
    dotted = re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)`", text)
    pairs = [name for name in dotted if name.count(".") == 1]  # `cache.t3.micro` is a node type
    settings = [name for name in pairs if name.split(".")[0] in SETTING_GROUPS and name not in SETTINGS]
    modules = [name for name in dotted if re.match(r"alva\.(checks|cli|console|oci|region|release|sessions)\b", name)]
    return settings + [
        name
        for name in modules
        if not any((ROOT / "src" / f"{name.replace('.', '/')}{end}").exists() for end in ("", ".py"))
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_exist(document: str) -> None:
    file = ROOT / document
    text = file.read_text()
    assert [target for target in links(text) if target and not (file.parent / target).exists()] == []
    assert [path for path in paths(text) if not (ROOT / path).exists()] == []
    assert missing_anchors(file) == []
    assert unknown_names(text) == []


@pytest.mark.parametrize("folder", INDEXED)
def test_index_of_a_folder_links_to_each_of_its_documents(folder: str) -> None:
    index = ROOT / "docs" / folder / "README.md"
    documents = {path.name for path in index.parent.glob("*.md")} - {"README.md"}
    assert documents - set(links(index.read_text())) == set()


def test_unknown_names_would_be_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("# What it does, in short\n[a](#what-it-does-in-short) [b](#nothing) [c](page.md#none)\n")
    assert missing_anchors(document) == ["#nothing", "page.md#none"]
    assert unknown_names("`tasks.arm64` `tasks.none` `alva.checks.sql` `alva.checks.none` `alva.json`") == [
        "tasks.none",
        "alva.checks.none",
    ]
    text = "[a](missing.md#part) ![b](docs/none.png) [c](https://example.com) `src/alva/nothing.py` `a/b`"
    assert links(text) == ["missing.md", "docs/none.png"]
    assert paths(text) == ["src/alva/nothing.py"]
