"""A Dockerfile is built into an image that runs, and only its inputs determine the image."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from alva.cli.bundle_builder import BundleBuilder
from alva.errors import BuildFailed, TimedOut
from alva.region.images import Image, ImageStore, build
from alva.region.sandbox import SandboxSpec
from alva.region.supervisor import Process, ProcessSpec, start_process
from alva.release.manifest import Service
from tests.ports import free_port
from tests.waiting import until


async def start(image: Image, *command: str, **options: Any) -> Process:
    return await start_process(
        ProcessSpec(
            name="test",
            argv=command or (*image.entrypoint, *image.command),
            environment={**image.environment, **options.pop("environment", {})},
            sandbox=SandboxSpec(layers=image.layers, base=image.base, working_directory=image.working_directory),
            user=image.user,
            **options,
        )
    )


def output(image: Image, *command: str) -> list[str]:
    lines: list[str] = []

    async def run() -> int:
        return (await (await start(image, *command, on_line=lines.append)).wait()).code

    assert asyncio.run(run()) == 0, lines
    return lines


def test_image_runs_the_command_of_its_dockerfile(project: Any) -> None:
    image = project.build()
    assert output(image) == ["hello from /app/service/__main__.py"]
    assert output(image, "cat", "made.txt") == ["made of fastapi"]
    assert (image.user, image.exposed_ports, image.working_directory) == ((10001, 10001), (3001,), "/app")
    assert image.command == ("python", "-m", "service")
    assert image.environment["PATH"].startswith("/app/bin:/usr/local/bin")


def test_second_build_executes_nothing(project: Any) -> None:
    first = project.build()
    assert project.executed != []
    assert project.build() == first
    assert project.executed == []


def test_older_python_than_any_of_this_machine_is_replaced_by_the_one_that_runs_alva(project: Any) -> None:
    """As on Debian 13 with Python 3.13 only, and the Dockerfiles of `apps/` with FROM python:3.11."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    dockerfile = (
        "FROM python:3.3-slim AS build\nWORKDIR /app\n"
        "RUN python -c 'import sys; print(sys.version_info[:2])' > version\n"
        'FROM python:3.3-slim\nCOPY --from=build /app/version /version\nCMD ["python", "--version"]\n'
    )
    image = project.build(dockerfile)
    assert project.files(image)["version"] == f"{sys.version_info[:2]}\n"
    assert output(image)[0].startswith(f"Python {own}.")
    said = f"FROM python:3.3-slim: this machine has no such Python, so its Python {own} is used"
    assert said in project.executed
    assert image.base == f"python:{own}", (
        "another Python of this machine must not run packages that were installed for this one"
    )
    assert project.build(dockerfile) == image
    assert project.executed == []


def test_newer_python_than_any_of_this_machine_is_refused(project: Any) -> None:
    with pytest.raises(BuildFailed, match=r"this machine has no Python 3\.99"):
        project.build("FROM python:3.99-slim\nRUN true\n")


def test_edit_of_the_service_rebuilds_only_its_layer(project: Any) -> None:
    first = project.build()
    project.write("service/__main__.py", "print('edited')\n")
    second = project.build()
    assert project.executed == ["COPY service /app/service"]
    assert second.digest != first.digest
    assert second.layers[0] == first.layers[0]
    assert output(second) == ["edited"]
    assert output(first) == ["hello from /app/service/__main__.py"], "an image never changes"


def test_edit_of_an_input_of_run_runs_it_again(project: Any) -> None:
    project.build()
    project.write("requirements.txt", "django")
    assert project.files(project.build())["app/made.txt"] == "made of django\n"
    assert any(line.startswith("RUN") for line in project.executed)


def test_digest_depends_on_content_and_not_on_time_place_or_store(project: Any, tmp_path: Path) -> None:
    first = project.build()
    for file in project.context.rglob("*"):
        os.utime(file, (1, 1))
    (project.context / "service/__pycache__").mkdir()
    project.write("service/__pycache__/left.pyc", "left over")
    elsewhere = shutil.copytree(project.context, tmp_path / "elsewhere")
    project.context = elsewhere
    again = project.build(store=ImageStore(tmp_path / "another"))
    assert again.digest == first.digest


def test_permissions_of_a_strict_umask_do_not_reach_the_image(project: Any) -> None:
    first = project.build()
    (project.context / "service/__main__.py").chmod(0o600)
    (project.context / "service").chmod(0o700)
    assert project.build().digest == first.digest


