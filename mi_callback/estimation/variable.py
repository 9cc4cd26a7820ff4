"""One side of an estimate: its values in every space, its neighbour tables and its target structure, each made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mi_callback.estimation.checks import check_finite, columns_of
from mi_callback.estimation.entropy import group_rows
from mi_callback.estimation.kinds import Kind, kind_of
from mi_callback.estimation.neighbors import Metric, NeighborTable, balance_rank, default_width
from mi_callback.estimation.parallel import shared_among
from mi_callback.estimation.spaces import normal_scores, standardize
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["PlainSpace", "Points", "Variable"]

PlainSpace = Literal["raw", "standard", "scores"]
Points: TypeAlias = NDArray[np.int64] | None
_SPACES: dict[PlainSpace, Callable[[NDArray[Any]], NDArray[np.floating]]] = {
    "raw": lambda values: values.astype(np.float64),
    "standard": standardize,
    "scores": normal_scores,
}

# Neighbours that a target's table may list beyond the usual, since wide rows seldom need completing; and how many times
# the usual number at evaluation points, which is about the same at 10,000 samples.
_TARGET_ENTRIES, _TIMES_AS_WIDE = 2**24, 3


class Variable:
    """Samples of one variable; keeps what is computed for it, so that it can be paired with many others.

    Args:
        values: shape (n,) or (n, d).
        discrete: whether the values are class labels; None goes by type and values, see ``kind_of``. Rows of several
            columns, such as one-hot codes, are then one label each.
        name: what errors call it.

    Attributes:
        kind: what the values are taken for, and why.

    Raises:
        ValueError: a shape other than (n,) or (n, d), no samples, or NaN or infinite numbers.
        TypeError: values that are not numbers where numbers are needed.
    """

    def __init__(self, values: ArrayLike, *, discrete: bool | Kind | None = None, name: str = "x") -> None:
        array = columns_of(name, values)
        self.name = name
        self.is_numeric = array.dtype.kind in "biuf"
        if discrete is False and not self.is_numeric:
            raise TypeError(
                f"{name}: expected real numbers, got strings such as {array.flat[0]!s:.40}. Class labels belong in y: "
                "swap the sides, the information is the same. Numbers written as strings: x.astype(float)."
            )
        if array.dtype.kind == "f":
            check_finite(name, array)
        self.kind = discrete if isinstance(discrete, Kind) else kind_of(array, discrete)
        self.values = array
        self._spaces: dict[str, NDArray[np.floating]] = {}
        self._tables: dict[tuple[PlainSpace, Metric, int, bool, bytes], NeighborTable] = {}
        self._scalars: dict[tuple[PlainSpace, int, bytes], ScalarTarget] = {}
        self._labels: LabelTarget | None = None

    @property
    def discrete(self) -> bool:
        """Whether the values are class labels."""
        return self.kind.discrete

    @property
    def n_samples(self) -> int:
        """Number of samples n."""
        return len(self.values)

    @property
    def is_constant(self) -> bool:
        """Whether all samples are equal."""
        return bool((self.values == self.values[:1]).all())

    @property
    def labels(self) -> LabelTarget:
        """The samples as class labels: equal rows are one class."""
        if self._labels is None:
            column = self.values
            if column.shape[1] > 1:
                column = group_rows(column).inverse.reshape(-1, 1)
            self._labels = LabelTarget.build(column[:, 0])
        return self._labels

    def subset(self, rows: NDArray[np.integer]) -> Variable:
        """The variable of some of the samples, as if the others had never been."""
        return Variable(self.values[rows], discrete=self.kind, name=self.name)

    def in_space(self, space: PlainSpace) -> NDArray[np.floating]:
        """Values in a space that fits nothing, shape (n, d)."""
        if not self.is_numeric:
            raise TypeError(f"{self.name}: expected real numbers, got {self.values.dtype}. Code categories as numbers.")
        if space not in self._spaces:
            self._spaces[space] = _SPACES[space](self.values)
        return self._spaces[space]

    def table(
        self, space: PlainSpace, metric: Metric, k: int, points: Points = None, *, wide: bool = False
    ) -> NeighborTable:
        """Neighbour table, on the balanced scale except in the raw space.

        Args:
            space: "raw", "standard" or "scores".
            metric: "euclidean" or "chebyshev".
            k: number of neighbours.
            points: shape (Q,), ascending, evaluation points; None for all samples.
            wide: list more neighbours, as for a table that serves every epoch.
        """
        which = b"" if points is None else points.tobytes()
        wide = wide or (space, metric, k, True, which) in self._tables
        key = (space, metric, k, wide, which)
        if key not in self._tables:
            n = self.n_samples
            width = default_width(n, k)
            if wide:
                width = min(n - 1, max(width, _TARGET_ENTRIES // n if points is None else _TIMES_AS_WIDE * width))
            rank = None if space == "raw" else balance_rank(n, k)
            fewer = None if points is None else self._table_at_fewer(key, points)
            if fewer is not None and points is not None:
                self._tables[key] = fewer.extended(points, unit_rank=rank)
            else:
                self._tables[key] = NeighborTable.build(
                    self.in_space(space), width, metric, unit_rank=rank, points=points
                )
        return self._tables[key]

    def _table_at_fewer(
        self, key: tuple[PlainSpace, Metric, int, bool, bytes], points: NDArray[np.int64]
    ) -> NeighborTable | None:
        """The same table at some of the points, the most of them; None if there is none."""
        same = [table for other, table in self._tables.items() if other[:-1] == key[:-1] and not table.is_complete]
        nested = [table for table in same if np.isin(table.samples, points, assume_unique=True).all()]
        return max(nested, key=lambda table: table.n_rows, default=None)

    def target(self, space: PlainSpace, metric: Metric, k: int, points: Points = None) -> Target:
        """What a layer's table is compared with: labels, values on a line, or a table. Arguments as for ``table``."""
        if self.discrete:
            return self.labels
        if self.values.shape[1] > 1:
            with shared_among(None):  # kept for other layers: one process may have it, and another not
                return self.table(space, metric, k, points, wide=True)
        key = (space, k, b"" if points is None else points.tobytes())
        if key not in self._scalars:
            rank = None if space == "raw" else balance_rank(self.n_samples, k)
            self._scalars[key] = ScalarTarget.build(self.in_space(space)[:, 0], unit_rank=rank, points=points)
        return self._scalars[key]
