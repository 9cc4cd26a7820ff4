"""Medians of repeated runs, and what a benchmark must say of the machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

from mi_callback.estimation.parallel import n_workers

__all__ = ["machine", "median_seconds"]


def median_seconds(task: Callable[[], object], repeats: int = 3, warm_up: int = 1) -> float:
    """Median wall time of a task, after runs that do not count."""
    for _ in range(warm_up):
        task()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def machine() -> str:
    """Cores and versions, for the head of a report."""
    import faiss
    import numba
    import numpy

    return (
        f"{n_workers()} cores, {platform.machine()}, Python {platform.python_version()}, numpy {numpy.__version__}, "
        f"faiss {faiss.__version__}, numba {numba.__version__}"
    )
