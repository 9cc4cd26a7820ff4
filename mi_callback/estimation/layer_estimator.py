"""Which estimator suits a layer: chosen by what the layer is, with the reason in the result.

I(X;T) of a deterministic layer is H(T) if the inputs are discrete, and infinite if they are continuous: what can be
measured then is I(X; T + sigma Z), or the resolution of the samples, and neither may be mistaken for the other.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.ceilings import Ceilings, ceilings, per_nat
from mi_callback.estimation.dimension import intrinsic_dimension
from mi_callback.estimation.entropy import entropy, group_rows, is_enumerable, plugin_information
from mi_callback.estimation.estimator import Estimator
from mi_callback.estimation.evidence import Witness
from mi_callback.estimation.flagging import flags_from_mixture, flags_from_samples, judged, with_flags
from mi_callback.estimation.mixture import mixture_information
from mi_callback.estimation.parallel import run_side_by_side
from mi_callback.estimation.permutation import stream
from mi_callback.estimation.points import MOST, PILOT, evaluation_points
from mi_callback.estimation.records import Flag, MutualInformation
from mi_callback.estimation.variable import PlainSpace, Variable
from mi_callback.quantities import measured_for

__all__ = ["AT_POINTS", "BY_NEIGHBORS", "LayerEstimator", "Measured"]

BY_NEIGHBORS = ("ksg", "ross")
"""Names of the estimators that read tables of neighbours."""

AT_POINTS = (*BY_NEIGHBORS, "copula", "mixture")
"""Names of the estimators that take local values at evaluation points."""

_WITNESS_SAMPLES = 2_000  # further estimates for the verdict are made on so many samples, to cost little


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One quantity of one layer: an estimate, and where it belongs.

    Attributes:
        layer: name of the layer.
        quantity: name of the quantity, as in the table of quantities.
        estimate: what was measured; NaN where it failed.
        error: why it failed, or None.
        witnesses: further estimates of I(X;T), for a verdict on compression.
    """

    layer: str
    quantity: str
    estimate: MutualInformation
    error: Exception | None = None
    witnesses: tuple[Witness, ...] = ()


