"""The side of an estimate that is permuted: values on a line, class labels, or a neighbour table of its own.

A target is prepared once and then compared with the neighbour table of any layer, under any permutations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.neighbors import NeighborTable, typical

__all__ = ["LabelTarget", "ScalarTarget", "TableTarget", "Target", "distances_on_line"]


@dataclass(frozen=True, slots=True, eq=False)
class ScalarTarget:
    """Continuous values in one dimension; their neighbours follow from sorting.

    Attributes:
        values: shape (n,), float64.
        order: shape (n,): samples in ascending order.
        positions: shape (n,): place of each sample in that order.
        copies: shape (n,): number of equal values at each place.
        unit: distance that counts as 1 beside a table.
    """

    values: NDArray[np.float64]
    order: NDArray[np.int32]
    positions: NDArray[np.int32]
    copies: NDArray[np.int32]
    unit: float = 1.0

    @classmethod
    def build(
        cls,
        values: NDArray[np.floating],
        *,
        unit_rank: int | None = None,
        points: NDArray[np.integer] | None = None,
    ) -> ScalarTarget:
        """Sort values.

        Args:
            values: shape (n,), finite.
            unit_rank: take the typical distance to the neighbour of this rank for unit (the balanced scale).
            points: shape (Q,), samples whose distances say what is typical; None for all.
        """
        line: NDArray[np.float64] = np.ascontiguousarray(values, dtype=np.float64)
        order = np.argsort(line, kind="stable").astype(np.int32)
        positions = np.empty(len(order), np.int32)
        positions[order] = np.arange(len(order), dtype=np.int32)
        unit = 1.0
        if unit_rank is not None:
            places = None if points is None else positions[points].astype(np.intp)
            unit = typical(distances_on_line(line[order], unit_rank, places))
        _, group, sizes = np.unique(line[order], return_inverse=True, return_counts=True)
        return cls(line, order, positions, sizes[group].astype(np.int32), unit)

    @property
    def n_samples(self) -> int:
        """Number of samples n."""
        return len(self.values)

    def restricted(
        self,
        rows: NDArray[np.integer],
        width: int | None = None,
        unit_rank: int | None = None,
        points: NDArray[np.integer] | None = None,
    ) -> ScalarTarget:
        """The target of a subset of the samples; ``width``, which a table needs, has no meaning here."""
        part = ScalarTarget.build(self.values[rows], unit_rank=unit_rank, points=points)
        return part if unit_rank is not None else replace(part, unit=self.unit)


def distances_on_line(
    line: NDArray[np.float64], rank: int, places: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Distance of sorted values to their neighbour of a rank.

    Args:
        line: shape (n,), ascending.
        rank: less than n.
        places: shape (Q,), the values whose distances are wanted; None for all.
    """
    n = len(line)
    if places is not None:
        nearest = np.full(len(places), np.inf)
        for below in range(rank + 1):
            first, last = places - below, places + (rank - below)
            within = (first >= 0) & (last < n)
            own = line[places]
            farther = np.maximum(own - line[np.maximum(first, 0)], line[np.minimum(last, n - 1)] - own)
            np.minimum(nearest, farther, out=nearest, where=within)
        return nearest
    nearest = np.full(n, np.inf)
    for below in range(rank + 1):  # that many of the neighbours lie below
        above = rank - below
        own = line[below : n - above]
        farther = np.maximum(own - line[: n - rank], line[rank:] - own)
        np.minimum(nearest[below : n - above], farther, out=nearest[below : n - above])
    return nearest


@dataclass(frozen=True, slots=True, eq=False)
class LabelTarget:
    """Class labels.

    Attributes:
        codes: shape (n,), int32: class of each sample, 0 to the number of classes less one.
        sizes: shape (classes,): members of each class.
    """

    codes: NDArray[np.int32]
    sizes: NDArray[np.int64]

    @classmethod
    def build(cls, labels: NDArray[np.generic]) -> LabelTarget:
        """Number the classes of labels, shape (n,)."""
        _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        return cls(codes.astype(np.int32), sizes.astype(np.int64))

    @property
    def n_samples(self) -> int:
        """Number of samples n."""
        return len(self.codes)

    def restricted(
        self,
        rows: NDArray[np.integer],
        width: int | None = None,
        unit_rank: int | None = None,
        points: NDArray[np.integer] | None = None,
    ) -> LabelTarget:
        """The target of a subset of the samples; the other arguments, which a table needs, have no meaning here."""
        return LabelTarget.build(self.codes[rows])

    def with_members(self, least: int, most_share: float) -> LabelTarget | None:
        """The labels with rare classes merged, smallest first, until the merged class has enough members.

        This can only lower what they share with anything, by at most share * log(classes).

        Args:
            least: members of the smallest class at least.
            most_share: share of the samples that may be merged.

        Returns:
            The labels as they are if no class is too small; None if more would have to be merged.
        """
        if self.sizes.min() >= least:
            return self
        ascending = np.argsort(self.sizes, kind="stable")
        members = np.cumsum(self.sizes[ascending])
        merged = max(int(np.count_nonzero(self.sizes < least)), int(np.searchsorted(members, least)) + 1, 2)
        if merged >= len(self.sizes) or members[merged - 1] > most_share * self.n_samples:
            return None
        names = np.arange(len(self.sizes))
        names[ascending[:merged]] = ascending[0]
        return LabelTarget.build(names[self.codes])


TableTarget: TypeAlias = NeighborTable
Target: TypeAlias = ScalarTarget | LabelTarget | TableTarget
