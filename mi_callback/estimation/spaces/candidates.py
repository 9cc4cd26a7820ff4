"""Candidate spaces for an estimate: each fitted to one part of a fitting half, and refitted to all of it if it wins.

Each puts functions of a variable beside the variable itself. t -> (features(t), floor * t) is one-to-one whatever the
features are, so mutual information stays what it is, while distances follow the features: what predicts the other side
is stretched, the rest is shrunk and never removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.permutation import stream
from mi_callback.estimation.spaces.linear import (
    Array,
    Whitening,
    canonical_pairs,
    informative_directions,
    oscillating_direction,
)
from mi_callback.estimation.spaces.network import (
    CodedTarget,
    SliceNetwork,
    code_coordinates,
    code_labels,
    fit_network,
    refine,
)

__all__ = [
    "SCORES",
    "Candidate",
    "FittedSpace",
    "FittingHalf",
    "Projection",
    "augmentation",
    "fit_candidates",
    "radial",
]

Map = Callable[[Array], Array]


@dataclass(frozen=True, slots=True, eq=False)
class FittedSpace:
    """Where distances are taken: one map for each side, from normal scores.

    Attributes:
        name: what the result calls it.
        map_x: map of x's scores of shape (n, d), of any samples; None leaves x as it is.
        map_y: map of y's scores of shape (n, q), likewise; class labels are always left as they are.
    """

    name: str
    map_x: Map | None
    map_y: Map | None

    def __call__(self, x: Array, y: NDArray[Any]) -> tuple[Array, NDArray[Any]]:
        """Both sides of some samples in this space."""
        return x if self.map_x is None else self.map_x(x), y if self.map_y is None else self.map_y(y)


SCORES = FittedSpace("scores", None, None)  # what every candidate has to beat

# Weight of a coordinate that is not a feature, times d^(1/4): squared distances among d idle coordinates scatter by
# floor^2 sqrt(d), which is what blurs the features, so the blur is the same for every width.
_FLOOR = 0.05  # .025 and .1 read .003 and .007 nats less: square, ring, product, sine; n = 1,500, d = 12


def augmentation(features: Map, x: Array) -> Map:
    """The map that puts features beside the values themselves.

    Args:
        features: map of shape (n, d) to shape (n, r); their relative scale is kept, the widest gets unit variance.
        x: shape (n, d), samples that set the scale.
    """
    fitted = features(x)
    mean, spread = fitted.mean(axis=0), float(fitted.std(axis=0).max())
    unit = np.float32(1 / spread if spread > 0 else 1)
    floor = np.float32(_FLOOR * x.shape[1] ** -0.25)
    return lambda x: np.concatenate([(features(x) - mean) * unit, floor * x], axis=1, dtype=np.float32)


@dataclass(frozen=True, eq=False)  # no slots: whitenings are kept
class FittingHalf:
    """The samples that candidates may see.

    Attributes:
        x: shape (n, d), normal scores of x.
        y: shape (n, q), normal scores of y; or shape (n,), class numbers from 0.
        n_fit: the first so many samples are fitted to, the others are compared on.
        seed: seed of everything random in the fits.
    """

    x: Array
    y: NDArray[Any]
    n_fit: int
    seed: int

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 if y is continuous."""
        return int(self.y.max()) + 1 if self.y.ndim == 1 else 0

    @property
    def y_is_mapped(self) -> bool:
        """Whether y has several coordinates, so that a map can help it too."""
        return self.y.ndim > 1 and self.y.shape[1] > 1

    @cached_property
    def whiten_x(self) -> Whitening:
        """Whitening of x on the samples that are fitted to."""
        return Whitening.fit(self.x[: self.n_fit], self.seed)

    @cached_property
    def whiten_y(self) -> Whitening:
        """Whitening of y on the samples that are fitted to."""
        return Whitening.fit(self.y[: self.n_fit], self.seed)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A space to compare, and how to fit it again.

    Attributes:
        space: fitted to the part of the fitting half that is not compared on.
        refit: fits it to the whole fitting half; None if nothing stands above chance there.
    """

    space: FittedSpace
    refit: Callable[[], FittedSpace | None]


_MOST_CLASSES = 64  # with more, log probabilities are no space to take distances in


def fit_candidates(half: FittingHalf) -> list[Candidate]:
    """Fit every candidate for which something stands above chance, the simple ones first; none if nothing does."""
    x, y = half.x[: half.n_fit], half.y[: half.n_fit]
    if (x == x[0]).all() or (y.ndim > 1 and (y == y[0]).all()):
        return []
    candidates = []
    # Radii pay: y = |x| + noise reads 1.24 nats with them and .12 without (n = 2,000, d = 16; truth 1.42).
    for name, expand in (("canonical", None), ("radial", radial)):
        fit = partial(_canonical, half, f"supervised: {name}", expand)
        space = fit(half.n_fit)
        if space is not None:
            candidates.append(Candidate(space, partial(fit, len(half.x))))
    return candidates + (_by_network(half) if half.n_classes <= _MOST_CLASSES else [])


# --- canonical correlation, discriminant directions -------------------------------------------------------------------


def _canonical(half: FittingHalf, name: str, expand: Map | None, n: int) -> FittedSpace | None:
    """Canonical directions of the first n samples, of their radii too if expanded; None if none stands above chance."""
    x, y = half.x[:n], half.y[:n]
    all_of_it = n == len(half.x)
    rng = stream(half.seed, 4)
    features_x = _expanded(Whitening.fit(x, half.seed) if all_of_it else half.whiten_x, x, expand, half.seed)
    if half.n_classes:
        pairs = canonical_pairs(features_x(x), code_labels(y, half.n_classes).functions, rng)
    else:
        features_y = _expanded(Whitening.fit(y, half.seed) if all_of_it else half.whiten_y, y, expand, half.seed)
        pairs = canonical_pairs(features_x(x), features_y(y), rng)
    if not pairs.weights.size:
        return None
    map_x = augmentation(lambda x: features_x(x) @ pairs.x, x)
    map_y = augmentation(lambda y: features_y(y) @ pairs.y, y) if half.y_is_mapped else None
    return FittedSpace(name, map_x, map_y)


def _expanded(whiten: Whitening, x: Array, expand: Map | None, seed: int) -> Map:
    if expand is None:
        return whiten
    again = Whitening.fit(expand(whiten(x)), seed)
    return lambda x: again(expand(whiten(x)))


_FEWEST_FOR_RADIUS = 3  # coordinates: in one or two a direction is a sign or an angle, which jumps
_MOST_FOR_DIRECTION = 128


def radial(whitened: Array) -> Array:
    """Append the direction and the logarithm of the radius to whitened coordinates, shape (n, p) -> (n, 2 p + 1).

    What two sides share is often a common scale, or an angle that depends on the radius: linear in these, not in the
    coordinates. Fewer than three coordinates stay as they are; more than 128 get the radius only, as the direction is
    then nearly the coordinates again.
    """
    p = whitened.shape[1]
    if p < _FEWEST_FOR_RADIUS:
        return whitened
    radius = np.sqrt(np.einsum("ij,ij->i", whitened, whitened))[:, None] + np.float32(1e-6)
    direction = whitened / radius * np.float32(np.sqrt(p))
    parts = [whitened, direction, np.log(radius)] if p <= _MOST_FOR_DIRECTION else [whitened, np.log(radius)]
    return np.concatenate(parts, axis=1)


# --- projections and learned conditional distributions ----------------------------------------------------------------

# Of Y that the network learns to predict. Of ten mixtures of three relations 12 read .38 nats more, of three relations
# 3 read .15 less (n = 1,000); each is more to learn.
_MOST_COORDINATES = 6


def _by_network(half: FittingHalf) -> list[Candidate]:
    """The directions of a projecting network, and the distribution of Y that it predicts; none without directions."""
    whitened = half.whiten_x(half.x)
    projection = Projection(half.whiten_x, whitened, _coded(half, whitened), half.n_fit, half.seed)
    fitted = projection.fit()
    if fitted is None:
        return []
    map_y = _swapped(half, half.x @ projection.directions(fitted))

    def index(network: SliceNetwork) -> FittedSpace:
        directions = projection.directions(network)
        return FittedSpace("supervised: index", augmentation(lambda x: x @ directions, half.x), map_y)

    def posterior(network: SliceNetwork) -> FittedSpace:
        log_odds = augmentation(lambda x: network.log_odds(half.whiten_x(x)), half.x)
        return FittedSpace("supervised: index posterior", log_odds, map_y)

    return [
        Candidate(index(fitted), lambda: index(projection.refined(fitted))),
        Candidate(posterior(fitted), lambda: posterior(projection.refined(fitted))),
    ]


def _coded(half: FittingHalf, whitened: Array) -> CodedTarget:
    """Y as the network sees it: classes, or slices of its coordinates, the most correlated ones if they are many."""
    if half.n_classes:
        return code_labels(half.y, half.n_classes)
    if half.y.shape[1] <= _MOST_COORDINATES:
        return code_coordinates(half.y)
    y = half.whiten_y(half.y)
    correlation = (whitened[: half.n_fit].T @ y[: half.n_fit]).astype(np.float64)
    leading = np.linalg.svd(correlation, full_matrices=False)[2][:_MOST_COORDINATES]
    return code_coordinates(y @ leading.T.astype(np.float32))


def _swapped(half: FittingHalf, projected: Array) -> Map | None:
    """Map of several Ys by what they say about the projection of x, shape (n, r); None if y is left as it is."""
    if not half.y_is_mapped:
        return None
    strongest = np.argsort(-projected[: half.n_fit].std(axis=0))[:_MOST_COORDINATES]
    target = code_coordinates(projected[:, strongest])
    projection = Projection(half.whiten_y, half.whiten_y(half.y), target, half.n_fit, half.seed)
    network = projection.fit()
    if network is None:
        return None
    directions = projection.directions(network)
    return augmentation(lambda y: y @ directions, half.y)


_MOST_DIRECTIONS = 8  # 4 and 16 read the same of nine relations of one to ten directions, n = 1,000
# Searches for directions in what is left unexplained, and how many each may add. Without them sin(2 u) + v reads .62
# nats instead of 1.22 (n = 5,000, d = 16; truth 1.29).
_FURTHER_ROUNDS, _MOST_NEW = 2, 3
_MANY = 1_000  # samples: with fewer, what is left unexplained is mostly noise, and a look at it costs too much
_SIGNIFICANT_LATER = 1.4  # times chance: what is left unexplained comes from the same samples, and looks related


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The projection of one side that predicts a target: its directions searched for, learned, extended and refined.

    Attributes:
        whitening: of the side's normal scores, shape (n, d).
        whitened: shape (n, p).
        target: what is to be predicted.
        n_fit: the first so many samples are fitted to; on the others it is decided what helps.
        seed: seed of everything random.
    """

    whitening: Whitening
    whitened: Array
    target: CodedTarget
    n_fit: int
    seed: int

    def fit(self) -> SliceNetwork | None:
        """A network behind a projection; None if no direction stands above chance.

        Directions are those that moments see; where these explain nothing, the one that oscillations point in.
        """
        x, functions = self.whitened[: self.n_fit], self.target.functions[: self.n_fit]
        rng = stream(self.seed, 5)
        network = None
        for search in (informative_directions, oscillating_direction):
            directions = search(x, functions, rng)
            if directions.shape[1]:
                network, former = self._behind(directions), network
                if self._held_out_loss(network) < self._loss_by_chance():
                    return self._extended(network, rng)
                network = former or network
        return network

    def _held_out_loss(self, network: SliceNetwork) -> float:
        return network.loss(self.whitened[self.n_fit :], self.target.indicators[self.n_fit :])

    def _loss_by_chance(self) -> float:
        """Held-out loss of predicting the frequencies of the slices, whatever x is."""
        indicators = self.target.indicators
        shares = indicators[: self.n_fit].mean(axis=0)
        return -float((indicators[self.n_fit :].mean(axis=0) * np.log(shares + 1e-9)).sum())

    def _extended(self, network: SliceNetwork, rng: np.random.Generator) -> SliceNetwork:
        """The network with directions that were hidden while the stronger ones were unknown.

        They are looked for in what it leaves unexplained, and kept as long as they help on the samples held out.
        """
        x, indicators = self.whitened[: self.n_fit], self.target.indicators[: self.n_fit]
        for _ in range(_FURTHER_ROUNDS if self.n_fit >= _MANY else 0):
            directions = network.directions(x)
            known = np.linalg.qr(directions)[0].astype(np.float32)
            most = min(_MOST_DIRECTIONS, x.shape[1]) - known.shape[1]
            if most < 1:
                break
            others = x - (x @ known) @ known.T
            left = network.unexplained(x, indicators, directions[:, 0])
            new = informative_directions(others, left, rng, min(most, _MOST_NEW), _SIGNIFICANT_LATER)
            if not new.shape[1]:
                new = oscillating_direction(others, left, rng)
            if not new.shape[1]:
                break
            larger = self._behind(np.concatenate([known, new], axis=1))
            if self._held_out_loss(larger) >= self._held_out_loss(network):
                break
            network = larger
        return network

    def _behind(self, directions: Array) -> SliceNetwork:
        network = fit_network(self.whitened, self.target, self.n_fit, directions, seed=self.seed)
        return network.pruned(self.whitened, self.target.indicators, self.n_fit)

    def refined(self, network: SliceNetwork) -> SliceNetwork:
        """The network fitted on, to all samples."""
        return refine(network, self.whitened, self.target, seed=self.seed)

    def directions(self, network: SliceNetwork) -> Array:
        """The directions of a network, for scores: shape (d, r)."""
        directions: Array = self.whitening.matrix @ network.directions(self.whitened[: self.n_fit])
        return directions
