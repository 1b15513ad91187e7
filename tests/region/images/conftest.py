"""A small project to build, with its own store for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from alva.region.images import Image, ImageStore, build

SIMPLE = """\
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
COPY requirements.txt ./
RUN echo "made of $(cat requirements.txt)" > made.txt

FROM python:3.11-slim-bookworm
WORKDIR /app
COPY --from=build /app/made.txt /app/made.txt
COPY service /app/service
ENV PATH=/app/bin:$PATH
USER 10001:10001
EXPOSE 3001
CMD ["python", "-m", "service"]
"""


class Project:
    """A context folder with a Dockerfile, and the store that it is built into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ImageStore(folder / "store")
        self.context = folder / "context"
        self.executed: list[str] = []
        self.write("Dockerfile", SIMPLE)
        self.write("requirements.txt", "fastapi")
        self.write("service/__init__.py", "")
        self.write("service/__main__.py", "print('hello from', __file__)\n")

    def write(self, path: str, content: str) -> Path:
        file = self.context / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def build(self, dockerfile: str | None = None, *, store: ImageStore | None = None, **options: object) -> Image:
        """Build; `executed` then holds only the lines of this build."""
        if dockerfile is not None:
            self.write("Dockerfile", dockerfile)
        self.executed = []
        on_line: Callable[[str], None] = self.executed.append
        return build(
            self.context / "Dockerfile",
            self.context,
            store or self.store,
            on_line=on_line,
            **options,  # type: ignore[arg-type]
        )

    def files(self, image: Image) -> dict[str, str]:
        """The image's files by path, without bytecode."""
        return {
            str(file.relative_to(layer)): file.read_text()
            for layer in image.layers
            for file in sorted(layer.rglob("*"))
            if file.is_file() and "__pycache__" not in file.parts
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
