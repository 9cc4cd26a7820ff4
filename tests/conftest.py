"""Settings for the whole suite."""

from __future__ import annotations

import os

# Before OpenMP and BLAS are loaded: their threads sleep when they have nothing to do, instead of spinning for a while.
# How many there are stays as it is. A search of scikit-learn's takes a seventh of the processor time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 turns of the loop that waits, the fewest that it takes

import fcntl
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
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
    if hasattr(config, "workerinput"):  # one of several processes of pytest-xdist
        compile_one_after_the_other()


def compile_one_after_the_other() -> None:
    """Fill the cache of compiled kernels, or wait until another process has.

    Numba's cache is whole within a process; two that compile one function for different types at one time could mix
    them up, and would both take the minute.
    """
    from mi_callback import mutual_information

    with open(Path(tempfile.gettempdir()) / "mi_callback-tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rng = np.random.default_rng(0)
        for d in (1, 8):
            x = rng.standard_normal((60, d))
            for y in (x[:, 0], x[:, :1] + rng.standard_normal((60, 2)), x[:, 0] > 0):
                for n_points in (None, 50):
                    mutual_information(x, y, n_permutations=1, n_points=n_points)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Global generators start alike, so that a network's first weights do not depend on which tests ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
