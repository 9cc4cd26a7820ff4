"""Threads of our own: compiled kernels over row chunks, tasks side by side, and no BLAS threads in their way."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

__all__ = [
    "Team",
    "in_own_thread",
    "n_workers",
    "one_blas_thread",
    "run_in_threads",
    "run_shared",
    "run_side_by_side",
    "shared_among",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_own = threading.local()  # marks the threads of the pool, and knows with whom a thread shares its work
_limits = threading.Lock()
_limited: list[Any] = []  # the limiter in force, once for everyone who has asked for it


def n_workers() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool(_process: int, workers: int) -> ThreadPoolExecutor:
    """A pool of this process; a forked child, where the threads are gone, gets one of its own."""
    return ThreadPoolExecutor(workers, "mi_callback", initializer=setattr, initargs=(_own, "marked", True))


def in_own_thread(task: Callable[[], _Result]) -> _Result:
    """Result of a task that runs in a thread of the pool: the calling one if it is of the pool, else one that is free.

    For what sets the number of OpenMP threads. OpenMP keeps it for each thread, and torch may share the library: set in
    a thread that trains, it would change how torch splits its sums from then on, and so their last bits.
    """
    if getattr(_own, "marked", False):
        return task()
    return _pool(os.getpid(), n_workers()).submit(task).result()


def run_in_threads(task: Callable[[int, int], None], size: int, chunk: int) -> None:
    """Call ``task(start, stop)`` for the chunks of ``range(size)``, in threads of our own if there are several.

    The tasks release the GIL and write to separate places; chunks do not depend on the number of threads, so neither do
    results. A single chunk is run where it is called from: handing it over would take longer than many of them.
    """
    if size <= chunk:
        task(0, size)
        return
    turn = itertools.count()  # next() on it is atomic: each chunk is taken once

    def work() -> None:
        while (start := next(turn) * chunk) < size:
            task(start, min(start + chunk, size))

    pool = _pool(os.getpid(), n_workers())
    for done in [pool.submit(work) for _ in range(min(n_workers(), -(-size // chunk)))]:
        done.result()


class Team(Protocol):
    """Processes that do the same, and share out what is dear: all that hold the same samples."""

    @property
    def rank(self) -> int:
        """This one."""

    @property
    def size(self) -> int:
        """How many there are."""

    def share(self, value: _Result) -> list[_Result]:
        """The values of all, in order of rank, on every one; an error on every one if one of them failed before."""


@contextmanager
def shared_among(team: Team | None) -> Iterator[None]:
    """Share out what the calling thread hands to ``run_shared``; not what threads of its own do."""
    before, _own.team = getattr(_own, "team", None), team
    try:
        yield
    finally:
        _own.team = before


def run_shared(
    task: Callable[[int, int], None], size: int, chunk: int, written: Callable[[int, int], list[NDArray[Any]]]
) -> None:
    """Call ``task(start, stop)`` for the chunks of ``range(size)``, as ``run_in_threads`` does, each on one process.

    Chunks do not depend on the number of processes, so neither do results.

    Args:
        task: as for ``run_in_threads``.
        size: number of items.
        chunk: items a call.
        written: the parts of arrays, as views, that calls for a range write; they are the same everywhere in the end.
    """
    team: Team | None = getattr(_own, "team", None)
    if team is None:
        run_in_threads(task, size, chunk)
        return
    n_chunks = -(-size // chunk)
    ends = [min(rank * n_chunks // team.size * chunk, size) for rank in range(team.size + 1)]
    first, last = ends[team.rank : team.rank + 2]
    if first < last:
        run_in_threads(lambda start, stop: task(first + start, first + stop), last - first, chunk)
    parts = team.share([np.ascontiguousarray(part) for part in written(first, last)])
    for rank, found in enumerate(parts):
        for place, part in zip(written(*ends[rank : rank + 2]), found, strict=True):
            place[...] = part


def run_side_by_side(task: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Results of a task for a few items, in their order; in threads that may themselves call ``run_in_threads``."""
    if n_workers() == 1:
        return [task(item) for item in items]
    with ThreadPoolExecutor(min(n_workers(), len(items))) as pool:
        return list(pool.map(task, items))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS libraries to the calling thread, those on OpenMP threads excepted; as it was once nobody is within.

    Between the many small products of a fit, the threads of a BLAS spin on the cores that ours need: twice the time. An
    OpenBLAS on OpenMP, which FAISS brings, passes its number on to OpenMP, and so perhaps to torch: it is left alone.
    """
    own = _limiting(os.getpid())
    with _limits:
        _limited.append(_limited[0] if _limited else own.submit(lambda: _blas().limit(limits=1).__enter__()).result())
    try:
        yield
    finally:
        with _limits:
            limiter = _limited.pop()
            if not _limited:
                own.submit(limiter.__exit__, None, None, None).result()


@lru_cache(maxsize=1)
def _limiting(_process: int) -> ThreadPoolExecutor:
    """The thread that sets and restores limits: threadpoolctl 3.8 ignores all threads but the one that set them."""
    return ThreadPoolExecutor(1, "mi_callback_blas")


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    libraries = ThreadpoolController().select(user_api="blas")
    layers = {getattr(library, "threading_layer", None) for library in libraries.lib_controllers}
    return libraries.select(threading_layer=list(layers - {"openmp"}))
