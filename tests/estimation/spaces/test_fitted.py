"""Estimates in fitted spaces, through the public function."""

import numpy as np
import pytest

from mi_callback.estimation import mutual_information
from mi_callback.estimation.spaces import normal_scores
from mi_callback.estimation.spaces.augmentation import append, radial
from mi_callback.estimation.spaces.candidates import FittingHalf, fit_candidates
from mi_callback.estimation.spaces.selection import choose_spaces
from mi_callback.estimation.targets import LabelTarget


def draw(signal, n=2_500, d=32, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, signal(x.mean(axis=1) * np.sqrt(d), x) + noise * rng.standard_normal(n)


WIDE = {  # truth by quadrature, in nats; and how much of it must be read at this size
    "linear": (lambda u, x: u, 1.247, 0.9),
    "square": (lambda u, x: u**2, 1.141, 0.8),
    "sine": (lambda u, x: np.sin(2 * u), 0.861, 0.8),
    "ring": (lambda u, x: np.sqrt(u**2 + x[:, 0] ** 2), 0.855, 0.7),
}


@pytest.mark.parametrize("case", WIDE)
def test_wide_layers_are_read_where_plain_neighbours_read_nothing(case):
    signal, truth, share = WIDE[case]
    x, y = draw(signal)
    plain = mutual_information(x, y, space="scores", unit="nats", n_permutations=0)
    auto = mutual_information(x, y, unit="nats", n_permutations=20)
    assert plain.raw < 0.4 * truth
    assert share * truth < auto.mi < 1.08 * truth
    assert auto.space.startswith("supervised: ")
    assert auto.p_value == 1 / 21
    assert abs(auto.null_mean) < 0.03
    assert 0.005 < auto.stderr < 0.1


def test_several_targets_and_classes():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2_500, 20))
    y = rng.standard_normal((2_500, 20))
    y[:, :2] = 0.8 * x[:, :2] + 0.6 * y[:, :2]
    assert mutual_information(x, y, unit="nats", n_permutations=5).mi == pytest.approx(1.022, abs=0.12)
    labels = rng.integers(4, size=2_500)
    means = np.array([[2, 0], [-2, 0], [0, 2], [0, -2]])
    x[:, :2] += means[labels]
    assert mutual_information(x, labels, unit="nats", n_permutations=5).mi == pytest.approx(1.0, abs=0.08)


def test_independence_reads_zero():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((800, 30)), rng.standard_normal((800, 2))
        for space in ("auto", "supervised"):
            estimate = mutual_information(x, y, space=space, unit="nats", n_permutations=20, seed=seed)
            assert abs(estimate.mi) < 4 * max(estimate.null_std, estimate.stderr)


@pytest.mark.parametrize(("n", "d"), [(120, 1), (350, 1), (350, 3), (1_500, 2)])
def test_where_normal_scores_do_well_they_are_kept(n, d):
    rng = np.random.default_rng(n)
    x = rng.uniform(-3, 3, (n, d))
    y = x[:, 0] ** 2 - x[:, 0] + (0.2 if d == 1 else 2) * rng.standard_normal(n)
    scores, auto = (
        mutual_information(x, y, space=space, unit="nats", n_permutations=0) for space in ("scores", "auto")
    )
    assert auto.raw > scores.raw - 1e-12
    if d == 1:
        assert auto.space == "scores"
        assert auto.raw == scores.raw


def test_results_repeat_and_do_not_see_monotone_maps_or_global_seeds():
    x, y = draw(lambda u, x: u**2, n=1_000, d=10)
    first = mutual_information(x, y, n_permutations=3)
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    second = mutual_information(np.exp(x), np.exp(y), n_permutations=3)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert first.raw == second.raw
    assert (first.null == second.null).all()
    assert first.space == second.space


