"""Template rules for AWS only: the local region accepts what they find."""

from __future__ import annotations

import json
from collections.abc import Iterator

from alva.checks.findings import Inputs


def unset_settings(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """The settings for AWS are set: repository, sender of mails, address of alarms.

    Checked only with `--target aws`.
    """
    for setting, expected in inputs.assembly.manifest.get("unset_settings", {}).items():
        yield setting, f"is not set; expected: {expected}"


def ascii_templates(inputs: Inputs) -> Iterator[tuple[object, str]]:
    """Templates are ASCII: GetTemplate returns `?` for other characters, so every release would find a difference.

    https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/814
    """
    for stack, template in inputs.assembly.templates.items():
        for path, text in _texts(template, ()):
            if not text.isascii():
                yield stack, f"{'/'.join(path)} is {json.dumps(text)}"


def _texts(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield all strings of a template, including keys, with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield (*path, str(key)), str(key)
            yield from _texts(each, (*path, str(key)))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, (*path, str(index)))
