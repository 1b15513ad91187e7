"""Runs the steps of a plan, in parallel where the plan allows it. It makes no decisions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from alva.aws import Aws, Interrupted
from alva.errors import AlvaError, StackFailed, TimedOut
from alva.release import drift_repairs, images, migration, rollout
from alva.release.plan import (
    ApplyServices,
    ApplyStack,
    CheckSecrets,
    Migrate,
    Plan,
    PublishImage,
    RevertDrift,
    Step,
    Wanted,
    stack_parameters,
)
from alva.release.reporting import Reporter
from alva.release.secrets import Secrets
from alva.release.stacks import Stacks

SIDE_BY_SIDE = 8

STEP_TIMEOUT_SECONDS = 1800.0
"""AWS creates a database in 10 to 20 minutes; no other step takes longer."""


@dataclass
class Executor:
    """One run of one plan."""

    aws: Aws
    wanted: Wanted
    builder: images.Builder
    reporter: Reporter
    secret_values: Mapping[str, str] | None = None
    """Generate secrets, and set these by name; None: only check the secrets."""
    step_timeout_seconds: float = STEP_TIMEOUT_SECONDS
    """The time limit of a step."""
    digests: dict[str, str] = field(init=False)
    """Service name -> digest; complete when all images are built."""
    step_seconds: dict[str, float] = field(default_factory=dict, init=False)
    begun: set[str] = field(default_factory=set, init=False)
    done: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.digests = {name: digest for name, digest in self.wanted.digests.items() if digest is not None}

    def run(self, plan: Plan) -> None:
        """Run each step after the steps that it waits for.

        The first failure stops the run: running steps finish, no other step starts, and the error is raised. A
        KeyboardInterrupt makes the running steps stop waiting; AWS continues its operations, and the next run waits for
        them.
        """
        waiting = {step.key: step for step in plan.steps}
        running: dict[Future[None], Step] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE, thread_name_prefix="release") as pool:
            try:
                while running or (waiting and failure is None):
                    if failure is None:
                        for step in [s for s in waiting.values() if self.done.issuperset(s.after)]:
                            del waiting[step.key]
                            running[pool.submit(self._run_step, step)] = step
                    finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in finished:
                        step = running.pop(future)
                        error = future.exception()
                        if error is None:
                            self.done.add(step.key)
                        elif failure is None or isinstance(failure, Interrupted):
                            failure = error
            except KeyboardInterrupt:
                self.aws.poll.interrupt.set()
                raise
        if isinstance(failure, Interrupted):
            raise KeyboardInterrupt from failure
        if failure is not None:
            raise failure

    def _run_step(self, step: Step) -> None:
        if self.aws.poll.limit.has_passed:
            raise TimedOut(
                f'cannot start the step "{step.title}": the time limit of {self.aws.poll.limit.seconds:.0f} s has '
                "passed",
                next_step="./alva status",
            )
        started = time.monotonic()
        self.begun.add(step.key)
        self.reporter.step_started(step.key, step.title)
        try:
            detail = self._perform(step)
        except BaseException as error:
            if isinstance(error, AlvaError):
                self.reporter.step_finished(step.key, "failed", error.evidence[0] if error.evidence else "")
            else:
                self.reporter.step_finished(step.key, "cancelled" if isinstance(error, Interrupted) else "failed")
            raise
        self.step_seconds[step.key] = round(time.monotonic() - started, 2)
        self.reporter.step_finished(step.key, "done", detail)

    def _perform(self, step: Step) -> str:
        """Run one step; return a detail of its result, or an empty string."""
        manifest = self.wanted.manifest

        def line(text: str) -> None:
            self.reporter.step_line(step.key, text)

        match step:
            case PublishImage():
                service = manifest.service(step.service)
                if service.name not in self.digests:
                    self.digests[service.name] = self.builder.build(service, line)
                digest = self.digests[service.name]
                self.builder.push(service, digest, images.tag_of(digest), self.aws)
                return digest[7:19]
            case ApplyServices():
                rollout.roll_out(
                    self.aws,
                    manifest,
                    step.stack.name,
                    self.wanted.templates[step.stack.name],
                    self._parameters(),
                    line,
                    timeout_seconds=self.step_timeout_seconds,
                )
            case ApplyStack():
                template = step.template or self.wanted.templates[step.stack.name]
                stacks = Stacks(self.aws, timeout_seconds=self.step_timeout_seconds)
                try:
                    stacks.apply(step.stack.name, template, self._parameters(), manifest.tags, line)
                except StackFailed as error:
                    if not step.stack.is_optional:
                        raise
                    said = "; ".join((error.message, *error.evidence))
                    self.reporter.note(f"the release continues without stack {step.stack.name}: {said}")
                    return "failed; the release continues without it"
            case RevertDrift():
                drift_repairs.revert_drift(self.aws, manifest, step.repairs)
            case CheckSecrets():
                secrets = Secrets(self.aws, manifest)
                made = secrets.initialise(self.secret_values) if self.secret_values is not None else []
                secrets.require()
                return f"set {len(made)} of them now" if made else ""
            case Migrate():
                timeout_seconds = min(self.step_timeout_seconds, migration.TIMEOUT_SECONDS)
                migration.run(self.aws, manifest, line, timeout_seconds=timeout_seconds)
            case _:
                raise TypeError(f"no way to run a {type(step).__name__}")
        return ""

    def _parameters(self) -> dict[str, str]:
        values = stack_parameters(replace(self.wanted, digests=self.digests))
        return {key: value for key, value in values.items() if value is not None}
