"""Candidate spaces for an estimate: each fitted to one part of a fitting half, and refitted to all of it if it wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.spaces.augmentation import Features, Space, append, radial
from mi_callback.estimation.spaces.network import (
    CodedTarget,
    SliceNetwork,
    code_coordinates,
    code_labels,
    fit_network,
    refine,
)
from mi_callback.estimation.spaces.projection import ProjectedSide
from mi_callback.estimation.spaces.whitening import Array, Whitening, canonical_pairs

__all__ = ["Candidate", "FittingHalf", "fit_candidates"]

_MOST_COORDINATES = 6  # coordinates of Y that the networks learn to predict
_MOST_CLASSES = 64  # with more, log probabilities are no space to take distances in
_HIDDEN, _DECAY = (64, 32), 0.3  # of the network on the scores themselves


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A space to compare, and how to fit it again.

    Attributes:
        space: fitted to the part of the fitting half that is not compared on.
        refit: fits it to the whole fitting half.
    """

    space: Space
    refit: Callable[[], Space]


@dataclass(frozen=True, eq=False)  # no slots: whitenings are kept
class FittingHalf:
    """The samples that candidates may see.

    Attributes:
        x: shape (n, d), normal scores of x.
        y: shape (n, q), normal scores of y; or shape (n,), class numbers.
        n_classes: number of classes, 0 if y is continuous.
        n_fit: the first so many samples are fitted to, the others are compared on.
        seed: seed of everything random in the fits.
    """

    x: Array
    y: NDArray[Any]
    n_classes: int
    n_fit: int
    seed: int

    @property
    def is_discrete(self) -> bool:
        """Whether y holds class numbers."""
        return self.n_classes > 0

    @property
    def y_is_mapped(self) -> bool:
        """Whether y has several coordinates, so that a map can help it too."""
        return not self.is_discrete and self.y.shape[1] > 1

    @cached_property
    def whiten_x(self) -> Whitening:
        """Whitening of x on the samples that are fitted to."""
        return Whitening.fit(self.x[: self.n_fit], self.seed)

    @cached_property
    def whiten_y(self) -> Whitening:
        """Whitening of y on the samples that are fitted to."""
        return Whitening.fit(self.y[: self.n_fit], self.seed)

    def rng(self) -> np.random.Generator:
        """A fresh generator: every fit draws the same."""
        return np.random.default_rng(self.seed)


def fit_candidates(half: FittingHalf) -> list[Candidate]:
    """Fit every candidate for which something stands above chance; none if nothing does."""
    if not (_varies(half.x[: half.n_fit]) and (half.is_discrete or _varies(half.y[: half.n_fit]))):
        return []
    candidates = []
    for name, expand in (("canonical", None), ("radial", radial)):
        space = _canonical(half, half.n_fit, name, expand)
        if space is not None:
            candidates.append(
                Candidate(
                    space,
                    lambda name=name, expand=expand, space=space: (  # type: ignore[misc]
                        _canonical(half, len(half.x), name, expand) or space
                    ),
                )
            )
    if half.n_classes <= _MOST_CLASSES:
        candidates += _by_networks(half, related=bool(candidates))
    return candidates


def _varies(values: Array) -> bool:
    return bool((values != values[0]).any())


# --- canonical correlation, discriminant directions -------------------------------------------------------------------


def _canonical(half: FittingHalf, n: int, name: str, expand: Features | None) -> Space | None:
    """Canonical directions of x and y, or of them and their directions and radii; None if none stands above chance."""
    everything = n == len(half.x)
    to_x = _expanded(Whitening.fit(half.x, half.seed) if everything else half.whiten_x, half.x[:n], expand, half.seed)
    if half.is_discrete:
        pairs = canonical_pairs(to_x(half.x[:n]), code_labels(half.y[:n], half.n_classes).functions, half.rng())
    else:
        inner = Whitening.fit(half.y, half.seed) if everything else half.whiten_y
        to_y = _expanded(inner, half.y[:n], expand, half.seed)
        pairs = canonical_pairs(to_x(half.x[:n]), to_y(half.y[:n]), half.rng())
    if not pairs.weights.size:
        return None
    map_x = append(lambda x: to_x(x) @ pairs.x, half.x[:n])
    map_y = append(lambda y: to_y(y) @ pairs.y, half.y[:n]) if half.y_is_mapped else None
    return Space(f"supervised: {name}", map_x, map_y)