def test_rare_classes_constant_parts_and_few_samples_fall_back():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 5))
    labels = np.r_[np.zeros(150, int), np.ones(147, int), [2, 2, 2]]
    assert mutual_information(x, labels, space="supervised", n_permutations=0).space == "scores"
    assert mutual_information(x[:40], x[:40, 0], space="supervised", n_permutations=0).space == "scores"
    dead = np.zeros((300, 4))
    dead[:2, 0] = 1, 2
    assert np.isfinite(mutual_information(dead, x[:, 0], n_permutations=2).raw)


def test_a_class_too_small_to_split_is_merged_and_costs_little():
    rng = np.random.default_rng(3)
    labels = rng.integers(4, size=2_000)
    x = rng.standard_normal((2_000, 30))
    x[:, :2] += np.array([[2, 0], [-2, 0], [0, 2], [0, -2]])[labels]
    common = mutual_information(x, labels, unit="nats", n_permutations=5)
    labels[:3] = 4
    labels[3:8] = 5
    rare = mutual_information(x, labels, unit="nats", n_permutations=5)
    assert common.space.startswith("supervised")
    assert rare.space.startswith("supervised")
    assert rare.space.endswith(", rare classes merged")
    assert rare.mi == pytest.approx(common.mi, abs=0.05)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([100, 90], [100, 90]),
        ([100, 90, 5, 4], [100, 90, 9]),
        ([100, 90, 12, 5], [100, 90, 17]),
        ([100, 90, 1, 2, 3], None),  # would reach 8 only with a class of 90
        ([5, 5], None),
    ],
)
def test_rare_classes_are_merged_smallest_first(sizes, expected):
    target = LabelTarget.build(np.repeat(np.arange(len(sizes)), sizes)).with_members(8, 0.1)
    assert (target.sizes.tolist() if target is not None else None) == expected


def test_candidates_see_the_fitting_half_only():
    x, y = draw(lambda u, x: u, n=600, d=8)
    zx, zy = normal_scores(x).astype(np.float32), normal_scores(y[:, None]).astype(np.float32)
    choices = choose_spaces(zx, zy, n_classes=0, k=3, metric="euclidean", seed=0)
    assert np.array_equal(np.sort(np.concatenate([c.held_out for c in choices])), np.arange(600))
    held_out = choices[0].held_out
    spoiled = zy.copy()
    spoiled[held_out] = np.random.default_rng(0).permutation(zy[held_out])
    again = choose_spaces(zx, spoiled, n_classes=0, k=3, metric="euclidean", seed=0)
    assert again[0].space.name == choices[0].space.name
    assert (again[0].space.map_x(zx) == choices[0].space.map_x(zx)).all()
    assert (again[0].ahead == choices[0].ahead).all()


def test_every_candidate_is_one_to_one():
    x, y = draw(lambda u, x: u, n=600, d=8)
    zx, zy = normal_scores(x).astype(np.float32), normal_scores(np.c_[y, x[:, :2]]).astype(np.float32)
    candidates = fit_candidates(FittingHalf(zx, zy, 0, 450, 0))
    names = {candidate.space.name for candidate in candidates}
    assert names == {
        "supervised: canonical",
        "supervised: radial",
        "supervised: index",
        "supervised: index posterior",
        "supervised: network",
    }
    for candidate in candidates:
        space = candidate.refit()
        assert space.preserves_information
        for mapped, values in ((space.map_x(zx), zx), (space.map_y(zy), zy)):  # the last columns are the values, shrunk
            tail = mapped[:, -values.shape[1] :]
            np.testing.assert_allclose(tail * (values[0, 0] / tail[0, 0]), values, rtol=1e-4, atol=1e-6)


def test_appending_and_radial_features():
    values = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    appended = append(lambda v: v[:, :2] * np.float32([10, 5]), values)(values)
    np.testing.assert_allclose(appended[:, :2].std(axis=0), [1, 0.5], rtol=0.1)
    np.testing.assert_allclose(appended[:, 2:], 0.025 * values, rtol=1e-5)
    assert radial(values).shape == (500, 33)
    assert radial(values[:, :2]).shape == (500, 2)
    np.testing.assert_allclose(np.linalg.norm(radial(values)[:, 16:32], axis=1), 4, rtol=1e-4)
