"""From the arrays of a sweep to estimates: what is X, what is Y, and which of their tables can be kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mi_callback.collection import Collected, CollectionError
from mi_callback.estimation import Estimator, MutualInformation, Variable
from mi_callback.estimation.entropy import entropy, group_rows

__all__ = ["Measured", "Measurer", "Quantity", "no_estimate"]

Quantity = Literal["target", "input"]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One quantity of one layer.

    Attributes:
        layer: label of the layer.
        quantity: "target" for I(T;Y), "input" for I(X;T).
        estimate: what was measured; NaN where it failed.
        error: why it failed, or None.
    """

    layer: str
    quantity: str
    estimate: MutualInformation
    error: Exception | None = None


class Measurer:
    """Measures the layers of one sweep after another; keeps what it has computed for X and Y while they are the same.

    Args:
        estimator: how to estimate.
        quantities: what to estimate.
        discrete_target: whether Y is discrete; None goes by its type.
    """

    def __init__(self, estimator: Estimator, quantities: tuple[Quantity, ...], discrete_target: bool | None) -> None:
        self.estimator = estimator
        self.quantities = quantities
        self._discrete_target = discrete_target
        self._x: _Kept | None = None
        self._y: _Kept | None = None
        self._ceilings: dict[str, tuple[float, float]] = {}

    def prepare(self, collected: Collected) -> tuple[Quantity, ...]:
        """Take X and Y from a sweep.

        Returns:
            The quantities that can be measured with them.

        Raises:
            CollectionError: there are no targets where I(T;Y) is asked for, or Y cannot be measured.
        """
        if "target" in self.quantities and collected.targets is None:
            raise CollectionError(
                "batch: it has no targets, and quantities include 'target'. Use quantities=('input',) for "
                "self-supervised training, or say where the targets are with batch_fn."
            )
        x, y = self._x, self._y
        if collected.inputs is not None and has_metric(collected.inputs):
            self._x = _keep(self._x, collected.inputs, "inputs", None)
        else:
            self._x = None
        self._y = None if collected.targets is None else _keep(self._y, collected.targets, "y", self._discrete_target)
        if (self._x, self._y) != (x, y):
            self._ceilings = {}
        return tuple(q for q in self.quantities if q != "input" or self._x is not None)

    def ceilings(self) -> dict[str, tuple[float, float]]:
        """I(X;Y), which no layer exceeds, and H(Y) for discrete Y: name to value and standard error, in ``unit``.

        Measured once for as long as X and Y stay the same.
        """
        if not self._ceilings and self._y is not None and "target" in self.quantities:
            if self._y.variable.discrete:
                self._ceilings["H(Y)"] = (_entropy(self._y.values, self.estimator.unit), math.nan)
            if self._x is not None and not (self._x.error or self._y.error):
                estimate = self.estimator.estimate(self._x.variable, self._y.variable)
                self._ceilings["I(X;Y)"] = (estimate.mi, estimate.stderr)
        return dict(self._ceilings)

    def measure(
        self, collected: Collected, on_estimate: Callable[[str, str], None] | None = None
    ) -> Iterator[Measured]:
        """Estimate every quantity of every layer; one that fails is NaN and comes with its error.

        Args:
            collected: the sweep that ``prepare`` was given.
            on_estimate: called with layer and quantity before each estimate.
        """
        quantities = tuple(q for q in self.quantities if q != "input" or self._x is not None)
        for layer, values in collected.layers.items():
            error = _unusable(values, "activations")
            t = Variable(values, name=layer) if error is None else None
            for quantity in quantities:
                if on_estimate is not None:
                    on_estimate(layer, quantity)
                partner = self._y if quantity == "target" else self._x
                assert partner is not None
                failure: Exception | None = error or partner.error
                if t is not None and failure is None:
                    try:
                        yield Measured(layer, quantity, self.estimator.estimate(t, partner.variable))
                        continue
                    except Exception as raised:  # one layer's trouble is not another's; the caller decides what to do
                        failure = raised
                yield Measured(layer, quantity, no_estimate(self.estimator, collected.n_samples), failure)
        for layer, reason in collected.failures.items():
            for quantity in quantities:
                yield Measured(layer, quantity, no_estimate(self.estimator, collected.n_samples), reason)


def has_metric(inputs: NDArray[Any]) -> bool:
    """Whether distances between inputs mean anything: not for several integers a sample, as with token ids."""
    return inputs.dtype.kind in "fb" or inputs.shape[1] == 1


def no_estimate(estimator: Estimator, n_samples: int) -> MutualInformation:
    """The record of an estimate that failed: NaN, so that curves show the gap."""
    p_value = math.nan if estimator.n_permutations else None
    return MutualInformation(
        mi=math.nan, raw=math.nan, null=np.empty(0), null_mean=math.nan, null_std=math.nan, p_value=p_value,
        stderr=math.nan, unit=estimator.unit, k=estimator.k, n_samples=n_samples, estimator="none", space="none",
        intrinsic_dim=math.nan,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """X or Y as it was collected, and the variable that holds its tables."""

    collected: NDArray[Any]
    values: NDArray[Any]
    variable: Variable
    error: Exception | None


def _keep(kept: _Kept | None, collected: NDArray[Any], name: str, discrete: bool | None) -> _Kept:
    """The variable of last time if the values are the same, else a new one."""
    if kept is not None and _same(kept.collected, collected):
        return kept
    if discrete is None:
        discrete = collected.dtype.kind in "biuUSO" and (name == "y" or collected.shape[1] == 1)
    values = collected
    if discrete:  # one class a distinct row: covers one-hot and several labels a sample
        values = group_rows(collected).inverse
    elif collected.dtype.kind not in "fiub":
        raise CollectionError(f"{name}: expected numbers for a continuous variable, got {collected.dtype}.")
    return _Kept(collected, values, Variable(values, discrete=discrete, name=name), _unusable(collected, name))


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b))


def _unusable(values: NDArray[Any], name: str) -> CollectionError | None:
    """Why values cannot be measured: they are not finite."""
    if values.dtype.kind != "f":
        return None
    bad = int(len(values) - np.isfinite(values.sum(axis=1, dtype=np.float64)).sum())
    if not bad:
        return None
    return CollectionError(
        f"{name}: expected finite values, got NaN or infinity in {bad} of {len(values)} samples. Check the data, and "
        "whether training diverges."
    )


def _entropy(classes: NDArray[Any], unit: str) -> float:
    """Entropy of the empirical distribution of class labels, in ``unit``."""
    return float(entropy(classes).mean() / (math.log(2) if unit == "bits" else 1))
