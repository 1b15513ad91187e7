"""Builds a Dockerfile without Docker.

Each COPY and RUN makes one layer, which is cached under a key of all its inputs. COPY's key is its files' content,
independent of earlier layers, so that an edit only rebuilds its own layer. RUN executes in a sandbox over the stage so
far, and its layer is the whole stage after it.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import posixpath
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from alva.errors import BuildFailed, SandboxFailed
from alva.region.images import tree
from alva.region.images.bases import find_base_name, find_outside_image
from alva.region.images.bytecode import cache_folder, compile_python
from alva.region.images.context import Context, Ignored, NotInContext, describe
from alva.region.images.dockerfile import (
    Dockerfile,
    DockerfileError,
    Instruction,
    NotSupported,
    parse,
    substitute,
)
from alva.region.images.run import Mount, RunFailed, read_mounts, run_in_stage
from alva.region.images.store import Configuration, Image, ImageStore, Layer
from alva.region.sandbox import Base, find_base
from alva.user_cache import link_file

_STEP_FORMAT = "1"
"""A part of every key. It changes when an instruction's layer changes without a change of its inputs."""
_MOST_ATTEMPTS = 5
_OF_THE_SYSTEM = re.compile(
    r"(?:^|[\s;&|(])(?:apt-get|apt|apk|dnf|yum|dpkg|addgroup|adduser|groupadd|useradd|corepack|"
    r"npm (?:i|install) (?:-g|--global))(?=\s|$)"
)
"""Programs that change an image's system folders."""


def build(
    dockerfile: Path,
    context: Path,
    store: ImageStore,
    *,
    target: str | None = None,
    arguments: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    cancelled: Event | None = None,
) -> Image:
    """Build `dockerfile` with `context` as its folder and return the image. Unchanged layers come from the cache.

    `target` stops at that stage; `arguments` are values for ARG; a build in a thread ends soon after `cancelled` is set
    (Ctrl-C reaches the main thread alone). `on_line` gets a line for each instruction that is not in the cache, and
    each line that RUN prints. Blocking (seconds when RUN executes). Can be called in parallel from threads and
    processes. Raises BuildFailed, naming the Dockerfile and its line.
    """
    try:
        with store.building():
            parsed = parse(dockerfile.read_text())
            files = Context(context.resolve(), Ignored.of(context, dockerfile))
            one = _Build(parsed, files, store, arguments or {}, on_line or (lambda _: None), cancelled or Event())
            return one.image(target)
    except DockerfileError as error:
        failure = NotBuildable if isinstance(error, NotSupported) else BuildFailed
        raise failure(
            f"cannot build {dockerfile}: line {error.line}: {error.problem}",
            evidence=error.evidence,
            next_step=error.next_step,
        ) from error
    except SandboxFailed as error:
        raise BuildFailed(
            f"cannot build {dockerfile}: {error.message}", evidence=error.evidence, next_step=error.next_step
        ) from error
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BuildFailed(
            f"cannot build {dockerfile}: {error}",
            next_step=f"free some space in {store.folder}, then build again" if is_full else None,
        ) from error


class NotBuildable(BuildFailed):
    """A Dockerfile that Docker can build and this builder cannot."""


