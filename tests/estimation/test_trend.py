"""Verdicts on compression, and extrapolation over the sample size."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback.estimation.trend import Curve, compression_verdict


def curve(*values, stderr=0.02):
    v = np.array(values, dtype=float)
    return Curve(v, np.full(len(v), stderr))


RISES_THEN_FALLS = curve(0.1, 1.6, 1.5, 1.2, 0.8)
RISES = curve(4.1, 4.4, 4.8, 5.0, 5.1)


def test_all_fall():
    verdict = compression_verdict({"mixture": RISES_THEN_FALLS, "ksg": RISES_THEN_FALLS})
    assert verdict.kind == "falls"
    assert str(verdict) == "I(X;T) falls, by all of: mixture, ksg."


def test_none_falls():
    assert compression_verdict({"a": RISES, "b": curve(1, 2, 2.5, 2.49)}).kind == "steady"


def test_the_report_says_which_disagrees():
    verdict = compression_verdict({"ksg": curve(1.96, 1.9, 1.8, 1.69), "usable": RISES})
    assert verdict.kind == "contradicted"
    assert (verdict.falling, verdict.steady) == (("ksg",), ("usable",))
    assert "falls by ksg, but not by usable" in str(verdict)


@pytest.mark.parametrize("curves", [{}, {"ksg": RISES_THEN_FALLS}, {"a": curve(2, 1), "b": curve(2, 1)}])
def test_too_little_to_decide(curves):
    verdict = compression_verdict(curves)
    assert verdict.kind == "undecided"
    assert "noise_std" in str(verdict)


def test_noise_alone_is_no_fall():
    rng = np.random.default_rng(0)
    flat = {name: Curve(3 + 0.1 * rng.standard_normal(100), np.full(100, 0.1)) for name in "ab"}
    assert compression_verdict(flat).kind == "steady"


def test_a_fall_within_error_bars_is_none():
    wobble = curve(2, 2.2, 2.0, stderr=0.2)
    assert compression_verdict({"a": wobble, "b": wobble}).kind == "steady"


def test_gaps_are_skipped():
    v = RISES_THEN_FALLS.values.copy()
    v[2] = np.nan
    with_gap = Curve(v, RISES_THEN_FALLS.stderr)
    assert compression_verdict({"a": with_gap, "b": RISES_THEN_FALLS}).kind == "falls"
