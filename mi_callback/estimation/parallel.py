"""Compiled kernels over row chunks in threads: no nested parallelism, nothing global changed, safe to fork."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

__all__ = ["n_workers", "run_in_threads"]


def n_workers() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool(_process: int, workers: int) -> ThreadPoolExecutor:
    """A pool of this process; a forked child, where the threads are gone, gets one of its own."""
    return ThreadPoolExecutor(workers, thread_name_prefix="mi_callback")


def run_in_threads(task: Callable[[int, int], None], size: int, chunk: int) -> None:
    """Call ``task(start, stop)`` for the chunks of ``range(size)``, in threads of our own.

    The tasks release the GIL and write to separate places; chunks do not depend on the number of threads, so neither do
    results.
    """
    turn = itertools.count()  # next() on it is atomic: each chunk is taken once

    def work() -> None:
        while (start := next(turn) * chunk) < size:
            task(start, min(start + chunk, size))

    pool = _pool(os.getpid(), n_workers())
    for done in [pool.submit(work) for _ in range(min(n_workers(), -(-size // chunk)))]:
        done.result()
