"""Finds the cause of a failure in what AWS and the services reported. A function of its arguments: it makes no
calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from alva.release.causes import KNOWN_CAUSES, LOGS, Source

SHOWN_CHARACTERS = 400

LAST_LOG = "last log: "
"""The prefix of a container's log line in an error's evidence."""

_SAYS_NOTHING = re.compile(r"^\s+at |^Node\.js v\d|^[\s^]*$")
"""Lines that Node prints after an error's message: stack frames, its version, a marker."""

_QUOTED_LOG = re.compile(rf"(?:[\w-]+: )?{LAST_LOG}(.*)", re.DOTALL)
"""A quoted log line, with the service's name before it where several services failed."""


@dataclass(frozen=True)
class ReportedText:
    """A text about a failure, with its origin."""

    source: Source
    text: str


def reported(source: Source, texts: Iterable[str]) -> tuple[ReportedText, ...]:
    """Attribute the texts to `source`; a quoted log line to the log."""
    return tuple(
        ReportedText(Source.LOG, quoted[1]) if (quoted := _QUOTED_LOG.match(text)) else ReportedText(source, text)
        for text in texts
        if text
    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The facts about one failed service, stack or step."""

    subject: str
    """The service (`api`), stack or step."""
    said: tuple[ReportedText, ...] = ()
    """The most specific first."""
    exit_codes: tuple[tuple[str, int], ...] = ()
    """The exit codes of containers that ended."""
    logs: tuple[str, ...] = ()
    """The last lines, oldest first."""
    port: int | None = None
    grace_seconds: int | None = None
    """The health check grace period."""
    ran_seconds: float | None = None
    count: int = 1
    """The number of failed tasks."""
    generated_name: str = "NAME"
    """The short name of the secret with the generated password, as `./alva secrets rotate` takes it."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One cause with its evidence and next step."""

    subject: str
    kind: str
    """The kind of the known cause."""
    cause: str
    evidence: tuple[str, ...]
    next_step: str

    def lines(self) -> list[str]:
        """Return the lines to print, each with the subject."""
        return [f"{self.subject}: {self.cause}", *(f"{self.subject}: {line}" for line in self.evidence)]

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "cause": self.cause,
            "evidence": list(self.evidence),
            "next": self.next_step,
        }


def diagnose(failure: Failure) -> Diagnosis:
    """Return the cause, or "unknown", with the lines that show it."""
    told = (*failure.said, *reported(Source.LOG, reversed(failure.logs)))
    for known in KNOWN_CAUSES:
        for each in told:
            found = re.search(known.pattern, each.text, re.IGNORECASE) if each.source in known.sources else None
            if found is not None:
                values = {
                    **found.groupdict(default=""),
                    "subject": failure.subject,
                    "port": failure.port,
                    "generated_name": failure.generated_name,
                }
                return Diagnosis(
                    subject=failure.subject,
                    kind=known.kind,
                    cause=known.cause.format(**values),
                    evidence=_evidence(failure, each),
                    next_step=known.next_step.format(**values),
                )
    kind, cause, next_step = _from_effects(failure)
    return Diagnosis(
        subject=failure.subject, kind=kind, cause=cause, evidence=_evidence(failure, None), next_step=next_step
    )


def _from_effects(failure: Failure) -> tuple[str, str, str]:
    """Derive the cause from health checks and exit codes alone."""
    words = "\n".join(each.text for each in failure.said if each.source is not Source.LOG)
    logs = LOGS.format(subject=failure.subject)
    after = f", {failure.ran_seconds:.0f} s after its start" if failure.ran_seconds is not None else ""
    listening = next((m for line in failure.logs if (m := re.search(r"running on \S+:(\d+)", line))), None)
    if "health checks" in words:
        if listening is not None and failure.port is not None and int(listening[1]) != failure.port:
            cause = f"it listens on port {listening[1]}, its target group uses port {failure.port}"
            return "wrong-port", cause, "Dockerfile, task definition and target group must use the same port"
        if listening is None and "exit" not in words:
            grace = f" ({failure.grace_seconds} s)" if failure.grace_seconds is not None else ""
            cause = f"no health check was answered within the grace period{grace}: it starts too slowly, or not at all"
            return "slow-start", cause, f"{logs}; raise the grace period if it is only slow"
        which = "container" if "container health checks" in words else "load balancer's"
        return "unhealthy", f"it runs but fails its {which} health check", logs
    failed = [(name, code) for name, code in failure.exit_codes if code != 0]
    for name, code in failed:
        if code == 137:
            return (
                "killed",
                f"its container {name} was killed{after}: it ignored SIGTERM, or ran out of memory",
                logs,
            )
        if code == 78:
            return "settings", f"its container {name} rejected its settings{after}", f"{logs}; then ./alva diff"
        if code == 143:
            return "terminated", f"its container {name} was stopped with SIGTERM{after}", "./alva status"
        return "crash", f"its container {name} ended with exit code {code}{after}", logs
    of_tasks = "\n".join(each.text for each in failure.said if each.source in (Source.TASK, Source.SERVICE))
    if "time limit" in of_tasks or "still running" in words:
        return "hanging", "it did not end within its time limit", logs
    if failure.exit_codes and "Essential container" in words:
        return "exit", f"its container {failure.exit_codes[0][0]} exited{after}: a service must keep running", logs
    return "unknown", failure.said[0].text if failure.said else "no cause is reported", f"./alva status; {logs}"


def _evidence(failure: Failure, telling: ReportedText | None) -> tuple[str, ...]:
    """Return the reported texts, the exit codes and the end of the log, always with the line that identified the
    cause.
    """
    shown = list(dict.fromkeys(failure.said))[:4]
    lines = [_line(each) for each in shown]
    if lines and failure.count > 1:
        lines[0] += f" ({failure.count} tasks)"
    lines += [f"container {name} ended with exit code {code}" for name, code in failure.exit_codes if code != 0]
    told = [line for line in failure.logs if not _SAYS_NOTHING.search(line)]
    last = list(reported(Source.LOG, (told or failure.logs)[-3:]))
    if telling is not None and telling not in (*shown, *last):
        last = [telling, *last[1:]] if telling.source is Source.LOG and last else [telling, *last]
    lines += [_line(each) for each in last]
    return tuple(line[:SHOWN_CHARACTERS] for line in dict.fromkeys(lines))


def _line(each: ReportedText) -> str:
    return f"{LAST_LOG}{each.text}" if each.source is Source.LOG else each.text