def test_executable_file_stays_executable(project: Any) -> None:
    project.write("service/tool", "#!/bin/sh\necho tool\n").chmod(0o755)
    assert output(project.build(), "/app/service/tool") == ["tool"]


def test_digest_is_that_of_the_manifest(project: Any) -> None:
    import hashlib

    image = project.build()
    assert image.digest == f"sha256:{hashlib.sha256(image.manifest.encode()).hexdigest()}"
    manifest = json.loads(image.manifest)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert [f"sha256:{layer.name}" for layer in image.layers] == [layer["digest"] for layer in manifest["layers"]]


def test_python_files_are_compiled_for_where_they_run(project: Any) -> None:
    project.write("service/broken.py", "def f():\n    raise ValueError('here')\n")
    image = project.build()
    compiled = [file for layer in image.layers for file in layer.rglob("broken.*.pyc")]
    assert len(compiled) == 1
    lines = output(image, "python", "-v", "-c", "import service.broken as b; print(b.f.__code__.co_filename)")
    assert "/app/service/broken.py" in lines
    assert any("code object from '/app/service/__pycache__/broken." in line for line in lines), (
        "it is not compiled again"
    )


def test_python_file_that_does_not_compile_fails_at_import_only(project: Any) -> None:
    project.write("service/bad.py", "def (:\n")
    assert output(project.build()) == ["hello from /app/service/__main__.py"]


def test_dockerignore_leaves_out(project: Any) -> None:
    project.write(".dockerignore", "service/secret*\n**/*.log\n!service/kept.log\n")
    for path in ("service/secret.txt", "service/a.log", "service/deep/b.log", "service/kept.log", "service/deep/c.txt"):
        project.write(path, "x")
    names = {path.removeprefix("app/service/") for path in project.files(project.build())}
    assert names == {"made.txt", "__init__.py", "__main__.py", "kept.log", "deep/c.txt"} - {"made.txt"} | {
        "app/made.txt"
    }


def test_dockerignore_that_leaves_out_all_but_some(project: Any) -> None:
    project.write(".dockerignore", "*\n!requirements.txt\n!service\n**/__pycache__\n")
    project.write("other/file", "x")
    assert "app/service/__main__.py" in project.files(project.build())
    with pytest.raises(BuildFailed, match=r"line 2: COPY other: left out by \.dockerignore"):
        project.build("FROM python:3.11-slim\nCOPY other /other\n")


def test_copy_puts_files_where_docker_does(project: Any) -> None:
    project.write("a.txt", "a")
    project.write("b.txt", "b")
    image = project.build(
        textwrap.dedent("""\
            FROM python:3.11-slim
            WORKDIR /app
            COPY a.txt renamed.txt
            COPY a.txt b.txt /data/
            COPY a.txt /srv/
            COPY *.txt yarn.lock* ./all/
            COPY service ./code
            COPY a.txt ./code
            COPY --chmod=0400 b.txt /opt/b.txt
        """)
    )
    assert set(project.files(image)) == {
        *("app/renamed.txt", "data/a.txt", "data/b.txt", "srv/a.txt", "opt/b.txt"),
        *("app/all/a.txt", "app/all/b.txt", "app/all/requirements.txt"),
        *("app/code/__init__.py", "app/code/__main__.py", "app/code/a.txt"),
    }
    assert (image.layers[-1] / "opt/b.txt").stat().st_mode & 0o777 == 0o400


def test_run_has_args_and_env_and_its_files_are_kept(project: Any) -> None:
    dockerfile = textwrap.dedent("""\
        ARG PYTHON=3.11
        FROM python:${PYTHON}-slim AS build
        ARG NAME=world
        ENV GREETING="good morning" EMPTY=
        WORKDIR /made
        RUN echo "$GREETING $NAME" > greeting && mkdir -p /opt/tool && echo 1 > /opt/tool/one
        RUN ["/bin/sh", "-c", "rm /opt/tool/one && echo 2 > /opt/tool/two"]
    """)
    assert project.files(project.build(dockerfile)) == {"made/greeting": "good morning world\n", "opt/tool/two": "2\n"}
    image = project.build(dockerfile, arguments={"NAME": "moon"})
    assert project.files(image)["made/greeting"] == "good morning moon\n"


