"""Settings for the whole suite."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Estimating is slow beside drawing, and the first call of a process compiles: a deadline would fail at random.
settings.register_profile(
    "mi_callback",
    deadline=None,
    max_examples=40,
    derandomize=True,  # the same examples on every run: a red test is a change in the code, not bad luck
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mi_callback")

# Warnings are errors; these are Lightning's own affairs, which a test of this package can do nothing about.
LIGHTNING = (
    "ignore::FutureWarning:lightning",
    "ignore::FutureWarning:pytorch_lightning",
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in LIGHTNING:
        config.addinivalue_line("filterwarnings", line)
