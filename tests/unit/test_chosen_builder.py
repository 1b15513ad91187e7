"""The choice of the builder of an image for the local region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alva.cli import chosen_builder
from alva.cli.bundle_builder import BundleBuilder
from alva.cli.chosen_builder import AUTO, DOCKER, OWN, ChosenBuilder, choice
from alva.errors import BuildFailed, UsageError
from tests.unit.test_docker_builder import SERVICE

BY_DOCKER = "sha256:" + "d" * 64


class FakeDockerBuilder:
    """Reports that it built the image."""

    built = False

    def build(self, *_: object) -> str:
        self.built = True
        return BY_DOCKER

    def has(self, digest: str) -> bool:
        return self.built and digest == BY_DOCKER


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def builder(last_lines: str, builds_with: str = AUTO, *, has_engine: bool = True) -> ChosenBuilder:
        dockerfile = tmp_path / SERVICE.dockerfile
        dockerfile.parent.mkdir(parents=True)
        dockerfile.write_text(f"FROM python:3.11-slim\n{last_lines}\n")
        monkeypatch.setattr(chosen_builder, "engine_answers", lambda: has_engine)
        own = BundleBuilder(tmp_path, tmp_path / "store")
        return ChosenBuilder(own, FakeDockerBuilder(), builds_with)  # type: ignore[arg-type]

    return builder


def test_own_builder_builds_supported_dockerfiles(make: Any) -> None:
    builder = make('CMD ["python"]')
    said: list[str] = []
    digest = builder.build(SERVICE, said.append)
    assert digest != BY_DOCKER
    assert said[-1] == "built api without Docker"
    assert builder.has(digest)


@pytest.mark.parametrize(
    "line",
    [
        "RUN apt-get update && apt-get install -y curl",
        "RUN set -e; addgroup --system app",
        "RUN corepack enable pnpm",
        "RUN npm install -g turbo",
        "USER node",
        "COPY --chown=node:node . .",
        "HEALTHCHECK CMD true",
        "FROM node:24-alpine",
        "FROM python:3.11-alpine3.20",
        "FROM gcr.io/distroless/static",
        "FROM python:3.99-slim",
        "ADD . .",
    ],
)
def test_docker_builds_images_that_our_builder_cannot_and_a_line_reports_it(make: Any, line: str) -> None:
    said: list[str] = []
    builder = make(line)
    assert builder.build(SERVICE, said.append) == BY_DOCKER
    assert builder.has(BY_DOCKER)
    (text,) = said
    assert text.startswith("Docker builds api: line 2: ")


def test_without_docker_the_line_and_the_next_step_are_named(make: Any) -> None:
    with pytest.raises(BuildFailed, match="line 2: RUN apt-get is not supported here") as caught:
        make("RUN apt-get install curl", has_engine=False).build(SERVICE, print)
    assert "Docker can build it" in (caught.value.next_step or "")


def test_word_in_an_argument_is_no_program(make: Any) -> None:
    assert make("RUN echo aptitude-test apt.txt /etc/apt >/opt/x").build(SERVICE, print) != BY_DOCKER


def test_failed_command_is_not_given_to_docker(make: Any) -> None:
    with pytest.raises(BuildFailed, match="exit code 3"):
        make("RUN exit 3").build(SERVICE, print)


def test_one_of_the_two_can_be_chosen_alone(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert make("CMD x", DOCKER).build(SERVICE, said.append) == BY_DOCKER
    assert said == ["Docker builds api: ALVA_BUILDER=docker"]
    for value in (AUTO, OWN, DOCKER, ""):
        monkeypatch.setenv("ALVA_BUILDER", value)
        assert choice() == (value or AUTO)
    monkeypatch.setenv("ALVA_BUILDER", "podman")
    with pytest.raises(UsageError, match="ALVA_BUILDER=podman"):
        choice()


def test_own_builder_alone_refuses_unsupported_dockerfiles(make: Any) -> None:
    with pytest.raises(BuildFailed, match="apt-get"):
        make("RUN apt-get install curl", OWN).build(SERVICE, print)
