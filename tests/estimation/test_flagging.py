"""Each flag has a case in which it must appear and one in which it must not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mi_callback.estimation import Estimator, Flag, Variable
from mi_callback.estimation.ceilings import ceilings, ksg_limit
from mi_callback.estimation.flagging import (
    flags_from_bound,
    flags_from_mixture,
    flags_from_record,
    flags_from_samples,
    judged,
    with_flags,
)
from mi_callback.estimation.mixture import mixture_information
from mi_callback.estimation.permutation import p_value
from tests.reporting import records

NULL = np.linspace(-0.05, 0.05, 100)
GOOD = dataclasses.replace(
    records.estimate(1.0, raw=1.0, null_std=0.03, p_value=1 / 101, stderr=0.04),
    null=NULL,
    null_mean=0.0,
    n_samples=1000,
    intrinsic_dim=2.0,
    half=0.98,
)


def but(**changes):
    return dataclasses.replace(GOOD, **changes)


def test_a_good_estimate_carries_none():
    assert flags_from_record(GOOD, partner_dim=1.0) == ()
    assert flags_from_record(but(half=math.nan, stderr=math.nan, p_value=None, null=np.zeros(0))) == ()


LIMIT = ksg_limit(1000, 3) / math.log(2)


@pytest.mark.parametrize(
    ("estimate", "flag", "expected"),
    [
        (but(raw=LIMIT, half=LIMIT), Flag.SATURATED, True),
        (but(raw=LIMIT - 0.9, half=LIMIT - 0.9), Flag.SATURATED, True),
        (but(raw=LIMIT - 1.1, half=LIMIT - 1.1), Flag.SATURATED, False),
        (but(raw=LIMIT, half=LIMIT, estimator="ross"), Flag.SATURATED, False),
        (but(intrinsic_dim=12.0), Flag.DIMENSION, True),
        (but(intrinsic_dim=5.0), Flag.DIMENSION, False),
        (but(intrinsic_dim=12.0, n_samples=10**7), Flag.DIMENSION, False),
        (but(intrinsic_dim=12.0, is_fitted=True), Flag.DIMENSION, False),
        (but(intrinsic_dim=math.nan), Flag.DIMENSION, False),
        (but(half=0.8), Flag.DRIFT, True),
        (but(half=0.8, stderr=0.2), Flag.DRIFT, False),
        (but(half=0.91), Flag.DRIFT, False),
        (but(raw=3.3, half=3.0, stderr=0.1), Flag.DRIFT, False),
        (but(raw=5.7, half=4.8, stderr=0.1), Flag.DRIFT, True),
        (but(p_value=0.3), Flag.WITHIN_NULL, True),
        (but(p_value=0.03), Flag.WITHIN_NULL, False),
        (but(p_value=0.25, null=NULL[:3]), Flag.WITHIN_NULL, False),
        (but(raw=-0.12, p_value=1.0), Flag.WITHIN_NULL, True),
        (but(raw=-0.12, p_value=1.0), Flag.BELOW_NULL, False),
        (but(raw=-0.16, p_value=1.0), Flag.BELOW_NULL, True),
        (but(raw=-0.16, p_value=1.0), Flag.WITHIN_NULL, False),
        (but(raw=-0.16, p_value=1.0, null=NULL[:3]), Flag.BELOW_NULL, False),
    ],
)
def test_from_the_record(estimate, flag, expected):
    assert (flag in flags_from_record(estimate)) is expected


def test_the_partner_may_have_too_many_dimensions():
    assert flags_from_record(GOOD, partner_dim=12.0) == (Flag.DIMENSION,)


def test_above_ceiling():
    x_y = but(mi=1.0, stderr=0.05)
    limits = ceilings(1000, 3, "bits", information=x_y)
    assert limits.of_target().is_below(1.3, 0.04)
    assert not limits.of_target().is_below(1.1, 0.04)
    doubtful = ceilings(1000, 3, "bits", information=with_flags(x_y, Flag.DIMENSION))
    assert not doubtful.of_target().is_below(1.3, 0.04)


def test_target_entropy_is_a_ceiling_too():
    limits = ceilings(1000, 3, "bits", labels=np.arange(1000) % 4)
    assert limits.target_entropy == pytest.approx(2)
    assert limits.of_target().is_below(2.2, 0.04)
    assert not limits.of_target().is_below(2.02, 0.04)
    assert not limits.of_target().is_below(2.019, 0.001), "within 1 %, however small the error bar"
    assert set(limits.named()) == {"H(Y)", "log n", "psi(n) - psi(k)"}


def test_below_usable():
    assert flags_from_bound(GOOD, 1.5, 0.05) == (Flag.BELOW_USABLE,)
    assert flags_from_bound(GOOD, 1.05, 0.05) == ()
    assert flags_from_bound(GOOD, 0.2, 0.05) == ()


def test_a_decoder_that_got_nothing_out_refutes_nothing():
    """On old code an estimate of independent samples, signed as it is, lay below a bound of 0."""
    low = but(mi=-0.5, stderr=0.05)
    assert flags_from_bound(low, 0.0, 0.0) == ()
    assert flags_from_bound(low, 0.1, 0.06) == (), "not told from 0"
    assert flags_from_bound(low, 0.2, 0.05) == (Flag.BELOW_USABLE,)


@pytest.mark.parametrize(
    ("d", "sigma", "flagged"),
    [
        (4, 0.3, False),
        (8, 1.0, False),
        (16, 1.0, False),
        (4, 0.1, True),
        (16, 0.5, True),
        (8, 0.5, True),
        (32, 1.0, True),
    ],
)
def test_mixture_is_flagged_only_where_it_errs(d, sigma, flagged):
    s = np.random.default_rng(0).standard_normal((4000, d))
    terms = mixture_information(s, sigma)
    unit = 1 / math.log(2)
    raw, half = terms.local.mean() * unit, terms.half * unit
    estimate = but(raw=raw, half=half, estimator="mixture", n_samples=4000)
    flags = flags_from_mixture(estimate, is_enumerable=False, drift_stderr=terms.half_stderr * unit)
    assert bool(flags) is flagged
    truth = d / 2 * math.log2(1 + 1 / sigma**2)
    if not flags:
        assert 2 * raw - half == pytest.approx(truth, abs=0.4)
    assert flags_from_mixture(estimate, is_enumerable=True, drift_stderr=0.0) == ()


def test_near_log_n_the_mixture_is_saturated():
    s = np.random.default_rng(0).standard_normal((500, 16))
    terms = mixture_information(s, 0.3)
    estimate = but(raw=terms.local.mean() / math.log(2), half=terms.half / math.log(2), n_samples=500)
    assert Flag.SATURATED in flags_from_mixture(estimate, is_enumerable=False, drift_stderr=0.0)


def test_dead_units():
    t = np.random.default_rng(0).standard_normal((50, 10))
    assert flags_from_samples(t) == ()
    t[:, 3] = 0
    assert flags_from_samples(t) == (Flag.DEAD_UNITS,)
    t[:] = 0
    assert flags_from_samples(t) == ()  # a constant layer has a flag of its own


def test_few_per_class():
    t = np.random.default_rng(0).standard_normal((100, 2))
    assert flags_from_samples(t, np.repeat([0, 1], [92, 8]), discrete=True) == (Flag.FEW_PER_CLASS,)
    assert flags_from_samples(t, np.repeat([0, 1], [91, 9]), discrete=True) == ()
    assert flags_from_samples(t, np.repeat([0, 1], [92, 8]), discrete=False) == ()


def test_an_estimated_ceiling_below_a_lower_bound_is_none():
    limits = ceilings(1000, 3, "bits", information=but(mi=1.1, stderr=0.05))
    assert limits.is_refuted_by(but(mi=3.2))
    assert not limits.is_refuted_by(but(mi=1.15))
    assert set(limits.without_information().named()) == {"log n", "psi(n) - psi(k)"}
    exact = ceilings(1000, 3, "bits", labels=np.arange(1000) % 4)
    assert not exact.is_refuted_by(but(mi=3.2)), "what is not an estimate cannot be too low"


def test_one_place_judges():
    t = np.random.default_rng(0).standard_normal((100, 2))
    t[:, 1] = 0
    found = judged(but(half=0.8), Flag.EITHER_WAY, x=t, labels=np.repeat([0, 1], [92, 8]), bound=but(mi=2.0))
    expected = (Flag.BELOW_USABLE, Flag.DRIFT, Flag.FEW_PER_CLASS, Flag.DEAD_UNITS, Flag.EITHER_WAY)
    assert found.flags == expected
    assert judged(GOOD, bound=but(mi=0.9)).flags == ()


def test_flags_are_kept_once_and_in_order():
    estimate = with_flags(with_flags(GOOD, Flag.DRIFT), Flag.CONSTANT, Flag.DRIFT)
    assert estimate.flags == (Flag.CONSTANT, Flag.DRIFT)


def test_every_flag_says_what_to_do():
    for flag in Flag:
        assert len(flag.value) > 40
        assert flag.value.endswith(".")
    assert {flag for flag in Flag if not flag.is_doubt} == {
        Flag.CONSTANT,
        Flag.SINGLETONS,
        Flag.FEW_PER_CLASS,
        Flag.DEAD_UNITS,
        Flag.WITHIN_NULL,
        Flag.CONSTANT_DECODER,
    }


def test_auto_takes_a_decoder_that_attains_more():
    """Closed form: of 6 nats along one axis of eight, rank scores and neighbours read 3.3; a decoder attains 5.7."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1_000, 8))
    y = x.sum(axis=1) / 8**0.5 + rng.standard_normal(1_000) / math.sqrt(math.expm1(12))
    estimator = Estimator(n_permutations=19, unit="nats")
    before = estimator.estimate(Variable(x), Variable(y))
    after = estimator.check(Variable(x), Variable(y), before)
    assert before.mi < 4.5
    assert 5.3 < after.mi < 6
    assert (after.estimator, after.space) == ("ridge", "decoder")
    assert after.p_value == p_value(after.raw, after.null) == 1 / 20
    assert after.interval[0] < 6 < after.interval[1]
    plain = Estimator(n_permutations=19, unit="nats", space="scores")
    assert Flag.BELOW_USABLE in plain.check(Variable(x), Variable(y), before).flags, "what is asked for is kept"
