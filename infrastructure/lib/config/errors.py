"""What goes wrong in the settings, said so that the person who set them knows what to change."""

from __future__ import annotations


class SettingError(ValueError):
    """A setting with which no environment can be made. Raised at construction, before any synthesis."""

    def __init__(self, setting: str, value: object, expected: str) -> None:
        super().__init__(f"cannot use {value!r} for the setting {setting}\n  expected: {expected}")
        self.setting = setting
        self.value = value
