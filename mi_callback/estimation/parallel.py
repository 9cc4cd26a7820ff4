"""Compiled kernels over row chunks in a thread pool: no nested parallelism, nothing global changed, safe to fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["n_workers", "run_in_threads"]


def n_workers() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_threads(task: Callable[[int, int], None], size: int, chunk: int) -> None:
    """Call ``task(start, stop)`` for the chunks of ``range(size)``, in threads where there is more than one.

    The tasks release the GIL and write to separate places; chunks do not depend on the number of threads, so neither do
    results.
    """
    starts = range(0, size, chunk)
    workers = min(n_workers(), len(starts))
    if workers <= 1:
        for start in starts:
            task(start, min(start + chunk, size))
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda start: task(start, min(start + chunk, size)), starts):
            pass
