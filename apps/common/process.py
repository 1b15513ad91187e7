"""The start of every process: read the settings and configure the logs."""

from __future__ import annotations

import sys

from common import logs
from common.settings import Settings, SettingsError, load

EXIT_WRONG_SETTINGS = 78
"""sysexits.h's EX_CONFIG."""


def load_or_exit(settings_class: type[Settings]) -> Settings:
    """Read the settings and configure the logs. Exit with 78 and one line per invalid setting on standard error."""
    try:
        settings = load(settings_class)
    except SettingsError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(EXIT_WRONG_SETTINGS)
    logs.configure(settings_class.service, settings.log_level, settings.secret_values)
    return settings
