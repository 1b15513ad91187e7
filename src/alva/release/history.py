"""A history of entries in an SSM parameter: each version is one entry.

Parameter Store keeps the last 100 versions of a parameter and deletes the oldest for each further one
(https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from alva.aws import Aws, error_code, explained, pages

PARAMETER_BYTES = 4096
"""The size of a standard parameter (https://docs.aws.amazon.com/general/latest/gr/ssm.html, "Systems Manager service
quotas").
"""

Entry = TypeVar("Entry")


class History(Generic[Entry]):
    """The entries of one parameter. `read` parses a version's text and number."""

    def __init__(
        self, aws: Aws, parameter_name: str, *, of: str, description: str, read: Callable[[str, int], Entry]
    ) -> None:
        self._aws = aws
        self._of = of
        self._description = description
        self._read = read
        self.parameter_name = parameter_name

    def add(self, text: str) -> int:
        """Add an entry and return its number; raises AlvaError."""
        with explained(f"write {self._of}"):
            return self._aws.ssm.put_parameter(
                Name=self.parameter_name,
                Value=text,
                Type="String",
                Overwrite=True,
                Description=f"{self._description}: one version each. Written by ./alva",
            )["Version"]

    def latest(self) -> Entry | None:
        """Return the last entry, or None if there is none; raises AlvaError."""
        with explained(f"read {self._of}"):
            try:
                parameter = self._aws.ssm.get_parameter(Name=self.parameter_name)["Parameter"]
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise
        return self._read(parameter["Value"], parameter["Version"])

    def all(self) -> list[Entry]:
        """Return all entries that Parameter Store has, newest first; raises AlvaError."""
        with explained(f"read {self._of}"):
            try:
                versions = list(pages(self._aws.ssm, "get_parameter_history", "Parameters", Name=self.parameter_name))
            except Exception as error:
                if error_code(error) == "ParameterNotFound":
                    return []
                raise
        # GetParameterHistory does not document an order.
        newest_first = sorted(versions, key=lambda version: -int(version["Version"]))
        return [self._read(version["Value"], version["Version"]) for version in newest_first]
