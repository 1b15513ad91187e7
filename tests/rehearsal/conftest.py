"""What the tests of this folder share: see `environment.py`; the environment that is up is in `tests/conftest.py`."""

from .environment import PROJECT, Rehearsal, rehearsal_in

__all__ = ["PROJECT", "Rehearsal", "rehearsal_in"]
