"""The cache of compiled kernels: used again, known to be stale when any file of kernels changes, and filled aloud."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mi_callback
from mi_callback.estimation import kernels

ESTIMATE = """
import numpy as np
from mi_callback.estimation.readings import read_table
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.targets import ScalarTarget
x, y = np.random.default_rng(0).standard_normal((2, 300))
print(read_table(NeighborTable.build(x[:, None], 64), ScalarTarget.build(y), 3).local.mean())
"""


def estimate(folder: Path) -> tuple[float, str]:
    """An estimate in a fresh process by the package in a folder, and what it says."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"PYTHONPATH": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", ESTIMATE], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return float(run.stdout), run.stderr


@pytest.mark.slow
def test_a_change_in_a_shared_helper_reaches_the_kernels_that_inlined_it(tmp_path):
    """Evidence: a helper of another file than the kernel's, broken between two processes."""
    package = Path(mi_callback.__file__).parent
    shutil.copytree(package, tmp_path / "mi_callback", ignore=shutil.ignore_patterns("__pycache__"))
    first, said = estimate(tmp_path)
    assert said.count("compiles its kernels") == 1
    assert estimate(tmp_path) == (first, ""), "from the cache, and silent"
    helpers = tmp_path / "mi_callback" / "estimation" / "kernels" / "basics.py"
    source = helpers.read_text()
    assert source.count("return above - below - 1") == 1
    helpers.write_text(source.replace("return above - below - 1", "return above - below"))
    second, said = estimate(tmp_path)
    assert second < first - 0.01, "one more neighbour is counted for each sample"
    assert said.count("compiles its kernels") == 1


def test_each_kernel_is_compiled_once_for_all_kinds_of_values():
    """Evidence: numba's list of specialisations, after estimates from several types of numbers."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64, np.int64):
        for d in (1, 3, 8):
            x = (3 * rng.standard_normal((60, d))).astype(dtype)
            for y in (x[:, 0] + rng.standard_normal(60), x[:, :1] + rng.standard_normal((60, 2))):
                mi_callback.mutual_information(x, y, n_permutations=1, space="raw")
            mi_callback.mutual_information(x, y[:, 0] > 0, n_permutations=1, space="scores")
    for name in ("scan_scalar", "scan_table", "scan_labels", "restrict_rows", "select_neighbors", "count_nearer"):
        assert len(getattr(kernels, name).signatures) <= 1, name
