"""From the arrays of a sweep to estimates: what is X, what is Y, and which of their tables can be kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.collection import Collected, CollectionError
from mi_callback.estimation import Estimator, Flag, MutualInformation, Variable
from mi_callback.estimation.audit import audit_chain
from mi_callback.estimation.ceilings import Ceilings
from mi_callback.estimation.entropy import is_enumerable
from mi_callback.estimation.flagging import with_flags
from mi_callback.estimation.kinds import Kind
from mi_callback.estimation.layer_estimator import BY_NEIGHBORS, LayerEstimator, Measured
from mi_callback.quantities import LIMITS, QUANTITIES, measured_for, quantity

__all__ = ["Measurer", "audited", "has_metric", "noisy_layers"]


class Measurer:
    """Measures the layers of one sweep after another; keeps what it has computed for X and Y while they are the same.

    Args:
        estimator: how to estimate.
        quantities: what to estimate.
        discrete_target: whether Y is discrete; None goes by its type and values.
        noise_std: standard deviations of measurement noise for I(X; T + sigma Z).
        kinds: where it is kept what "inputs" and "targets" were taken for. Measurers of several data sets share one, so
            that the first of them decides for all.
    """

    def __init__(
        self,
        estimator: Estimator,
        quantities: tuple[str, ...],
        discrete_target: bool | None,
        noise_std: tuple[float, ...] = (),
        kinds: dict[str, Kind] | None = None,
    ) -> None:
        self.estimator = estimator
        self.quantities = quantities
        self._discrete_target = discrete_target
        self._layers = LayerEstimator(estimator, noise_std)
        self._x: _Kept | None = None
        self._y: _Kept | None = None
        self._refuted = False  # whether a layer's usable information lay above I(X;Y)
        self._kinds: dict[str, Kind] = {} if kinds is None else kinds

    def limit_points(self, most: int | None) -> None:
        """Take so many evaluation points at the most from now on; None for as many as the estimator asks for."""
        if most != self.estimator.most_points:
            self.estimator = copy.copy(self.estimator)
            self.estimator.most_points = most
            self._layers.estimate_by(self.estimator)

    @property
    def needs_targets(self) -> bool:
        """Whether anything that is asked for is about Y."""
        return any(QUANTITIES[name].partner == "targets" for name in self.quantities)

    @property
    def kinds(self) -> dict[str, Kind]:
        """What "inputs" and "targets" of the first full sweep were taken for; it stands for all epochs of a run."""
        return dict(self._kinds)

    def prepare(self, collected: Collected, *, is_first_batch: bool = False) -> tuple[str, ...]:
        """Take X and Y from a sweep.

        Args:
            collected: what was seen.
            is_first_batch: a run begins, and this is too little to decide on what is classes and what is numbers.

        Returns:
            Names of all that can be measured with them.

        Raises:
            CollectionError: there are no targets where I(T;Y) is asked for, or Y cannot be measured.
        """
        if self.needs_targets and collected.targets is None:
            asked = ", ".join(repr(name) for name in self.quantities if QUANTITIES[name].partner == "targets")
            raise CollectionError(
                f"batch: it has no targets, and quantities include {asked}. Use quantities=('input',) for "
                "self-supervised training, or say where the targets are with batch_fn."
            )
        before = self._x, self._y
        if is_first_batch:
            self._kinds.clear()
        x_kind, y_kind = self._kinds.get("inputs"), self._kinds.get("targets")
        if collected.inputs is not None and has_metric(collected):
            self._x = _keep(self._x, collected.inputs, "inputs", x_kind)
        else:
            self._x = None
        if collected.targets is None:
            self._y = None
        else:
            self._y = _keep(self._y, collected.targets, "targets", y_kind or self._discrete_target)
        if not is_first_batch:
            for name, kept in (("inputs", self._x), ("targets", self._y)):
                if kept is not None and kept.error is None:
                    self._kinds.setdefault(name, kept.variable.kind)
        x, y = self._x, self._y
        self._refuted = self._refuted and x is before[0] and y is before[1]
        self._layers.use(
            x.variable if x is not None and x.error is None else None,
            y.variable if y is not None and y.error is None else None,
        )
        return tuple(name for asked in self._measurable() for name in self._names(asked))

    def _measurable(self) -> tuple[str, ...]:
        return tuple(name for name in self.quantities if self._partner(name) is not None)

    def _partner(self, asked: str) -> _Kept | None:
        return self._y if QUANTITIES[asked].partner == "targets" else self._x

    def _names(self, asked: str) -> tuple[str, ...]:
        return tuple(one.name for one in measured_for(asked, self._layers.noise_std))

    def ceilings(self) -> Ceilings:
        """I(X;Y), H(Y), and the limits of so many samples, measured once for as long as X and Y stay the same.

        I(X;Y) is left out if it cannot be measured; ``ceiling_error`` then says why.
        """
        return self._layers.ceilings()

    @property
    def ceiling_error(self) -> Exception | None:
        """Why I(X;Y) could not be measured, or None."""
        return self._layers.ceiling_error

    def measure(
        self,
        collected: Collected,
        on_estimate: Callable[[str, str], None] | None = None,
        stochastic: frozenset[str] = frozenset(),
    ) -> Iterator[Measured]:
        """Estimate every quantity of every layer; one that fails is NaN and comes with its error.

        Args:
            collected: the sweep that ``prepare`` was given.
            on_estimate: called with layer and quantity before each estimate.
            stochastic: the layers that draw noise of their own.
        """
        quantities = self._measurable()
        for layer, values in collected.layers.items():
            error = _unusable(values, "activations")
            t = Variable(values, name=layer) if error is None else None
            for asked in quantities:
                if on_estimate is not None:
                    on_estimate(layer, asked)
                partner = self._partner(asked)
                assert partner is not None
                failure: Exception | None = error or partner.error
                if t is not None and failure is None:
                    try:
                        for found in self._layers.measure(asked, t, is_stochastic=layer in stochastic):
                            yield replace(found, estimate=_after_reductions(found, collected))
                        continue
                    except Exception as raised:  # one layer's trouble is not another's; the caller decides what to do
                        failure = raised
                for name in self._names(asked):
                    yield Measured(layer, name, self.estimator.failed(collected.n_samples), failure)
        for layer, reason in collected.failures.items():
            for asked in quantities:
                for name in self._names(asked):
                    yield Measured(layer, name, self.estimator.failed(collected.n_samples), reason)

    def audit(
        self, results: Sequence[Measured], layers: Sequence[str], ceilings: Ceilings | None
    ) -> tuple[list[Measured], dict[str, tuple[float, float]]]:
        """Mark what cannot be true of one epoch's estimates; see ``audited``.

        A ceiling that a usable value refutes is withdrawn, for as long as X and Y stay the same.

        Args:
            results: estimates of one epoch, all processes' together.
            layers: labels in the order in which the input passes the layers.
            ceilings: the limits; None if they could not be measured.

        Returns:
            The estimates, and the limits that are left: name to value and standard error, in ``unit``.
        """
        if ceilings is not None:
            self._refuted |= any(
                ceilings.is_refuted_by(r.estimate) for r in results if quantity(r.quantity).is_lower_bound
            )
            if self._refuted:
                ceilings = ceilings.without_information()
        return audited(results, layers, ceilings), {} if ceilings is None else ceilings.named()


def _after_reductions(found: Measured, collected: Collected) -> MutualInformation:
    """Name what was done to the layer, and to X where it is the other side, which can only lower the information."""
    done = [collected.reductions.get(found.layer)]
    if quantity(found.quantity).partner == "inputs" and found.estimate.estimator in BY_NEIGHBORS:
        done.append(collected.inputs_reduction and f"X by {collected.inputs_reduction}")
    reduction = ", ".join(filter(None, done))
    if not reduction:
        return found.estimate
    return replace(found.estimate, space=f"{reduction}, {found.estimate.space}", reduction=reduction)


def audited(results: Sequence[Measured], layers: Sequence[str], ceilings: Ceilings | None = None) -> list[Measured]:
    """Mark the estimates that exceed an earlier layer's or a ceiling, which data processing forbids.

    Values stay as they are. I(X; T + sigma Z) is left out: noise is added to each layer afresh, so the noisy layers are
    no chain.

    Args:
        results: estimates of one epoch.
        layers: labels in the order in which the input passes the layers.
        ceilings: limits that no usable value refutes.
    """
    if ceilings is not None:
        limit = ceilings.of_target()
        bounded = [name for name in LIMITS["I(X;Y)"].bounds if not quantity(name).is_lower_bound]
        results = [
            replace(r, estimate=with_flags(r.estimate, Flag.ABOVE_CEILING))
            if r.quantity in bounded and limit.is_below(r.estimate.mi, r.estimate.stderr)
            else r
            for r in results
        ]
    marked = set()
    for name in (one.name for one in QUANTITIES.values() if one.forms_chain):
        estimates = {r.layer: r.estimate for r in results if r.quantity == name and r.estimate.noise_std is None}
        marked |= {(violation.layer, name) for violation in audit_chain(layers, estimates)}
    return [
        replace(r, estimate=with_flags(r.estimate, Flag.DATA_PROCESSING)) if (r.layer, r.quantity) in marked else r
        for r in results
    ]


def noisy_layers(first: Collected, second: Collected) -> frozenset[str]:
    """Layers whose values differ between two sweeps of the same inputs under other random numbers.

    Where the inputs differ too, as under random augmentation, nothing can be concluded, and no layer is called noisy.
    """
    if first.inputs is None or second.inputs is None or not _same(first.inputs, second.inputs):
        return frozenset()
    return frozenset(
        label
        for label, values in first.layers.items()
        if label in second.layers
        and values.shape == second.layers[label].shape
        and not np.allclose(
            values, second.layers[label], rtol=1e-4, atol=1e-4 * (float(np.std(values)) or 1.0), equal_nan=True
        )
    )


def has_metric(collected: Collected) -> bool:
    """Whether X can be measured: not token ids or texts, which have no distances, unless (nearly) all can be counted.

    Integers that the model looks up in an embedding are names; others, such as the columns of a table, are numbers.
    """
    if collected.inputs is None:
        return False
    are_names = collected.inputs_are_ids or collected.inputs.dtype.kind not in "biuf"
    return not are_names or is_enumerable(collected.inputs)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """X or Y as it was collected, and the variable that holds its tables."""

    collected: NDArray[Any]
    variable: Variable
    error: Exception | None


def _keep(kept: _Kept | None, collected: NDArray[Any], name: str, discrete: Kind | bool | None) -> _Kept:
    """The variable of last time if the values are the same and read the same way, else a new one."""
    if kept is not None and _same(kept.collected, collected) and discrete in (None, kept.variable.kind):
        return kept
    error = _unusable(collected, name)
    values = np.zeros(len(collected)) if error is not None else collected
    try:
        return _Kept(collected, Variable(values, discrete=discrete, name=name), error)
    except (TypeError, ValueError) as refused:  # neither numbers nor labels: the same at every epoch
        raise CollectionError(str(refused)) from refused


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
