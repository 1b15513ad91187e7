"""`ALVA_SERVICES`: a file that replaces `services.py`, for the services of another product."""

from __future__ import annotations

import os
import runpy

from lib.config.errors import SettingError
from lib.config.service import Migration, Service

VARIABLE = "ALVA_SERVICES"
EXPECTED = "a Python file that defines SERVICES and MIGRATION, as infrastructure/lib/config/services.py does"


def chosen_services(services: tuple[Service, ...], migration: Migration) -> tuple[tuple[Service, ...], Migration]:
    """Return SERVICES and MIGRATION of the file that ALVA_SERVICES names, or the arguments if the variable is not set.

    Raises SettingError if the file cannot be read or lacks one of the two.
    """
    file = os.environ.get(VARIABLE)
    if not file:
        return services, migration
    try:
        defined = runpy.run_path(file)
        return tuple(defined["SERVICES"]), defined["MIGRATION"]
    except (OSError, SyntaxError, ImportError, NameError, TypeError, KeyError) as error:
        raise SettingError(VARIABLE, f"{file} ({type(error).__name__}: {error})", EXPECTED) from error
