"""Settings that every test shares."""

from __future__ import annotations

from hypothesis import settings

# The same examples on every machine and no deadline: a busy runner must not make a test fail.
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")
