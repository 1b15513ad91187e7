"""Generates the name of a resource whose template gives none."""

from __future__ import annotations

import secrets
import string


def physical_name(stack_name: str, logical_id: str, *, lowercase: bool = False, max_length: int = 255) -> str:
    """A new name in CloudFormation's form, `<stack>-<logical id>-<12 random characters>`.

    The part before the random characters is cut to `max_length` characters.
    CloudFormation Template Reference, "Name Type".
    """
    suffix = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(12))
    # RDS and ElastiCache refuse two hyphens in a row.
    start = f"{stack_name}-{logical_id}"[: max_length - 13].rstrip("-")
    return f"{start}-{suffix}".lower() if lowercase else f"{start}-{suffix}"
