"""The data-processing audit of a chain of layers."""

from __future__ import annotations

import dataclasses
import math

from mi_callback.estimation.audit import audit_chain
from tests.reporting.records import estimate


def estimates(**values):
    return {name: estimate(value, stderr=0.05) for name, value in values.items()}


def test_falling_chain_is_clean():
    assert audit_chain(["a", "b", "c"], estimates(a=3.0, b=2.0, c=2.1)) == []


def test_a_rise_beyond_error_bars_is_found_and_explained():
    (violation,) = audit_chain(["a", "b", "c"], estimates(a=3.0, b=2.0, c=2.9))
    assert (violation.layer, violation.earlier) == ("c", "b")
    assert violation.excess > violation.allowed
    assert str(violation).startswith("c exceeds b by 0.90")


def test_order_is_that_of_the_chain_not_of_the_mapping():
    assert audit_chain(["c", "b", "a"], estimates(a=1.0, b=2.0, c=3.0)) == []


def test_wide_error_bars_excuse():
    values = estimates(a=1.0, b=1.8)
    values["b"] = dataclasses.replace(values["b"], stderr=0.4)
    assert audit_chain(["a", "b"], values) == []


def test_missing_and_nan_layers_are_skipped():
    values = estimates(a=1.0, b=math.nan, c=3.0)
    (violation,) = audit_chain(["x", "a", "b", "c"], values)
    assert violation.earlier == "a"
