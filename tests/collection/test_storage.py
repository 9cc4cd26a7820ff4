"""Arrays beyond the limit go to a file that has no name; what was collected is the same."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mi_callback.collection.errors import CollectionError
from mi_callback.collection.storage import Rows, Storage, default_limit


def filled(storage, capacity, n=60, d=5):
    rows = Rows(storage, capacity)
    values = torch.arange(n * d, dtype=torch.float32).reshape(n, d)
    for start in range(0, n, 16):
        rows.write(start, values[start : start + 16])
    return rows.finish(n), values.numpy()


@pytest.mark.parametrize("capacity", [60, None])
@pytest.mark.parametrize("limit", [10**6, 1000, 0])
def test_the_values_are_the_same_wherever_they_live(capacity, limit, tmp_path):
    """Evidence: the rows that were written, in memory, on disk, and growing from one into the other."""
    found, expected = filled(Storage(limit, str(tmp_path)), capacity)
    assert np.array_equal(found, expected)
    assert isinstance(found, np.memmap) == (limit < expected.nbytes)
    assert os.listdir(tmp_path) == []  # the file has no name while it is in use


def test_the_limit_counts_all_arrays_of_a_sweep(tmp_path):
    storage = Storage(3000, str(tmp_path))
    kinds = [isinstance(storage.empty((25, 10), np.dtype(np.float32)), np.memmap) for _ in range(4)]
    assert kinds == [False, False, False, True]


def test_a_full_disk_is_an_error_that_names_the_folder_and_the_limit(tmp_path):
    """Evidence: the kernel's own refusal, here by the limit on a file's size, in a process of its own."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import numpy as np\n"
        "from mi_callback.collection.storage import Storage\n"
        "try:\n"
        "    Storage(2 * 2**20, sys.argv[1]).empty((2**20, 3), np.dtype(np.float32))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("CollectionError"), run.stdout + run.stderr
    assert str(tmp_path) in run.stdout
    assert "2 MiB" in run.stdout
    assert "max_samples" in run.stdout


def test_a_folder_that_is_not_there_is_the_same_error(tmp_path):
    with pytest.raises(CollectionError, match=r"nowhere.*TMPDIR"):
        Storage(0, str(tmp_path / "nowhere")).empty((10, 10), np.dtype(np.float32))


def test_the_default_limit_is_a_share_of_what_is_free():
    assert 2**20 < default_limit() < 2**50
