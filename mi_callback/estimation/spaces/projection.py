"""The projection of a side that predicts a target: its directions searched for, learned, extended and refined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mi_callback.estimation.spaces.directions import informative_directions
from mi_callback.estimation.spaces.frequencies import oscillating_direction
from mi_callback.estimation.spaces.network import CodedTarget, SliceNetwork, fit_network, refine
from mi_callback.estimation.spaces.whitening import Array, Whitening

__all__ = ["ProjectedSide"]

_MOST_DIRECTIONS = 8
_FURTHER_ROUNDS, _MOST_NEW = 2, 3  # searches for directions in what is left unexplained, and how many each may add
_MANY = 1_000  # samples: with fewer, what is left unexplained is mostly noise, and a look at it costs too much
_SIGNIFICANT_LATER = 1.4  # times chance: what is left unexplained comes from the same samples, and looks related
_HIDDEN = (32, 32)


@dataclass(frozen=True, slots=True, eq=False)
class ProjectedSide:
    """One side of an estimate, and the projection of it that says most about a coded target.

    Attributes:
        whitening: of its normal scores, shape (n, d).
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

    @property
    def held_out(self) -> tuple[Array, Array]:
        """Whitened samples that nothing is fitted to, and their slices."""
        return self.whitened[self.n_fit :], self.target.indicators[self.n_fit :]

    def fit_index(self) -> SliceNetwork | None:
        """A network behind a projection; None if no direction stands above chance.

        Directions are those that moments see; where these explain nothing, the one that oscillations point in.
        """
        x, functions = self.whitened[: self.n_fit], self.target.functions[: self.n_fit]
        rng = np.random.default_rng(self.seed)
        network = None
        found = informative_directions(x, functions, rng, _MOST_DIRECTIONS)
        if found.shape[1]:
            network = self._behind(found)
            if self._explains(network):
                return self._extended(network, rng)
        found = oscillating_direction(x, functions, rng)
        if found.shape[1]:
            other = self._behind(found)
            if self._explains(other):
                return self._extended(other, rng)
            network = network or other
        return network

    def _explains(self, network: SliceNetwork) -> bool:
        """Whether a network predicts held-out samples better than the frequencies of the slices do."""
        indicators = self.target.indicators
        shares = indicators[: self.n_fit].mean(axis=0)
        by_chance = -float((indicators[self.n_fit :].mean(axis=0) * np.log(shares + 1e-9)).sum())
        return network.loss(*self.held_out) < by_chance

    def _extended(self, network: SliceNetwork, rng: np.random.Generator) -> SliceNetwork:
        """The network with directions that were hidden while the stronger ones were unknown.

        They are looked for in what it leaves unexplained, and kept as long as they help on the samples held out.
        """
        x, indicators = self.whitened[: self.n_fit], self.target.indicators[: self.n_fit]
        for _ in range(_FURTHER_ROUNDS if self.n_fit >= _MANY else 0):
            directions = network.directions(x)
            known = np.linalg.qr(directions)[0].astype(np.float32)
            room = min(_MOST_DIRECTIONS, x.shape[1]) - known.shape[1]
            if room < 1:
                break
            others = x - (x @ known) @ known.T
            left = network.unexplained(x, indicators, directions[:, 0])
            new = informative_directions(others, left, rng, min(room, _MOST_NEW), _SIGNIFICANT_LATER)
            if not new.shape[1]:
                new = oscillating_direction(others, left, rng)
            if not new.shape[1]:
                break
            larger = self._behind(np.concatenate([known, new], axis=1))
            if larger.loss(*self.held_out) >= network.loss(*self.held_out):
                break
            network = larger
        return network

    def _behind(self, directions: Array) -> SliceNetwork:
        n, t = self.n_fit, self.target
        network = fit_network(
            self.whitened[:n],
            t.indicators[:n],
            self.held_out,
            t.n_groups,
            ordered=t.ordered,
            hidden=_HIDDEN,
            directions=directions,
            seed=self.seed,
        )
        return network.pruned(self.whitened[:n], *self.held_out)

    def refined(self, network: SliceNetwork) -> SliceNetwork:
        """The network fitted on, to all samples."""
        return refine(network, self.whitened, self.target.indicators, seed=self.seed)

    def directions(self, network: SliceNetwork) -> Array:
        """The directions of a projecting network, for scores: shape (d, r)."""
        directions: Array = self.whitening.matrix @ network.directions(self.whitened[: self.n_fit])
        return directions
