"""Chunks in threads: each once, errors reach the caller, and a forked child has threads of its own."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation.parallel import run_in_threads


@pytest.mark.parametrize(("size", "chunk"), [(0, 5), (1, 5), (5, 5), (103, 10)])
def test_every_chunk_is_run_once(size, chunk):
    done = np.zeros(size, int)

    def task(start, stop):
        assert stop - start <= chunk
        done[start:stop] += 1

    run_in_threads(task, size, chunk)
    assert (done == 1).all()


def test_errors_reach_the_caller():
    def task(start, stop):
        raise RuntimeError("from a thread")

    with pytest.raises(RuntimeError, match="from a thread"):
        run_in_threads(task, 10, 2)


def _estimate(queue):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 20))
    queue.put(mutual_information(x, x[:, 0], space="scores", n_permutations=3).raw)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_measures_the_same():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    _estimate(queue)
    child = context.Process(target=_estimate, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get(timeout=5) == queue.get(timeout=5)
