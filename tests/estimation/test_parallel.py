"""Chunks in threads: each once, errors reach the caller, a forked child has threads of its own, BLAS is given back."""

from __future__ import annotations

import multiprocessing
import threading

import faiss
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from mi_callback import mutual_information
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.parallel import in_own_thread, one_blas_thread, run_in_threads, run_side_by_side


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


def test_side_by_side_keeps_the_order_and_may_use_threads_within():
    def task(item):
        done = np.zeros(50, int)
        run_in_threads(lambda start, stop: done.__setitem__(slice(start, stop), item), 50, 7)
        return done

    results = run_side_by_side(task, [1, 2, 3])
    assert [set(done.tolist()) for done in results] == [{1}, {2}, {3}]


def test_what_runs_in_a_thread_of_ours_never_runs_in_the_callers_and_does_not_wait_for_itself():
    here = threading.get_ident()
    assert in_own_thread(threading.get_ident) != here
    inner = in_own_thread(lambda: (threading.get_ident(), in_own_thread(threading.get_ident)))
    assert inner[0] == inner[1] != here
    with pytest.raises(RuntimeError, match="inside"):
        in_own_thread(lambda: (_ for _ in ()).throw(RuntimeError("inside")))


def blas_threads():
    """Threads of the BLAS libraries that do not run on OpenMP."""
    return [
        library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas" and library["threading_layer"] != "openmp"
    ]


@pytest.mark.parametrize("n", [60, 128, 350])
@pytest.mark.parametrize("fails", [False, True])
def test_numbers_of_threads_are_given_back(n, fails, monkeypatch):
    """Evidence: threadpoolctl, FAISS and torch themselves, at a number of threads that nothing here would choose."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 20))
    y = x[:, :2] + 0.1 * rng.standard_normal((n, 2))
    if fails:
        measure = NeighborTable.distances_to_all

        def fail(*arguments):
            measure(*arguments)
            raise RuntimeError("while it measures")

        monkeypatch.setattr(NeighborTable, "distances_to_all", fail)

    def numbers():
        return torch.get_num_threads(), faiss.omp_get_max_threads(), [one["num_threads"] for one in threadpool_info()]

    usual = faiss.omp_get_max_threads(), torch.get_num_threads()
    try:
        faiss.omp_set_num_threads(3)
        torch.set_num_threads(5)
        before = numbers()
        if fails:
            with pytest.raises(RuntimeError, match="while it measures"):
                mutual_information(x, y, n_permutations=2, space="supervised")
        else:
            mutual_information(x, y, n_permutations=2, space="supervised")
        assert numbers() == before
    finally:
        faiss.omp_set_num_threads(usual[0])
        torch.set_num_threads(usual[1])


def test_blas_threads_come_back_whoever_leaves_first_and_after_errors():
    before = blas_threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    assert set(blas_threads()) == {1}
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before
    with pytest.raises(RuntimeError), one_blas_thread():
        raise RuntimeError
    assert blas_threads() == before


def test_blas_threads_are_limited_from_any_thread():
    """Two threads within at once, the one that came first leaving first, after a third had been within.

    threadpoolctl 3.8 ignores limits that another thread sets while the one that set some before is alive: in the second
    thread BLAS went on with all its threads, which spun for the rest, twenty times as long as needed.
    """
    before = blas_threads()
    with one_blas_thread():
        pass
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
    seen = {}

    def first():
        with one_blas_thread():
            seen["first"] = blas_threads()
            first_is_in.set()
            assert second_is_in.wait(10)
        first_is_out.set()

    def second():
        assert first_is_in.wait(10)
        with one_blas_thread():
            second_is_in.set()
            assert first_is_out.wait(10)
            seen["second"] = blas_threads()

    threads = [threading.Thread(target=task) for task in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen["first"]) == set(seen["second"]) == {1}
    assert blas_threads() == before