def test_run_that_writes_to_this_machines_files_fails(project: Any) -> None:
    for path in ("/usr/bin/tool", "/etc/passwd", "/usr/local/x"):
        with pytest.raises(BuildFailed, match=f"line 2: RUN echo > {path}: exit code 2") as failure:
            project.build(f"FROM python:3.11-slim\nRUN echo > {path}\n")
        assert "Read-only file system" in str(failure.value)


def test_failed_run_shows_its_last_lines_and_is_not_kept(project: Any) -> None:
    dockerfile = "FROM python:3.11-slim\nRUN echo one && \\\n    echo the reason >&2 && exit 3\n"
    for _ in range(2):
        with pytest.raises(BuildFailed, match=r"Dockerfile: line 2: RUN .*: exit code 3") as failure:
            project.build(dockerfile)
        assert failure.value.evidence == ("one", "the reason")
    assert list((project.store.folder / "work").iterdir()) == []


def test_mounts_of_run_are_there_and_not_in_the_image(project: Any) -> None:
    dockerfile = textwrap.dedent("""\
        FROM python:3.11-slim
        WORKDIR /app
        RUN --mount=type=cache,target=/root/.cache/things --mount=type=bind,source=requirements.txt,target=req.txt \\
            echo "$(cat req.txt) $(ls /root/.cache/things | wc -l)" > out && touch /root/.cache/things/$(date +%s%N)
        RUN --mount=type=cache,target=/root/.cache/things ls /root/.cache/things | wc -l > second
    """)
    assert project.files(project.build(dockerfile)) == {"app/out": "fastapi 0\n", "app/second": "1\n"}
    project.write("requirements.txt", "other")
    assert project.files(project.build(dockerfile)) == {"app/out": "other 1\n", "app/second": "2\n"}


def test_stage_may_be_the_base_of_another_and_unused_ones_are_not_built(project: Any) -> None:
    dockerfile = textwrap.dedent("""\
        FROM python:3.11-slim AS base
        WORKDIR /app
        ENV A=1
        RUN echo base > base
        FROM base AS unused
        RUN exit 1
        FROM base
        RUN echo "$A" > final
    """)
    image = project.build(dockerfile)
    assert project.files(image) == {"app/base": "base\n", "app/final": "1\n"}
    assert project.files(project.build(target="base")) == {"app/base": "base\n"}
    with pytest.raises(BuildFailed, match="exit code 1"):
        project.build(target="unused")


