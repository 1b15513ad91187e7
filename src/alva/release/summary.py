"""Formats a release as Markdown, for the summary of a GitHub Actions run."""

from __future__ import annotations

from alva.release.ledger import Ledger, Release

OUTCOME_MARKS = {"succeeded": "✅", "rolled back": "↩️", "failed": "❌", "interrupted": "⏸️"}


def shown(ledger: Ledger, run: str) -> Release | None:
    """Return the release that the page of a pipeline's run shows; outside of a pipeline, the newest one.

    A run that recorded no release shows none.
    """
    if not run:
        return ledger.latest()
    return next((release for release in ledger.history() if release.run == run), None)


def markdown(environment: str, release: Release | None, *, url: str = "", run: str = "") -> str:
    """Return the release's outcome, cause, digests and step durations.

    `run` is the URL of the pipeline run that the page belongs to.
    """
    if release is None:
        said = (
            "This run recorded no release: it was refused before the first change, or killed. "
            "`./alva status` shows what runs."
            if run
            else "No release yet."
        )
        return f"### {environment}\n\n{said}\n"
    mark = OUTCOME_MARKS.get(release.outcome, "")
    lines = [
        f"### {mark} Release {release.number} of {environment}: {release.outcome_in_words}".replace("###  ", "### "),
        "",
        f"Commit `{release.commit}`, by {release.by}, {release.started_at}, {release.seconds:.0f} s."
        + (f" <{url}/>" if url else "")
        + (f" [Run]({release.run})" if release.run else ""),
        "",
        "| service | digest |",
        "| --- | --- |",
        *(f"| {name} | `{digest}` |" for name, digest in sorted(release.digests.items())),
    ]
    if release.step_seconds:
        lines += ["", "| step | seconds |", "| --- | ---: |"]
        longest_first = sorted(release.step_seconds.items(), key=lambda item: -item[1])
        lines += [f"| {name} | {seconds:.1f} |" for name, seconds in longest_first]
    if release.cause:
        lines += ["", "```", release.cause.replace("```", "'''"), "```"]
    return "\n".join([*lines, ""])
