"""What the estimates of one epoch say of each other and of the limits: arrays only, no training."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest

from mi_callback.collection import Collected
from mi_callback.estimation import Estimator, Flag, Variable, estimator, variable
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.monitoring.measuring import Measurer
from mi_callback.monitoring.publishing import layer_dimensions


def friedman(n, seed=0):
    """Friedman's first function of five of ten uniform inputs, with noise of variance 1 on top; Y holds 3.3 bits."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 10))
    f = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, f[:, None], f[:, None] + 0.5 * rng.standard_normal((n, 1))


def collected(x, y, **layers):
    return Collected(inputs=x, targets={} if y is None else {"": y}, layers=layers, failures={}, n_samples=len(x))


def epoch(measurer, sweep):
    """The flags and values of an epoch, and the names of its limits, as the callback gets them."""
    measurer.prepare(sweep)
    results, limits = measurer.audit(list(measurer.measure(sweep)), list(sweep.layers), measurer.ceilings())
    return {(r.layer, r.quantity): r.estimate for r in results}, set(limits)


def test_usable_information_of_a_layer_withdraws_the_ceiling_that_it_refutes():
    """Neighbours among ten inputs read 1 bit of the 3.3 that a layer holds and a decoder gets out: no layer leaks."""
    x, f, y = friedman(500)
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("target",), None)
    learnt, limits = epoch(measurer, collected(x, y, output=f))
    assert learnt["output", "usable"].mi > 2.5
    assert Flag.ABOVE_CEILING not in learnt["output", "target"].flags
    assert "I(X;Y)" not in limits
    raw, limits = epoch(measurer, collected(x, y, output=np.abs(f - f.mean())))  # a layer that is not read so well
    assert raw["output", "usable"].mi < 1.0
    assert "I(X;Y)" not in limits, "what was refuted once stays withdrawn"


def test_a_layer_above_a_ceiling_that_stands_is_flagged():
    """What no network can do: hold more on Y than X does. Truth: I(X;Y) = .5 bits."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 1))
    y = x + rng.standard_normal((500, 1))
    leak = np.abs(y) + 0.01 * rng.standard_normal((500, 1))  # folded, so that no linear decoder refutes the ceiling
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("target",), None)
    found, limits = epoch(measurer, collected(x, y, honest=x, above=leak))
    assert "I(X;Y)" in limits
    assert Flag.ABOVE_CEILING in found["above", "target"].flags
    assert Flag.ABOVE_CEILING not in found["honest", "target"].flags


@pytest.mark.parametrize("n_classes", [2, 10])
def test_separable_classes_lie_at_their_entropy_not_above_it(n_classes):
    """Readings at H(Y) exceed it by up to .8 % with error bars of .1 % (27 cases of 100 to 1,000 samples)."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, n_classes, 400)
    x = 50 * rng.standard_normal((n_classes, 32))[y] + rng.standard_normal((400, 32))
    measurer = Measurer(Estimator(space="scores"), ("target",), True)
    found, limits = epoch(measurer, collected(x, y[:, None], output=x))
    estimate = found["output", "target"]
    assert estimate.mi == pytest.approx(math.log2(n_classes), rel=0.02)
    assert "H(Y)" in limits
    assert Flag.ABOVE_CEILING not in estimate.flags


@pytest.mark.parametrize("quantities", [("target", "input"), ("input", "target")])
def test_the_dimension_of_a_layer_does_not_hang_on_the_order_of_quantities(quantities):
    """Under noise_std I(X;T) is read off a mixture, which has no dimension; that of the layer is the target's."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 2))
    sweep = collected(x, x[:, :1] + rng.standard_normal((300, 1)), net=x)
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), quantities, None, (0.5,))
    measurer.prepare(sweep)
    results = list(measurer.measure(sweep))
    (target,) = (r.estimate for r in results if r.quantity == "target")
    assert layer_dimensions(results) == {"net": target.intrinsic_dim}
    assert math.isfinite(target.intrinsic_dim)


def test_the_noise_and_the_reduction_of_a_layer_are_fields():
    x = np.random.default_rng(0).standard_normal((100, 3))
    sweep = collected(x, None, net=x)
    sweep.reductions["net"] = "sparse random projection 20000 -> 3"
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("input",), None, (0.1, 0.5))
    measurer.prepare(sweep)
    estimates = [r.estimate for r in measurer.measure(sweep)]
    assert [e.noise_std for e in estimates] == [0.1, 0.5]
    assert {e.reduction for e in estimates} == {"sparse random projection 20000 -> 3"}


def test_a_reduction_of_the_input_is_named_where_the_input_is_the_other_side():
    """A layer's I(X;T) is read off both; its I(T;Y), and I(X; T + sigma Z), which looks at the layer alone, are not."""
    x = np.random.default_rng(0).standard_normal((100, 3))
    sweep = collected(x, x[:, :1], net=x, conv=x)
    sweep = dataclasses.replace(sweep, reductions={"conv": "a"}, inputs_reduction="b")
    for noise_std, on_input in (((), {"net": "X by b", "conv": "a, X by b"}), ((0.1,), {"net": None, "conv": "a"})):
        measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("target", "input"), None, noise_std)
        found, _ = epoch(measurer, sweep)
        assert {layer: found[layer, "input"].reduction for layer in ("net", "conv")} == on_input
        assert {layer: found[layer, "target"].reduction for layer in ("net", "conv")} == {"net": None, "conv": "a"}


