"""What the record of an estimate shows of itself."""

from __future__ import annotations

import numpy as np

from mi_callback import mutual_information


def test_an_estimate_shows_itself_in_one_short_line():
    """Evidence: the attributes it names. The null of 100 values is not among them."""
    x = np.random.default_rng(0).standard_normal((100, 1))
    estimate = mutual_information(x, np.repeat(x, 2, axis=1), space="scores", n_permutations=100)
    shown = repr(estimate)
    assert len(shown) < 200
    low, high = estimate.interval
    assert shown.startswith(f"MutualInformation({estimate.mi:.3f} in [{low:.3f}, {high:.3f}] bits, ")
    assert f"p_value={estimate.p_value:.3g}, n_samples=100, estimator='ksg', space='scores'" in shown
    assert all(flag.label in shown for flag in estimate.flags)
    assert "p_value" not in repr(mutual_information(x, x + 1, space="scores", n_permutations=0))