def test_link_out_of_the_context_is_refused(project: Any) -> None:
    (project.context / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(BuildFailed, match="COPY passwd: leads outside of the context"):
        project.build("FROM python:3.11-slim\nCOPY passwd /passwd\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root")
def test_user_of_the_base_is_found_by_its_name(project: Any) -> None:
    image = project.build(
        textwrap.dedent("""\
            FROM node:24-slim
            WORKDIR /app
            RUN id -un node >user && id -gn node >>user
            COPY --chown=node:node service ./service
            USER node
        """)
    )
    assert image.user == (1000, 1000)
    assert (image.layers[-1] / "app" / "service" / "__main__.py").stat().st_uid == 1000
    assert output(image, "cat", "user") == ["node", "node"]
    assert output(image, "id", "-un") == ["node"]


@pytest.mark.parametrize(
    ("dockerfile", "problem"),
    [
        ("FROM alpine:3\n", "line 1: FROM alpine:3 is not supported here"),
        ("FROM python:3.99-slim\n", "no Python 3.99"),
        ("FROM node:8-slim\n", "line 1: FROM node:8-slim: the pinned Node here is 24"),
        ("FROM python:3.11-slim\nADD a b\n", "line 2: ADD is not supported here"),
        ("FROM python:3.11-slim\nCOPY gone /gone\n", "line 2: COPY gone: not found"),
        ("FROM python:3.11-slim\nCOPY gone* also-gone* ./\n", r"line 2: COPY also-gone\*: not found"),
        ("FROM python:3.11-slim\nCOPY --chown=node service /x\n", "line 2: COPY --chown=node is not supported here"),
        ("FROM python:3.11-slim\nCOPY ../up /up\n", "line 2: COPY ../up: outside of the context"),
        ("FROM python:3.11-slim\n\n# why\nCOPY --from=gone /x /x\n", "line 4: COPY --from=gone is neither a stage"),
        (
            "FROM python:3.11-slim\nCOPY --from=ghcr.io/astral-sh/uv:0.0.1 /uv /bin/\n",
            "line 2: .*the pinned uv here is",
        ),
        ("FROM python:3.11-slim\nUSER app\n", "line 2: USER app is not supported here: write numbers"),
        ("FROM python:3.11-slim\nENV A=$B\n", r"line 2: \$B is not set"),
        ("FROM python:3.11-slim\nRUN --mount=type=secret,id=x,target=/x true\n", "line 2: RUN --mount=type=secret"),
        ("FROM python:3.11-slim\nEXPOSE 53/udp\n", "line 2: EXPOSE 53/udp: expected TCP port numbers"),
        ("FROM python:3.11-slim\nSTOPSIGNAL SIGNOPE\n", "line 2: STOPSIGNAL SIGNOPE: no such signal"),
    ],
)
def test_unsupported_line_is_refused_with_its_number(project: Any, dockerfile: str, problem: str) -> None:
    with pytest.raises(BuildFailed, match=problem):
        project.build(dockerfile)


def test_builds_side_by_side_make_each_step_once(project: Any) -> None:
    project.write("Dockerfile", "FROM python:3.11-slim\nWORKDIR /app\nRUN sleep 0.5; date +%s%N > now\n")
    images: list[Image] = []
    lines: list[str] = []

    def one() -> None:
        images.append(build(project.context / "Dockerfile", project.context, project.store, on_line=lines.append))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 3
    assert len({image.digest for image in images}) == 1
    assert len([line for line in lines if line.startswith("RUN")]) == 1


def test_cancelled_build_ends_at_once_and_leaves_nothing(project: Any) -> None:
    cancelled, errors = threading.Event(), []
    lines: list[str] = []

    def one() -> None:
        try:
            build(
                project.context / "Dockerfile",
                project.context,
                project.store,
                on_line=lines.append,
                cancelled=cancelled,
            )
        except BuildFailed as error:
            errors.append(str(error))

    project.write("Dockerfile", "FROM python:3.11-slim\nRUN echo up; sleep 66.5\n")
    thread = threading.Thread(target=one)
    thread.start()
    until(lambda: "up" in lines, "the step to run")
    cancelled.set()
    started = time.monotonic()
    thread.join()
    assert time.monotonic() - started < 30
    assert errors == [f"cannot build {project.context}/Dockerfile: line 2: cancelled"]
    assert not any(b"sleep 66.5" in line for line in command_lines())


def test_build_is_cancelled_at_its_deadline(project: Any) -> None:
    project.write("Dockerfile", "FROM python:3.11-slim\nRUN echo up; sleep 67.5\n")
    service = Service(
        name="web",
        service="alva-web",
        repository="alva-web",
        dockerfile="Dockerfile",
        port=3000,
        paths=("/*",),
        host=None,
        health_path="/health",
        log_group="/alva/staging/web",
        image_parameter="WebImageDigest",
    )
    builder = BundleBuilder(project.context, project.store.folder, timeout_seconds=0.5)
    with pytest.raises(TimedOut, match="cannot build web: it is still running after"):
        builder.build(service, lambda _line: None)
    assert not any(b"sleep 67.5" in line for line in command_lines())


def test_killed_build_leaves_no_partial_layer_and_no_process(project: Any) -> None:
    project.write("Dockerfile", "FROM python:3.11-slim\nWORKDIR /app\nRUN echo half > half; echo up; sleep 65.5\n")
    script = (
        "import sys; from pathlib import Path; from alva.region.images import *; "
        f"build(Path({str(project.context)!r}) / 'Dockerfile', Path({str(project.context)!r}), "
        f"ImageStore(Path({str(project.store.folder)!r})), on_line=lambda l: print(l, flush=True))"
    )
    builder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    while builder.stdout.readline() != "up\n":
        assert builder.poll() is None
    builder.kill()
    builder.wait()
    builder.stdout.close()
    assert list((project.store.folder / "work").iterdir()) != [], "it was killed in the middle"
    until(lambda: not any(b"sleep 65.5" in line for line in command_lines()), "the end of its processes")

    assert project.files(project.build("FROM python:3.11-slim\nWORKDIR /app\nRUN echo whole > whole\n")) == {
        "app/whole": "whole\n"
    }
    assert list((project.store.folder / "work").iterdir()) == []


def command_lines() -> list[bytes]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" "))
            except OSError:
                continue
    return found