class LayerEstimator:
    """Measures layers by the estimators that suit them.

    Args:
        estimator: the estimator by neighbours.
        noise_std: standard deviations of measurement noise for I(X; T + sigma Z); the first is logged as "input".
    """

    def __init__(self, estimator: Estimator, noise_std: tuple[float, ...] = ()) -> None:
        self.noise_std = noise_std
        self.estimate_by(estimator)
        self._unit = per_nat(estimator.unit)
        self._x: Variable | None = None
        self._y: Variable | None = None
        self._x_is_enumerable = False
        self._x_to_pair: Variable | None = None
        self._x_part: Variable | None = None  # some of its samples, for witnesses
        self._x_dimension = math.nan
        self._ceilings: Ceilings | None = None
        self.ceiling_error: Exception | None = None
        self._spaces: dict[str, str] = {}

    def estimate_by(self, estimator: Estimator) -> None:
        """Estimate by another estimator from now on, such as one with other evaluation points."""
        self.estimator = estimator
        self._without_null = copy.copy(estimator)
        self._without_null.n_permutations = self._without_null.n_parts = 0

    def _for_resolution(self, n_samples: int) -> Estimator:
        """The estimator for what is infinite: no space reads it better, and at the pilot's points the tables are there.

        Its error bar is .02 nats of 5 there (60,000 images, perceptron), and all layers share the table of X.
        """
        estimator = copy.copy(self.estimator)
        estimator.n_parts = 0
        if estimator.space == "auto":
            estimator.space = "scores"
        if estimator.n_points == "auto" and n_samples > MOST:
            estimator.n_points = PILOT
        return estimator

    def use(self, x: Variable | None, y: Variable | None) -> None:
        """Take X and Y; what was computed for them is kept while they are the same objects."""
        if x is not self._x:
            self._x, self._x_dimension = x, math.nan
            self._x_is_enumerable = x is not None and is_enumerable(x.values)
            self._x_to_pair, self._x_part = x, None
            if x is not None and self._x_is_enumerable and _repeats(x.values):
                self._x_to_pair = Variable(x.values, discrete=True, name=x.name)
            self._ceilings = None
        if y is not self._y:
            self._y, self._ceilings = y, None

    def ceilings(self) -> Ceilings:
        """I(X;Y), H(Y), and the limits of n samples; measured once for X and Y.

        I(X;Y) is left out if it cannot be measured; ``ceiling_error`` then says why.
        """
        if self._ceilings is None:
            known = self._x or self._y
            if known is None:
                raise ValueError("x, y: expected at least one of them, got neither. Call use(x, y) first.")
            information = self.ceiling_error = None
            if self._x is not None and self._y is not None:
                try:
                    information = self._of_the_data(self._x, self._y)
                except Exception as error:  # no layer needs it
                    self.ceiling_error = error
            labels = self._y.labels.codes if self._y is not None and self._y.discrete else None
            self._ceilings = ceilings(
                known.n_samples, self.estimator.k, self.estimator.unit, information=information, labels=labels
            )
        return self._ceilings

    def _of_the_data(self, x: Variable, y: Variable) -> MutualInformation:
        """I(X;Y): counted if both sides are discrete, else estimated, with what speaks against it."""
        assert self._x_to_pair is not None
        if self._x_is_enumerable and y.discrete:
            return self.estimator.without_null(
                plugin_information(x.values, y.labels.codes),
                x.n_samples,
                "counting",
                "exact",
                reason="discrete input and target: by counting equal rows",
            )
        if self._x_to_pair.discrete:
            return self.estimator.estimate(y, self._x_to_pair)
        information = self.estimator.estimate(x, y)
        self._x_dimension = information.intrinsic_dim
        return self.estimator.held_against(self.estimator.usable(x, y), information)

    def measure(self, asked: str, t: Variable, *, noise: str = "") -> list[Measured]:
        """All that is measured of a layer where a quantity is asked for; see ``measured_for`` and ``input``."""
        return self.target(t) if asked == "target" else self.input(t, noise=noise)

    def target(self, t: Variable) -> list[Measured]:
        """I(T;Y) and the usable part of it."""
        assert self._y is not None
        y = self._y
        usable, total = run_side_by_side(
            lambda measured: self._attempt(t.name, *measured),
            [("usable", lambda: self.estimator.usable(t, y)), ("target", lambda: self._of_target(t, y))],
        )
        if total.error is None:
            total = dataclasses.replace(total, estimate=self.estimator.held_against(usable.estimate, total.estimate))
        return [total, usable]

    def _of_target(self, t: Variable, y: Variable) -> MutualInformation:
        estimate = self._remembered(t, y, self.estimator)
        reason = "classes: neighbours of the same class (Ross 2014)" if y.discrete else "by neighbours (Kraskov 2004)"
        return dataclasses.replace(estimate, reason=f"{reason}; {estimate.reason}")

    def _attempt(self, layer: str, quantity: str, measure: Callable[[], MutualInformation]) -> Measured:
        """A reading, or its error: what goes wrong with one quantity takes no other with it."""
        assert self._y is not None
        try:
            return Measured(layer, quantity, measure())
        except Exception as error:  # the caller decides what to do
            return Measured(layer, quantity, self.estimator.failed(self._y.n_samples), error)

    def input(self, t: Variable, *, noise: str = "") -> list[Measured]:
        """I(X;T), routed by what the layer is.

        Args:
            t: the layer.
            noise: why T given X is not a point, such as noise that the layer draws; empty for a deterministic layer.
        """
        if noise:
            return self._own_noise(t, noise)
        if self.noise_std:
            return self._measurement_noise(t)
        if self._x_is_enumerable:
            exact = self.estimator.without_null(
                entropy(t.values),
                t.n_samples,
                "counting",
                "exact",
                reason="deterministic layer of a discrete input: I(X;T) = H(T), by counting equal rows",
            )
            exact = with_flags(exact, *flags_from_samples(t.values))
            return [_of_input(t, exact, (Witness("H(T), exact", exact.mi, 0.0, is_exact=True),))]
        # No competition of spaces: what is infinite is not read better in a better space.
        reason = "deterministic layer of a continuous input: true I(X;T) is infinite, this is resolution"
        return [_of_input(t, self._by_neighbors(t, reason, self._for_resolution(t.n_samples), Flag.DETERMINISTIC))]

    def _by_neighbors(self, t: Variable, reason: str, estimator: Estimator, *flags: Flag) -> MutualInformation:
        assert self._x_to_pair is not None
        x = self._x_to_pair
        estimate = self._remembered(t, x, estimator)
        if math.isnan(self._x_dimension) and not x.discrete and Flag.CONSTANT not in estimate.flags:
            self._x_dimension = self._dimension_of(x, estimate)
        estimate = dataclasses.replace(estimate, reason=f"{reason}; {estimate.reason}")
        return judged(estimate, *flags, partner_dim=math.nan if x.discrete else self._x_dimension)

    def _remembered(self, t: Variable, partner: Variable, estimator: Estimator) -> MutualInformation:
        """An estimate in the space that the layer was read in before, unless another is ahead."""
        key = f"{t.name} {partner.name}"
        estimate = estimator.estimate(t, partner, before=self._spaces.get(key, ""))
        self._spaces[key] = estimate.space
        return estimate

    def _dimension_of(self, x: Variable, estimate: MutualInformation) -> float:
        """Intrinsic dimension of X, off the table that an estimate has made of it; on a line there is none to ask."""
        if x.values.shape[1] == 1:
            return 1.0
        e = self.estimator
        space: PlainSpace = e.space if e.space in ("raw", "standard") else "scores"
        points = evaluation_points(x.n_samples, estimate.n_points or x.n_samples, e.seed)
        return intrinsic_dimension(x.table(space, e.metric, e.k, points))

    def _own_noise(self, t: Variable, noise: str) -> list[Measured]:
        """A layer that is truly noisy: from its own samples, held against a bound by a decoder."""
        assert self._x_to_pair is not None
        reason = f"{noise}: from its samples"
        if self.noise_std:
            reason += "; noise_std does not apply"
        estimate = self._by_neighbors(t, reason, self.estimator)
        bound = self.estimator.usable(t, self._x_to_pair)
        estimate = judged(estimate, bound=bound)
        witnesses = (
            Witness(estimate.estimator, estimate.mi, estimate.stderr),
            Witness(f"{estimate.estimator}, half the samples", estimate.half, estimate.stderr * math.sqrt(2)),
            Witness("linear decoder", bound.mi, bound.stderr),
        )
        return [_of_input(t, estimate, witnesses)]

    def _measurement_noise(self, t: Variable) -> list[Measured]:
        """A deterministic layer seen through noise: one mixture estimate a sigma, and witnesses for the verdict."""
        names = [one.name for one in measured_for("input", self.noise_std)]
        readings = [
            _of_input(t, *self._mixture(t.values, sigma), name=name)
            for name, sigma in zip(names, self.noise_std, strict=True)
        ]
        every = -(-t.n_samples // _WITNESS_SAMPLES)
        part = np.asarray(t.values[::every], dtype=np.float64)
        witnesses = list(readings[0].witnesses)
        if len(self.noise_std) == 1:  # no sweep was asked for: one more sigma, for the verdict only
            witnesses += self._mixture(part, 2 * self.noise_std[0])[1][:1]
        witnesses.append(self._noisy_neighbors(part, every))
        return [dataclasses.replace(readings[0], witnesses=tuple(witnesses)), *readings[1:]]

    def _mixture(self, values: NDArray[np.generic], sigma: float) -> tuple[MutualInformation, tuple[Witness, ...]]:
        seed = self.estimator.seed
        pilot = self.estimator.pilot(len(values))
        terms = mixture_information(values, sigma, seed=seed, points=pilot)
        points = self.estimator.points(len(values), terms.local)
        if points is not None:
            terms = mixture_information(values, sigma, seed=seed, points=points)
        record = self.estimator.without_null(
            terms.local,
            len(values),
            "mixture",
            f"noise {sigma:g}",
            reason=f"I(X; T + sigma Z) with sigma = {sigma:g}, by the Gaussian-mixture estimator",
            noise_std=sigma,
        )
        half = math.nan if self._x_is_enumerable else terms.half * self._unit
        record = dataclasses.replace(
            record,
            half=half,
            bounds=(terms.lower * self._unit, terms.upper * self._unit),
            mi=record.raw if self._x_is_enumerable else 2 * record.raw - half,
        )
        flags = flags_from_mixture(
            record, is_enumerable=self._x_is_enumerable, drift_stderr=terms.half_stderr * self._unit
        )
        name = f"mixture, sigma = {sigma:g}"
        witnesses = [Witness(name, record.mi, record.stderr)]
        if not self._x_is_enumerable:
            witnesses.append(Witness(f"{name}, half the samples", half, record.stderr * math.sqrt(2)))
        return with_flags(record, *flags, *flags_from_samples(values)), tuple(witnesses)

    def _noisy_neighbors(self, part: NDArray[np.float64], every: int) -> Witness:
        """The same information by another estimator: neighbours of the activations with the noise added."""
        assert self._x_to_pair is not None
        rng = stream(self.estimator.seed, 0x0E1)
        noisy = part + self.noise_std[0] * rng.standard_normal(part.shape)
        if self._x_part is None:
            rows = np.arange(self._x_to_pair.n_samples)[::every]
            self._x_part = self._x_to_pair if every == 1 else self._x_to_pair.subset(rows)
        other = self._without_null.estimate(Variable(noisy, name="noisy activations"), self._x_part)
        return Witness(f"{other.estimator} of T + sigma Z, sigma = {self.noise_std[0]:g}", other.mi, other.stderr)


def _of_input(
    t: Variable, estimate: MutualInformation, witnesses: tuple[Witness, ...] = (), *, name: str = "input"
) -> Measured:
    return Measured(t.name, name, estimate, witnesses=witnesses)


def _repeats(values: NDArray[np.generic]) -> bool:
    """Whether most rows occur more than once, so that each can serve as a class."""
    groups = group_rows(values)
    return bool(np.count_nonzero(groups.counts == 1) <= 0.05 * len(groups.inverse))
