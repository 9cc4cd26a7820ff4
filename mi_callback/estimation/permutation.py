"""The permutation null: the same seeded permutations for every layer and epoch, and the p-value of an estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Permutations", "PermutationsWithin", "p_value", "stream"]

_PERMUTATION = 1  # purpose of a stream
_MOST_STEPS = 1_000  # drawn at once, so that a smaller number of permutations has the same first ones
BLOCK = 8  # permutations a stream: making a generator takes as long as permuting 1,000 samples
_OURS = 0x6D695F63616C6C  # "mi_call": in every seed sequence, so that no stream is one that users' seeds give


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """A random stream of the package's own, for a seed and a purpose.

    Users make their data with ``default_rng(0)`` and estimate with seed 0: the stream of the same seed would then
    permute the samples by the very numbers that made them.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_OURS, *purpose)))


class Permutations:
    """P permutations of n samples, and before them the identity.

    At evaluation points they are shifts along one random order of the points, and along one of the other samples, each
    by a random number of places: a subgroup of all permutations, so that the test stays exact. A point is always paired
    with the target of a point, and no permutation has to be drawn: of a million samples that takes .1 s each.

    Args:
        n_samples: number of samples n.
        n_permutations: number of permutations P.
        seed: the same seed gives the same permutations, the first ones whatever P is.
        points: shape (Q,), ascending; None if all samples are points.
    """

    def __init__(
        self, n_samples: int, n_permutations: int, seed: int, points: NDArray[np.integer] | None = None
    ) -> None:
        self.n_samples = n_samples
        self.n_permutations = n_permutations
        self.seed = seed
        self._shifted: _Shifted | None = None
        if points is not None and len(points) < n_samples:
            self._shifted = _Shifted(n_samples, n_permutations, stream(seed, _PERMUTATION), points)

    def __len__(self) -> int:
        return self.n_permutations

    def batch(self, start: int, stop: int) -> NDArray[np.int32]:
        """Permutations start to stop, shape (stop - start, n): sample i is paired with the target of sample p[i].

        Number 0 is the identity. Made anew each time, in blocks of a stream each: nothing is kept.
        """
        everyone = np.arange(self.n_samples, dtype=np.int32)
        if self._shifted is not None:
            return self._shifted.targets_of(everyone, start, stop)
        rows = [everyone[None]] if start == 0 < stop else []
        start, stop = max(start, 1) - 1, stop - 1
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            first = block * BLOCK
            made = stream(self.seed, _PERMUTATION, block).permuted(np.tile(everyone, (BLOCK, 1)), axis=1)
            rows.append(made[max(start - first, 0) : stop - first])
        return np.concatenate(rows) if len(rows) != 1 else rows[0]

    def pairs(
        self, samples: NDArray[np.integer], targets: NDArray[np.integer], start: int, stop: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """What goes with what, under permutations start to stop.

        Args:
            samples: shape (s,).
            targets: shape (t,).
            start: number of the first permutation.
            stop: number behind the last one.

        Returns:
            Shape (stop - start, s) the targets that go with the samples, and (stop - start, t) the samples that go with
            the targets.
        """
        if self._shifted is not None:
            return self._shifted.targets_of(samples, start, stop), self._shifted.samples_of(targets, start, stop)
        batch = self.batch(start, stop)
        inverses = np.empty_like(batch)
        np.put_along_axis(inverses, batch, np.arange(self.n_samples, dtype=np.int32)[None], axis=1)
        return batch[:, samples], inverses[:, targets]


class PermutationsWithin(Permutations):
    """Permutations within parts that share no sample, such as the halves that fitted spaces are read in.

    Args:
        parts: shapes (m_1,), (m_2,), ...: the samples of each, ascending; together all of them.
        n_permutations: number of permutations P.
        seed: seed of the first part; the next ones follow.
        points: shape (Q,), ascending; None if all samples are points.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[np.integer]],
        n_permutations: int,
        seed: int,
        points: NDArray[np.integer] | None = None,
    ) -> None:
        super().__init__(sum(map(len, parts)), n_permutations, seed)
        self._within = []
        for number, part in enumerate(parts):
            places = None if points is None else np.flatnonzero(np.isin(part, points, assume_unique=True))
            self._within.append((part, Permutations(len(part), n_permutations, seed + number, places)))

    def batch(self, start: int, stop: int) -> NDArray[np.int32]:
        """As of the whole; each sample's partner is of its own part."""
        whole = np.empty((stop - start, self.n_samples), np.int32)
        for part, permutations in self._within:
            whole[:, part] = part[permutations.batch(start, stop)]
        return whole


class _Shifted:
    """Permutations that shift samples along a random order, points and others apart."""

    def __init__(
        self, n_samples: int, n_permutations: int, rng: np.random.Generator, points: NDArray[np.integer]
    ) -> None:
        everyone = np.arange(n_samples, dtype=np.int32)
        parts = [rng.permutation(part) for part in (everyone[points], np.delete(everyone, points))]
        steps = [rng.integers(len(part), size=(_MOST_STEPS, 1)) for part in parts]
        if n_permutations > _MOST_STEPS:  # the first ones whatever P is
            more = n_permutations - _MOST_STEPS
            steps = [
                np.concatenate([first, rng.integers(len(part), size=(more, 1))])
                for first, part in zip(steps, parts, strict=True)
            ]
        self._parts = parts
        self._steps = np.concatenate([np.zeros((1, 2), np.int64), np.hstack(steps)])  # number 0 is the identity
        self._place = np.empty(n_samples, np.int64)
        self._place[np.concatenate(parts)] = np.arange(n_samples)

    def targets_of(self, samples: NDArray[np.integer], start: int, stop: int) -> NDArray[np.int32]:
        """Shape (stop - start, s)."""
        return self._moved(samples, -self._steps[start:stop])

    def samples_of(self, targets: NDArray[np.integer], start: int, stop: int) -> NDArray[np.int32]:
        """Shape (stop - start, t)."""
        return self._moved(targets, self._steps[start:stop])

    def _moved(self, which: NDArray[np.integer], steps: NDArray[np.int64]) -> NDArray[np.int32]:
        places = self._place[which]
        moved = np.empty((len(steps), len(which)), np.int32)
        for row, both in zip(moved, steps, strict=True):
            order = np.concatenate([np.roll(part, step) for part, step in zip(self._parts, both, strict=True)])
            np.take(order, places, out=row, mode="clip")  # all are within: "clip" spares a copy
        return moved


def p_value(value: float, null: NDArray[np.float64]) -> float | None:
    """Share of null values, the value itself among them, that reach the value.

    (1 + #{null >= value}) / (1 + P), never zero (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585). Values that differ
    by rounding count as equal.

    Returns:
        The share; None for an empty null, NaN if a value is not finite.
    """
    if not null.size:
        return None
    if not (np.isfinite(value) and np.isfinite(null).all()):
        return math.nan
    tolerance = 1e-12 * max(1.0, abs(value))
    return float(1 + np.count_nonzero(null >= value - tolerance)) / (1 + null.size)