def test_prune_keeps_the_given_images_and_frees_the_rest(project: Any) -> None:
    kept = project.build()
    project.write("service/__main__.py", "print('second')\n" + "#" * 100_000)
    dropped = project.build()
    assert project.store.prune({kept.digest}) == 0, "a recent image may not be in a repository yet"
    assert project.build() == dropped
    assert project.executed == []

    assert project.store.prune({kept.digest}, unused_for_seconds=0) > 100_000
    assert project.store.find(dropped.digest) is None
    assert not any(layer.exists() for layer in dropped.layers if layer not in kept.layers)
    assert output(kept) == ["hello from /app/service/__main__.py"]
    assert output(project.build()) == ["second"]


def test_image_with_a_missing_layer_is_not_found(project: Any) -> None:
    image = project.build()
    shutil.rmtree(image.layers[0])
    assert project.store.find(image.digest) is None
    assert project.build().digest == image.digest, "the next build completes it"
    assert project.store.find("sha256:" + "0" * 64) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_image_runs_as_its_user_from_a_folder_that_is_closed_to_others(project: Any) -> None:
    project.folder.chmod(0o700)
    assert output(project.build(), "python", "-c", "import os; print(os.getuid()); open('/app/made.txt')") == ["10001"]


def test_fastapi_service_is_installed_by_uv_and_answers(project: Any) -> None:
    uv, fastapi, uvicorn = (metadata.version(name) for name in ("uv", "fastapi", "uvicorn"))
    project.write(
        "service/__main__.py",
        textwrap.dedent("""\
            import os
            import fastapi
            import uvicorn

            app = fastapi.FastAPI()

            @app.get("/health")
            def health() -> dict[str, str]:
                return {"status": "ok", "prefix": os.environ["PATH_PREFIX"]}

            uvicorn.run(app, host=os.environ["HOST"], port=int(os.environ["PORT"]))
        """),
    )
    image = project.build(
        textwrap.dedent(f"""\
            FROM python:3.11-slim-bookworm AS build
            COPY --from=ghcr.io/astral-sh/uv:{uv} /uv /uvx /bin/
            ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
            WORKDIR /app
            RUN uv venv && uv pip install fastapi=={fastapi} uvicorn=={uvicorn}

            FROM python:3.11-slim-bookworm
            WORKDIR /app
            COPY --from=build /app/.venv /app/.venv
            COPY service /app/service
            ENV PATH=/app/.venv/bin:$PATH
            USER 10001:10001
            CMD ["python", "-m", "service"]
        """)
    )
    port = free_port()

    async def run() -> dict[str, str]:
        environment = {"HOST": "127.0.0.1", "PORT": str(port), "PATH_PREFIX": "/api"}
        process = await start(image, environment=environment, log_file=project.folder / "log")
        try:
            return await asyncio.to_thread(get, f"http://127.0.0.1:{port}/health")
        finally:
            assert (await process.stop(5)).code == 0, (project.folder / "log").read_text()

    assert asyncio.run(run()) == {"status": "ok", "prefix": "/api"}


def get(url: str) -> dict[str, str]:
    def answer() -> dict[str, str] | None:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                result: dict[str, str] = json.load(response)
                return result
        except (urllib.error.URLError, ConnectionError):
            return None

    return until(answer, f"an answer at {url}")


@pytest.mark.parametrize(("flags", "sources"), [("", "/a/x /b/x"), ("--chmod=755", "/b/x"), ("--chmod=755", "/b")])
def test_copy_from_a_stage_leaves_the_stages_own_files_unchanged(project: Any, flags: str, sources: str) -> None:
    project.write("a/x", "a")
    project.write("b/x", "b")
    project.write(
        "Dockerfile",
        f"""
FROM python:3.11-slim AS build
COPY a/x /a/x
COPY b/x /b/x
FROM python:3.11-slim
COPY --from=build {flags} {sources} /out/
""",
    )
    stage = project.build(target="build")
    assert project.files(project.build()) == {"out/x": "b"}
    assert project.files(stage) == {"a/x": "a", "b/x": "b"}
    modes = [file.stat().st_mode & 0o777 for layer in stage.layers for file in layer.rglob("x")]
    assert modes == [0o644, 0o644]
