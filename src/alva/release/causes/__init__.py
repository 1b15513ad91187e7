"""The texts by which the cause of a failure is recognised, each with who says it.

A text counts in the sources that are known to say it, in no other: an application's log may use words of AWS for
matters of its own. In a log only the form counts in which the program that fails writes it, and the advice is to look:
a log alone is no reason to delete, raise or rotate anything.

AWS: "Amazon ECS stopped tasks error messages", "Amazon ECS service event messages", "ELB target health reason codes".
PostgreSQL: https://www.postgresql.org/docs/16/errcodes-appendix.html
"""

from __future__ import annotations

from alva.release.causes.answers import EFFECTS, HEALTH, VERIFICATION
from alva.release.causes.connections import DATA
from alva.release.causes.known_cause import LOGS, KnownCause, Source
from alva.release.causes.tasks import IMAGE, LOG_GROUP, PLATFORM, RESOURCES, SECRETS

KNOWN_CAUSES = (*PLATFORM, *IMAGE, *LOG_GROUP, *SECRETS, *RESOURCES, *DATA, *HEALTH, *VERIFICATION, *EFFECTS)
"""The first that is found decides: those that name a cause stand before those that only describe its effect ("Essential
container in task exited")."""

__all__ = ["KNOWN_CAUSES", "LOGS", "PLATFORM", "KnownCause", "Source"]
