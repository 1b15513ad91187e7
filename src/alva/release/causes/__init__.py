"""The known causes of failures: the texts that identify each cause, with the sources that can contain them.

A pattern applies only to its own sources, because an application's log can use the same words for something else. A
pattern for logs matches only the format of the program that fails, and its next step is to look: a log line alone does
not justify deleting, raising or rotating anything.

AWS: "Amazon ECS stopped tasks error messages", "Amazon ECS service event messages", "ELB target health reason codes".
PostgreSQL: https://www.postgresql.org/docs/16/errcodes-appendix.html
"""

from __future__ import annotations

from alva.release.causes.answers import EFFECTS, HEALTH, VERIFICATION
from alva.release.causes.connections import DATA
from alva.release.causes.known_cause import LOGS, KnownCause, Source
from alva.release.causes.tasks import IMAGE, LOG_GROUP, PLATFORM, RESOURCES, SECRETS

KNOWN_CAUSES = (*PLATFORM, *IMAGE, *LOG_GROUP, *SECRETS, *RESOURCES, *DATA, *HEALTH, *VERIFICATION, *EFFECTS)
"""The first match decides: causes come before the texts that describe only an effect ("Essential container in task
exited").
"""

__all__ = ["KNOWN_CAUSES", "LOGS", "PLATFORM", "KnownCause", "Source"]
