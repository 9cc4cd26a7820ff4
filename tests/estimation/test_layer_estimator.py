"""Which estimator a layer gets, and what it says of itself; arrays only, no network."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mi_callback.estimation import Estimator, Flag, Variable
from mi_callback.estimation.layer_estimator import LayerEstimator
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.quantities import measured_for
from tests.ground_truth import BITS, LinearGaussianChain, NoisyNeuron

CUBE = np.array(list(itertools.product([0.0, 1.0], repeat=8)))


def router(x, y=None, *, noise_std=(), discrete=None, unit="bits", space="auto", n_permutations=10):
    made = LayerEstimator(Estimator(n_permutations=n_permutations, unit=unit, space=space), noise_std)
    made.use(Variable(x, name="x"), None if y is None else Variable(y, discrete=discrete, name="y"))
    return made


def relu_layer(x, width=8, seed=0):
    rng = np.random.default_rng(seed)
    x = x.reshape(len(x), -1)
    return np.maximum(0, x @ rng.standard_normal((x.shape[1], width)) + rng.standard_normal(width))


def test_deterministic_layer_of_a_continuous_input():
    x = np.random.default_rng(0).standard_normal((400, 2))
    (reading,) = router(x).input(Variable(relu_layer(x)))
    assert reading.quantity == "input"
    assert reading.estimate.estimator == "ksg"
    assert Flag.DETERMINISTIC in reading.estimate.flags
    assert "infinite" in reading.estimate.reason
    assert reading.witnesses == ()  # two readings of one artefact must not make a verdict


@pytest.mark.parametrize("x", [CUBE, np.repeat(CUBE[:20], 20, axis=0)])
def test_discrete_inputs_are_counted(x):
    t = np.tanh(x @ np.random.default_rng(0).standard_normal((8, 3)))
    (reading,) = router(x).input(Variable(t))
    assert reading.estimate.estimator == "counting"
    assert reading.estimate.mi == pytest.approx(math.log2(len(np.unique(x, axis=0))))
    assert Flag.DETERMINISTIC not in reading.estimate.flags
    assert reading.witnesses[0].is_exact


def test_measurement_noise_is_mixture_with_bounds_and_witnesses():
    x = np.random.default_rng(0).standard_normal((1500, 3))
    (reading,) = router(x, noise_std=(0.5,)).input(Variable(x))
    e = reading.estimate
    assert (e.estimator, e.space) == ("mixture", "noise 0.5")
    assert e.mi == pytest.approx(1.5 * math.log2(5), abs=0.2)
    assert e.bounds[0] < e.mi < e.bounds[1]
    assert e.flags == ()
    assert e.p_value is None
    assert [w.name for w in reading.witnesses] == [
        "mixture, sigma = 0.5",
        "mixture, sigma = 0.5, half the samples",
        "mixture, sigma = 1",
        "copula of T + sigma Z, sigma = 0.5",
    ]
    assert reading.witnesses[-1].value == pytest.approx(e.mi, abs=0.2), "exact for Gaussians"


def test_a_list_of_noise_is_a_sweep():
    assert tuple(one.name for one in measured_for("input", (0.5, 1.0, 2.0))) == (
        "input",
        "input_noise_1",
        "input_noise_2",
    )
    x = np.random.default_rng(0).standard_normal((500, 2))
    readings = router(x, noise_std=(0.5, 1.0, 2.0)).input(Variable(x))
    assert [r.quantity for r in readings] == ["input", "input_noise_1", "input_noise_2"]
    values = [r.estimate.mi for r in readings]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("beta", [0.1, 0.01])
@pytest.mark.parametrize(("w", "b"), [(0.02, 0.0), (0.6, -0.7), (2.0, -4.0)])
def test_noisy_neuron_within_six_hundredths(w, b, beta):
    x = np.random.default_rng(0).permutation(np.repeat([-3.0, -1.0, 1.0, 3.0], 500))
    truth = NoisyNeuron(w, b, beta).mutual_information * BITS
    (reading,) = router(x, noise_std=(beta,)).input(Variable(np.tanh(w * x + b)))
    assert reading.estimate.mi == pytest.approx(truth, abs=0.06)
    assert reading.estimate.flags == ()
    assert reading.witnesses[-1].name.startswith("ross of T + sigma Z")
    assert reading.witnesses[-1].value == pytest.approx(truth, abs=0.15)


def test_a_layer_with_noise_of_its_own():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((800, 1))
    t = Variable(x + 0.5 * rng.standard_normal((800, 1)))
    (reading,) = router(x, noise_std=(0.3,)).input(t, noise="layer with noise of its own")
    e = reading.estimate
    assert e.estimator == "ksg"
    assert e.mi == pytest.approx(0.5 * math.log2(5), abs=0.15)
    assert Flag.DETERMINISTIC not in e.flags
    assert "noise of its own" in e.reason
    assert "noise_std does not apply" in e.reason
    assert [w.name for w in reading.witnesses] == ["ksg", "ksg, half the samples", "linear decoder"]


def wide_chain(n=3000):
    """Chain C at its start: eight inputs, six noisy units; neighbours cannot see what is there."""
    rng = np.random.default_rng(0)
    chain = LinearGaussianChain((rng.standard_normal((6, 8)) * 0.35,), (0.3,), np.eye(8)[:1], 0.5, np.eye(8))
    x, layers, y = chain.sample(n, rng)
    return chain, x, layers[0], y


def test_a_wide_chain_raises_its_flags():
    chain, x, t, y = wide_chain()
    made = router(x, y, n_permutations=0, space="scores")
    (reading,) = made.input(Variable(t), noise="layer with noise of its own")
    assert reading.estimate.mi < chain.with_input(1) * BITS - 1
    assert {Flag.DIMENSION, Flag.BELOW_USABLE} <= set(reading.estimate.flags)
    assert reading.witnesses[-1].value == pytest.approx(chain.with_input(1) * BITS, abs=0.6)


def test_target_comes_with_what_is_usable():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 1))
    y = x[:, 0] + 0.5 * rng.standard_normal(600)
    target, usable = router(x, y).target(Variable(x))
    assert (target.quantity, usable.quantity) == ("target", "usable")
    truth = 0.5 * math.log2(5)
    assert target.estimate.mi == pytest.approx(truth, abs=0.2)
    assert usable.estimate.estimator == "ridge"
    assert usable.estimate.mi < truth + 2 * usable.estimate.stderr
    assert usable.estimate.mi == pytest.approx(truth, abs=0.2)


def test_usable_of_classes_is_by_logistic_regression():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    t = np.eye(3)[y] + 0.1 * rng.standard_normal((600, 3))
    target, usable = router(t, y).target(Variable(t))
    assert target.estimate.estimator in ("ross", "logistic")
    assert usable.estimate.estimator == "logistic"
    assert 1.3 < usable.estimate.mi < math.log2(3)


def test_usable_of_very_few_samples_is_nan():
    x = np.random.default_rng(0).standard_normal((8, 1))
    _, usable = router(x, x[:, 0], n_permutations=0).target(Variable(x))
    assert math.isnan(usable.estimate.mi)


def test_ceilings_are_measured_once():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 1))
    y = x[:, 0] + rng.standard_normal(500)
    made = router(x, y)
    first = made.ceilings()
    assert first is made.ceilings()
    assert set(first.named()) == {"I(X;Y)", "log n", "psi(n) - psi(k)"}
    assert first.information == pytest.approx(0.5, abs=0.2)
    made.use(Variable(x), Variable(y))
    assert made.ceilings() is not first


def test_ceilings_of_discrete_sides_are_counted():
    parity = (CUBE.sum(axis=1) % 2).astype(int)
    limits = router(CUBE, parity).ceilings()
    assert limits.information == pytest.approx(1)
    assert limits.target_entropy == pytest.approx(1)


def test_a_ceiling_in_doubt_accuses_no_layer():
    """I(X;Y) of eight inputs that are read too low is left out; so nothing is above it."""
    _, x, _, y = wide_chain(1000)
    limits = router(x, y, space="scores").ceilings()
    assert math.isnan(limits.information)


def test_a_ceiling_that_fails_takes_no_layer_with_it():
    """X is a column of distinct integers, so every sample is a class of its own, and I(X;Y) cannot be measured."""
    rng = np.random.default_rng(0)
    x, y = np.arange(300), rng.standard_normal(300)
    made = LayerEstimator(Estimator(n_permutations=10))
    made.use(Variable(x, discrete=True, name="x"), Variable(y, name="y"))
    total, usable = made.target(Variable(y + 0.1 * rng.standard_normal(300)))
    assert total.estimate.mi > 2
    assert usable.estimate.mi > 2
    assert set(made.ceilings().named()) == {"log n", "psi(n) - psi(k)"}
    assert "a class of its own" in str(made.ceiling_error)


def test_a_decoder_that_fails_takes_no_total_with_it(monkeypatch):
    def broken(*args, **options):
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr("mi_callback.estimation.estimator.usable_information", broken)
    x = np.random.default_rng(0).standard_normal((200, 1))
    total, usable = router(x, x[:, 0]).target(Variable(x))
    assert (total.error, str(usable.error)) == (None, "singular")
    assert total.estimate.mi > 2
    assert math.isnan(usable.estimate.mi)


def test_independent_layers_lie_within_the_null():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 1)), rng.standard_normal(300)
    made = router(x, y, n_permutations=40)
    assert Flag.WITHIN_NULL in made.target(Variable(rng.standard_normal((300, 2))))[0].estimate.flags
    assert Flag.WITHIN_NULL not in made.target(Variable(y + rng.standard_normal(300)))[0].estimate.flags


def test_nats_are_bits_divided():
    x = np.random.default_rng(0).standard_normal((400, 2))
    values = {u: router(x, noise_std=(0.5,), unit=u).input(Variable(x))[0].estimate for u in ("bits", "nats")}
    assert values["nats"].mi * BITS == pytest.approx(values["bits"].mi)
    assert values["nats"].bounds[1] * BITS == pytest.approx(values["bits"].bounds[1])


@pytest.mark.slow
def test_a_layer_stays_in_its_fitted_space_while_that_reads_more():
    """Evidence: a sine of one direction of six, at a size where a fresh look keeps normal scores in some draws."""
    kept, changed = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((500, 6))
        y = np.sin(2 * x[:, 0]) + 0.5 * rng.standard_normal(500)
        estimator = Estimator(n_permutations=0, unit="nats")
        fresh, stays = (
            estimator.estimate(Variable(x), Variable(y), before=before)
            for before in ("", "supervised: index and supervised: index posterior")
        )
        kept.append(fresh.space.startswith("supervised"))
        changed.append(stays.space.startswith("supervised") and stays.mi >= fresh.mi)
    assert sum(changed) >= sum(kept)


def test_usable_information_says_when_the_constant_decoder_won():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 3)), rng.integers(0, 3, 300)
    made = router(x, y, discrete=True)
    flags = [
        made.estimator.usable(Variable(rng.standard_normal((300, 3))), Variable(y, discrete=True)).flags
        for _ in range(8)
    ]
    assert (Flag.CONSTANT_DECODER,) in flags
    assert not Flag.CONSTANT_DECODER.is_doubt
    assert made.estimator.usable(Variable(np.eye(3)[y] + x), Variable(y, discrete=True)).flags == ()


@pytest.mark.parametrize("n_points", [None, 150])
@pytest.mark.parametrize("space", ["auto", "raw"])
def test_the_dimension_of_the_input_is_read_off_the_table_that_is_there(monkeypatch, n_points, space):
    """Evidence: one estimate, two tables, and the value is that of an estimate with X on the side that is searched."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    t = x @ rng.standard_normal((3, 2))
    build, made = NeighborTable.build.__func__, []
    monkeypatch.setattr(
        NeighborTable, "build", classmethod(lambda cls, *a, **o: made.append(a[0].shape) or build(cls, *a, **o))
    )
    one = LayerEstimator(Estimator(n_permutations=2, space=space, n_points=n_points))
    one.use(Variable(x, name="x"), None)
    one.input(Variable(t, name="t"))
    assert sorted(made) == [(400, 2), (400, 3)]
    plain = Estimator(n_permutations=0, space="scores" if space == "auto" else space, n_points=n_points)
    assert one._x_dimension == plain.estimate(Variable(x), Variable(t)).intrinsic_dim


def test_a_constant_layer_asks_for_no_table_of_the_input(monkeypatch):
    """It is estimated without one; on 60,000 images a table of all samples would take minutes."""
    one = LayerEstimator(Estimator(n_permutations=2))
    one.use(Variable(np.random.default_rng(0).standard_normal((100, 3)), name="x"), None)
    monkeypatch.setattr(NeighborTable, "build", lambda *a, **o: pytest.fail("a table was made"))
    (reading,) = one.input(Variable(np.zeros((100, 2)), name="t"))
    assert Flag.CONSTANT in reading.estimate.flags
