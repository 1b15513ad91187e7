"""The error of an invalid setting."""

from __future__ import annotations


class SettingError(ValueError):
    """An invalid setting. Raised when the settings are constructed, before the synthesis."""

    def __init__(self, setting: str, value: object, expected: str) -> None:
        super().__init__(f"cannot use {value!r} for the setting {setting}\n  expected: {expected}")
        self.setting = setting
        self.value = value


def require(setting: str, holds: bool, value: object, expected: str) -> None:
    """Raise SettingError for `setting` unless `value` is as expected."""
    if not holds:
        raise SettingError(setting, value, expected)