def _expanded(inner: Whitening, values: Array, expand: Features | None, seed: int) -> Features:
    if expand is None:
        return inner
    outer = Whitening.fit(expand(inner(values)), seed)
    return lambda values: outer(expand(inner(values)))


# --- learned conditional distributions --------------------------------------------------------------------------------


def _by_networks(half: FittingHalf, *, related: bool) -> Iterator[Candidate]:
    whitening = half.whiten_x
    whitened = whitening(half.x)
    target = _coded(half, whitened)
    side = ProjectedSide(whitening, whitened, target, half.n_fit, half.seed)
    network = side.fit_index()
    map_y: Features | None = None
    if network is not None:
        directions = side.directions(network)
        map_y = _swapped(half, half.x @ directions)

        def index(network: SliceNetwork) -> Space:
            directions = side.directions(network)
            return Space("supervised: index", append(lambda x: x @ directions, half.x), map_y)

        def posterior(network: SliceNetwork) -> Space:
            return Space("supervised: index posterior", append(lambda x: network.log_odds(whitening(x)), half.x), map_y)

        yield Candidate(index(network), lambda: index(side.refined(network)))
        yield Candidate(posterior(network), lambda: posterior(side.refined(network)))
    elif not related:
        return
    rival = np.inf if network is None else network.loss(*side.held_out)
    yield _full_network(half, target, map_y, rival)


def _full_network(half: FittingHalf, target: CodedTarget, map_y: Features | None, rival: float) -> Candidate:
    """A network on the scores themselves: for curved relations, that no few directions hold."""
    n = half.n_fit
    network = fit_network(
        half.x[:n],
        target.indicators[:n],
        (half.x[n:], target.indicators[n:]),
        target.n_groups,
        ordered=target.ordered,
        hidden=_HIDDEN,
        decay=_DECAY,
        rival=rival,
        seed=half.seed,
    )

    def space(network: SliceNetwork) -> Space:
        return Space("supervised: network", append(network.log_odds, half.x), map_y)

    return Candidate(
        space(network),
        lambda: space(refine(network, half.x, target.indicators, decay=_DECAY, seed=half.seed)),
    )


def _coded(half: FittingHalf, whitened: Array) -> CodedTarget:
    """Y as the networks see it: classes, or slices of its coordinates, the most correlated ones if they are many."""
    if half.is_discrete:
        return code_labels(half.y, half.n_classes)
    if half.y.shape[1] <= _MOST_COORDINATES:
        return code_coordinates(half.y)
    y = half.whiten_y(half.y)
    correlation = (whitened[: half.n_fit].T @ y[: half.n_fit]).astype(np.float64)
    leading = np.linalg.svd(correlation, full_matrices=False)[2][:_MOST_COORDINATES]
    return code_coordinates(y @ leading.T.astype(np.float32))


def _swapped(half: FittingHalf, coordinates: Array) -> Features | None:
    """Map of several Ys by what they say about the coordinates found in x; None if y is left as it is."""
    if not half.y_is_mapped:
        return None
    strongest = np.argsort(-coordinates[: half.n_fit].std(axis=0))[:_MOST_COORDINATES]
    target = code_coordinates(coordinates[:, strongest])
    side = ProjectedSide(half.whiten_y, half.whiten_y(half.y), target, half.n_fit, half.seed)
    network = side.fit_index()
    if network is None:
        return None
    directions = side.directions(network)
    return append(lambda y: y @ directions, half.y)
