"""Estimates in fitted spaces, through the public function, and the competition that they win."""

import subprocess
import sys

import numpy as np
import pytest

from mi_callback.estimation import mutual_information
from mi_callback.estimation.spaces import normal_scores
from mi_callback.estimation.spaces.competition import compete
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
    assert 0.005 < auto.stderr < 0.2
    assert auto.interval[0] < truth < auto.interval[1]


@pytest.mark.slow
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
    winners = compete(zx, zy, k=3, metric="euclidean", seed=0)
    assert np.array_equal(np.sort(np.concatenate([w.held_out for w in winners])), np.arange(600))
    held_out = winners[0].held_out
    spoiled = zy.copy()
    spoiled[held_out] = np.random.default_rng(0).permutation(zy[held_out])
    again = compete(zx, spoiled, k=3, metric="euclidean", seed=0)
    assert again[0].space.name == winners[0].space.name
    assert (again[0].space.map_x(zx) == winners[0].space.map_x(zx)).all()
    assert (again[0].ahead == winners[0].ahead).all()


def test_no_estimate_imports_torch():
    """In a fresh interpreter: a plain and a fitted one."""
    code = """
import sys
import numpy as np
from mi_callback import mutual_information
x = np.random.default_rng(0).standard_normal((400, 6))
for space in ("scores", "supervised"):
    assert mutual_information(x, x[:, 0], space=space, n_permutations=0).space.startswith(space)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