@dataclass
class _Stage:
    """A stage during its build."""

    name: str
    base: Base
    configuration: Configuration
    image: str
    """The name in FROM."""
    layers: list[Layer] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    global_arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The values of $name; ENV overrides ARG."""
        return {**self.arguments, **self.configuration.environment}


class _Build:
    """One build of a Dockerfile."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        context: Context,
        store: ImageStore,
        arguments: Mapping[str, str],
        on_line: Callable[[str], None],
        cancelled: Event,
    ) -> None:
        self._dockerfile = dockerfile
        self._context = context
        self._store = store
        self._arguments = arguments
        self._on_line = on_line
        self._cancelled = cancelled
        self._stages: dict[str, _Stage] = {}

    def image(self, target: str | None) -> Image:
        """Build the stages that the target (or last) stage needs, and store the image."""
        wanted = target.lower() if target is not None else self._dockerfile.stages[-1].name
        if wanted not in {stage.name for stage in self._dockerfile.stages}:
            raise BuildFailed(f"cannot build stage {wanted}: no FROM ... AS {wanted}")
        stage = self._stage(wanted)
        return self._store.add(stage.configuration, stage.layers)

    def _stage(self, name: str) -> _Stage:
        """The stage `name`, built on first use; an unused stage is not built."""
        if name in self._stages:
            return self._stages[name]
        parsed = next(stage for stage in self._dockerfile.stages if stage.name == name)
        global_arguments: dict[str, str] = {}
        for instruction in self._dockerfile.arguments:
            global_arguments.update(self._argument(instruction, global_arguments, {}))
        base = substitute(parsed.base, global_arguments, parsed.line)
        stage = self._start(parsed.name, base, parsed.line)
        stage.global_arguments = global_arguments
        for instruction in parsed.instructions:
            self._execute(instruction, stage)
        self._stages[name] = stage
        return stage

    def _start(self, name: str, image: str, line: int) -> _Stage:
        earlier = self._earlier_stage(image, line)
        if earlier is not None:
            return dataclasses.replace(
                earlier,
                name=name,
                configuration=dataclasses.replace(
                    earlier.configuration, environment=dict(earlier.configuration.environment)
                ),
                layers=list(earlier.layers),
                arguments={},
            )
        try:
            base_name = find_base_name(image)
        except LookupError as error:
            raise NotSupported(line, f"FROM {error}") from error
        if base_name is None:
            raise NotSupported(line, f"FROM {image} is not supported here: use python:X.Y-slim, node:N-slim or a stage")
        try:
            base = find_base(base_name)
        except SandboxFailed as error:
            failure = NotSupported(line, f"FROM {image}: {error.message.removeprefix('cannot ')}")
            failure.evidence = error.evidence
            raise failure from error
        return _Stage(name, base, Configuration(base_name, environment=dict(base.environment)), image=image)

    def _earlier_stage(self, name: str, line: int) -> _Stage | None:
        """The stage `name` (or of that number), if it begins before `line`."""
        for number, stage in enumerate(self._dockerfile.stages):
            if stage.line < line and name.lower() in (stage.name, str(number)):
                return self._stage(stage.name)
        return None

    def _execute(self, instruction: Instruction, stage: _Stage) -> None:
        if self._cancelled.is_set():
            raise DockerfileError(instruction.line, "cancelled")
        configuration = stage.configuration
        match instruction.name:
            case "ARG":
                stage.arguments.update(self._argument(instruction, stage.variables, stage.global_arguments))
            case "ENV":
                configuration.environment.update(instruction.pairs(stage.variables))
            case "LABEL":
                configuration.labels = {**configuration.labels, **instruction.pairs(stage.variables)}
            case "WORKDIR":
                configuration.working_directory = self._inside(stage, self._text(instruction, stage))
            case "USER":
                configuration.user = self._user(instruction, stage)
            case "EXPOSE":
                words = instruction.words(stage.variables)
                ports = {int(word.removesuffix("/tcp")) for word in words if word.removesuffix("/tcp").isdigit()}
                if len(ports) != len(set(words)):
                    raise DockerfileError(instruction.line, f"EXPOSE {instruction.text}: expected TCP port numbers")
                configuration.exposed_ports = tuple(sorted({*configuration.exposed_ports, *ports}))
            case "VOLUME":
                paths = (self._inside(stage, path) for path in instruction.words(stage.variables))
                configuration.volumes = tuple(sorted({*configuration.volumes, *paths}))
            case "STOPSIGNAL":
                configuration.stop_signal = _signal(self._text(instruction, stage), instruction.line)
            case "ENTRYPOINT":
                # As in Docker, ENTRYPOINT discards the base's CMD.
                configuration.entrypoint = instruction.command()
            case "CMD":
                configuration.command = instruction.command()
            case "COPY":
                stage.layers.append(self._copy(instruction, stage))
            case "RUN":
                stage.layers[:] = [self._run(instruction, stage)]
            case _:
                raise AssertionError(instruction.name)

    def _text(self, instruction: Instruction, stage: _Stage) -> str:
        return substitute(instruction.text, stage.variables, instruction.line).strip("\"'")

    def _argument(
        self, instruction: Instruction, variables: Mapping[str, str], inherited: Mapping[str, str]
    ) -> dict[str, str]:
        """The value of an ARG: the build's argument, else its default, else that of the global ARG of its name."""
        values: dict[str, str] = {}
        for word in instruction.words(variables):
            name, has_default, default = word.partition("=")
            if name in self._arguments:
                values[name] = self._arguments[name]
            elif has_default:
                values[name] = default
            elif name in inherited:
                values[name] = inherited[name]
        return values

    def _user(self, instruction: Instruction, stage: _Stage) -> tuple[int, int] | None:
        named, _, group = self._text(instruction, stage).partition(":")
        user = self._number(named, stage)
        # Docker looks the group up in the image; an unknown user has group 0.
        group = self._number(group, stage) or (user if user in stage.base.users.values() else "0")
        if not (user.isdigit() and group.isdigit()):
            raise NotSupported(
                instruction.line,
                f"USER {instruction.text} is not supported here: write numbers, such as 10001:10001",
            )
        return (int(user), int(group)) if user != "0" else None

    def _number(self, name: str, stage: _Stage) -> str:
        """The uid, and so the gid, of one of the base's users; another name is returned unchanged."""
        return stage.base.users.get(name, name)

    def _inside(self, stage: _Stage, path: str) -> str:
        """`path` as an absolute path in the image, from the working directory, with the base's links followed."""
        absolute = posixpath.normpath(posixpath.join(stage.configuration.working_directory, path))
        first, _, rest = absolute.lstrip("/").partition("/")
        if first in stage.base.links:  # /bin is usr/bin
            return posixpath.join("/", stage.base.links[first], rest).rstrip("/")
        return absolute

    # -- COPY ---

    def _copy(self, instruction: Instruction, stage: _Stage) -> Layer:
        *sources, destination = instruction.words(stage.variables)
        if not sources:
            raise DockerfileError(instruction.line, "COPY needs a source and a destination")
        inside = self._inside(stage, destination)
        # A file is copied into a destination that is a folder, and otherwise becomes the destination.
        is_folder = destination.endswith(("/", "/.")) or destination == "." or self._is_folder(stage, inside)
        if len(sources) > 1 and not destination.endswith(("/", "/.")) and destination != ".":
            raise DockerfileError(instruction.line, f"COPY of several sources needs a folder: write {destination}/")
        owner = instruction.flag("chown")
        if owner is not None:
            owner = ":".join(self._number(name, stage) for name in owner.split(":"))
        for flag in ("chown", "chmod"):
            value = owner if flag == "chown" else instruction.flag(flag)
            if value is not None and not re.fullmatch(r"[0-7]{3,4}" if flag == "chmod" else r"\d+(:\d+)?", value):
                raise NotSupported(
                    instruction.line, f"COPY --{flag}={value} is not supported here: write it in numbers"
                )
        from_ = instruction.flag("from")
        if from_ is None:
            return self._copy_from_context(instruction, sources, inside, is_folder, owner)
        name = substitute(from_, stage.global_arguments, instruction.line)
        return self._copy_from_image(instruction, name, sources, inside, is_folder, owner)

    def _copy_from_context(
        self, instruction: Instruction, sources: Sequence[str], inside: str, is_folder: bool, owner: str | None
    ) -> Layer:
        for _ in range(_MOST_ATTEMPTS):
            selected = self._select(instruction, sources, inside, is_folder)
            key = _key("COPY", inside, is_folder, instruction.flags, describe(selected))
            with self._store.making(key):
                layer = self._store.find_step(key)
                if layer is not None:
                    return layer
                self._on_line(f"COPY {instruction.text}")
                with self._store.work_folder() as work:
                    root = work / "root"
                    root.mkdir()
                    for place, file in selected:
                        if place.endswith("/"):
                            (root / place).mkdir(parents=True, exist_ok=True)
                        else:
                            tree.copy_file(file, root / place)
                    # A file changed during the copy, so the copy may be a mixture of the old and new files.
                    if _key("COPY", inside, is_folder, instruction.flags, describe(selected)) == key:
                        return self._keep(key, root, instruction, owner)
        raise DockerfileError(
            instruction.line, f"COPY {instruction.text}: the files keep changing while they are copied"
        )

    def _select(
        self, instruction: Instruction, sources: Sequence[str], inside: str, is_folder: bool
    ) -> list[tuple[str, Path]]:
        try:
            return list(self._context.select(sources, inside.lstrip("/"), is_folder=is_folder))
        except NotInContext as error:
            raise DockerfileError(instruction.line, f"{instruction.name} {error}") from error

    def _copy_from_image(
        self,
        instruction: Instruction,
        name: str,
        sources: Sequence[str],
        inside: str,
        is_folder: bool,
        owner: str | None,
    ) -> Layer:
        stage = self._earlier_stage(name, instruction.line)
        if stage is not None:
            origin: object = [layer.digest for layer in stage.layers]
            roots = [self._store.layer_folder(layer.digest) for layer in stage.layers]
        else:
            outside = self._outside_image(instruction, name)
            origin, roots = name, [outside]
        key = _key("COPY", inside, is_folder, instruction.flags, origin, list(sources))
        with self._store.making(key):
            layer = self._store.find_step(key)
            if layer is not None:
                return layer
            self._on_line(f"COPY --from={name} {instruction.text}")
            with self._store.work_folder() as work:
                root = work / "root"
                # A hard link would change the owner or mode of the stage's own file.
                changes_files = bool(instruction.flag("chown") or instruction.flag("chmod"))
                for source in sources:
                    path = (self._inside(stage, "/" + source) if stage is not None else source).lstrip("/")
                    found = [folder / path for folder in roots if os.path.lexists(folder / path)]
                    if not found:
                        raise DockerfileError(
                            instruction.line,
                            f"COPY --from={name} {source}: not found among the files that the stage made",
                        )
                    place = root / inside.lstrip("/")
                    if not found[-1].is_dir():
                        target = place / found[-1].name if is_folder else place
                        target.parent.mkdir(parents=True, exist_ok=True)
                        if changes_files:
                            target.unlink(missing_ok=True)
                            shutil.copy2(found[-1].resolve(), target)
                        else:
                            link_file(found[-1].resolve(), target)
                    for folder in found if found[-1].is_dir() else []:
                        if changes_files:
                            tree.merge_copy([folder], place)
                        else:
                            tree.link_tree(folder, place)
                return self._keep(key, root, instruction, owner)

    def _outside_image(self, instruction: Instruction, name: str) -> Path:
        try:
            folder = find_outside_image(name)
        except LookupError as error:
            raise DockerfileError(instruction.line, f"COPY --from={error}") from error
        if folder is None:
            raise NotSupported(instruction.line, f"COPY --from={name} is neither a stage above nor a supported image")
        return folder

    def _keep(self, key: str, root: Path, instruction: Instruction, chown: str | None) -> Layer:
        """Finish a layer and add it to the store; `chown` is USER or USER:GROUP in numbers."""
        chmod = instruction.flag("chmod")
        if chmod is not None:
            tree.change_mode(root, int(chmod, 8))
        if chown is not None:
            uid, _, gid = chown.partition(":")
            tree.change_owner(root, int(uid), int(gid or uid))
        compile_python(root, cache_folder())  # last, because the cache's files are shared by hard links
        return self._store.add_step(key, root, owner=chown or "")

    def _is_folder(self, stage: _Stage, inside: str) -> bool:
        relative = inside.lstrip("/")
        if inside in ("/", stage.configuration.working_directory):
            return True
        if any((self._store.layer_folder(layer.digest) / relative).is_dir() for layer in stage.layers):
            return True
        return any(
            (source / relative[len(path) :].lstrip("/")).is_dir()
            for path, source in stage.base.folders.items()
            if source is not None and (relative == path or relative.startswith(path + "/"))
        )

    # -- RUN ---

    def _run(self, instruction: Instruction, stage: _Stage) -> Layer:
        if found := _OF_THE_SYSTEM.search(" ".join(instruction.command())):
            raise NotSupported(
                instruction.line,
                f"RUN {found[0].strip()} is not supported here: it changes the image's system, which is this machine's",
            )
        mounts = read_mounts(instruction, stage.variables)
        key = _key(
            "RUN",
            stage.base.identity,
            [layer.digest for layer in stage.layers],
            instruction.command(),
            stage.variables,
            stage.configuration.working_directory,
            stage.configuration.user,
            [(mount.kind, mount.target, self._describe_mount(instruction, mount)) for mount in mounts],
        )
        with self._store.making(key):
            layer = self._store.find_step(key)
            if layer is not None:
                return layer
            if stage.base.name.startswith("python:") and not _names_version(stage.image, stage.base.name):
                version = stage.base.name.partition(":")[2]
                self._on_line(f"FROM {stage.image}: this machine has no such Python, so its Python {version} is used")
            self._on_line(f"RUN {instruction.text}")
            with self._store.work_folder() as work:
                root = work / "root"
                root.mkdir()
                tree.merge_copy((self._store.layer_folder(layer.digest) for layer in stage.layers), root)
                try:
                    run_in_stage(
                        instruction.command(),
                        root,
                        base=stage.base,
                        environment=stage.variables,
                        working_directory=stage.configuration.working_directory,
                        user=stage.configuration.user,
                        mounts=[(mount, self._mount_source(mount)) for mount in mounts],
                        on_line=self._on_line,
                        cancelled=self._cancelled,
                    )
                except RunFailed as error:
                    if self._cancelled.is_set():
                        raise DockerfileError(instruction.line, "cancelled") from error
                    failure = DockerfileError(instruction.line, f"RUN {instruction.text[:200]}: exit code {error.code}")
                    failure.evidence = tuple(error.last_lines)
                    raise failure from error
                compile_python(root, cache_folder())
                return self._store.add_step(key, root)

    def _mount_source(self, mount: Mount) -> Path:
        if mount.kind == "cache":
            return self._store.cache_folder(mount.target)
        return self._context.root / mount.source

    def _describe_mount(self, instruction: Instruction, mount: Mount) -> str:
        if mount.kind == "cache":
            return ""
        return describe(self._select(instruction, [mount.source], "/", is_folder=True))


def _names_version(image: str, base_name: str) -> bool:
    """Whether `image` ("python:3.11.9-slim") has the version of `base_name` ("python:3.11")."""
    return re.search(rf"{re.escape(base_name)}(?![0-9])", image) is not None


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([_STEP_FORMAT, *parts], sort_keys=True).encode()).hexdigest()


def _signal(name: str, line: int) -> int:
    try:
        return int(name) if name.isdigit() else int(signal.Signals["SIG" + name.removeprefix("SIG")])
    except KeyError:
        raise DockerfileError(line, f"STOPSIGNAL {name}: no such signal") from None