class Counted:
    """What is made of arrays of a width: spaces, tables, and the samples they are made of."""

    def __init__(self, monkeypatch, width):
        self.tables = self.spaces = self.subsets = 0
        build, subset, scores = NeighborTable.build.__func__, Variable.subset, variable._SPACES["scores"]

        def counted_build(cls, values, *args, **options):
            self.tables += values.shape[1] == width
            return build(cls, values, *args, **options)

        def counted_scores(values):
            self.spaces += values.shape[1] == width
            return scores(values)

        def counted_subset(one, rows):
            self.subsets += one.values.shape[1] == width
            return subset(one, rows)

        monkeypatch.setattr(NeighborTable, "build", classmethod(counted_build))
        monkeypatch.setattr(Variable, "subset", counted_subset)
        monkeypatch.setitem(variable._SPACES, "scores", counted_scores)


@pytest.mark.parametrize(("n_points", "most"), [(None, None), (200, None), ("auto", 150)])
def test_what_belongs_to_the_input_is_made_once_for_all_layers_and_epochs(monkeypatch, n_points, most):
    """Evidence: calls over two epochs of two layers, the ceiling with its four parts and the dimension among them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5))
    y = x[:, :1] + rng.standard_normal((400, 1))
    made = Counted(monkeypatch, width=5)
    measurer = Measurer(Estimator(n_permutations=2, n_points=n_points), ("target", "input"), None)
    measurer.limit_points(most)
    for seed in range(2):
        weights = np.random.default_rng(seed).standard_normal((5, 3))
        sweep = collected(x.copy(), y.copy(), one=np.tanh(x @ weights), two=np.tanh(x @ weights[:, :2]))
        found, _ = epoch(measurer, sweep)
        assert {found[layer, "input"].n_points for layer in ("one", "two")} == {most or n_points or 400}
        if seed == 0:
            first = made.tables
    assert made.spaces == 1 + 4
    assert made.tables == first, "the second epoch makes none"


def test_the_inputs_samples_for_witnesses_are_taken_once(monkeypatch):
    """Of 2,500 samples every second is enough for them."""
    x = np.random.default_rng(0).standard_normal((2_500, 5))
    made = Counted(monkeypatch, width=5)
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("input",), None, (0.5,))
    for _ in range(2):
        epoch(measurer, collected(x.copy(), None, one=x[:, :2], two=x[:, 2:4]))
    assert (made.subsets, made.tables, made.spaces) == (1, 1, 1)


def test_no_spaces_compete_for_what_is_infinite(monkeypatch):
    """I(X;T) of a deterministic layer: only the target's estimates and the ceiling let candidates compete."""
    competed = []
    compete = estimator.read_in_best_space
    monkeypatch.setattr(
        estimator,
        "read_in_best_space",
        lambda x, y, *a, **o: competed.append((x.name, y.name)) or compete(x, y, *a, **o),
    )
    x = np.random.default_rng(0).standard_normal((200, 2))
    found, _ = epoch(Measurer(Estimator(n_permutations=2), ("target", "input"), None), collected(x, x[:, :1], net=x))
    assert set(competed) == {("net", "targets"), ("inputs", "targets")}
    assert found["net", "input"].space == "scores"
    supervised = Measurer(Estimator(n_permutations=2, space="supervised"), ("input",), None)
    found, _ = epoch(supervised, collected(x, None, net=x))
    assert found["net", "input"].is_fitted, "what is asked for is done"


@pytest.mark.slow
def test_inputs_are_taken_over_without_a_copy_in_double_precision():
    """Evidence: the most memory that Python takes beside 160 MB of float32; one copy in float64 would be 320.

    Rows are hashed 2^22 values at a time, which is some 100 MB however many there are.
    """
    x = np.random.default_rng(0).standard_normal((40_000, 1_000), dtype=np.float32)
    y = x[:, :1].copy()
    measurer = Measurer(Estimator(n_permutations=0), ("target", "input"), None)
    for values in (x, x.copy()):
        tracemalloc.start()
        measurer.prepare(collected(values, y))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 1.2 * x.nbytes
