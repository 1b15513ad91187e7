"""Fixtures of this folder: see `environment.py`; the running environment is in `tests/conftest.py`."""

from .environment import PROJECT, Rehearsal, rehearsal_in

__all__ = ["PROJECT", "Rehearsal", "rehearsal_in"]
