"""Candidate spaces: one-to-one maps that stretch what predicts the other side."""

import numpy as np

from mi_callback.estimation.spaces import normal_scores
from mi_callback.estimation.spaces.candidates import FittingHalf, augmentation, fit_candidates, radial


def test_every_candidate_is_one_to_one():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 8))
    y = x.mean(axis=1) * np.sqrt(8) + 0.3 * rng.standard_normal(600)
    zx, zy = normal_scores(x).astype(np.float32), normal_scores(np.c_[y, x[:, :2]]).astype(np.float32)
    candidates = fit_candidates(FittingHalf(zx, zy, n_fit=450, seed=0))
    names = {candidate.space.name for candidate in candidates}
    assert names == {
        "supervised: canonical",
        "supervised: radial",
        "supervised: index",
        "supervised: index posterior",
    }
    for candidate in candidates:
        space = candidate.refit()
        for mapped, values in ((space.map_x(zx), zx), (space.map_y(zy), zy)):  # the last columns are the values, shrunk
            tail = mapped[:, -values.shape[1] :]
            np.testing.assert_allclose(tail * (values[0, 0] / tail[0, 0]), values, rtol=1e-4, atol=1e-6)


def test_features_beside_the_values_and_radial_ones():
    values = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    augmented = augmentation(lambda v: v[:, :2] * np.float32([10, 5]), values)(values)
    np.testing.assert_allclose(augmented[:, :2].std(axis=0), [1, 0.5], rtol=0.1)
    np.testing.assert_allclose(augmented[:, 2:], 0.025 * values, rtol=1e-5)
    assert radial(values).shape == (500, 33)
    assert radial(values[:, :2]).shape == (500, 2)
    np.testing.assert_allclose(np.linalg.norm(radial(values)[:, 16:32], axis=1), 4, rtol=1e-4)
