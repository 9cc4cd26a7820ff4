"""X and the targets of each task as they are kept from one sweep to the next, and what targets are several tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.collection import CollectionError
from mi_callback.collection.positions import IGNORED
from mi_callback.estimation import Variable
from mi_callback.estimation.kinds import Kind, kind_of
from mi_callback.estimation.layer_estimator import LayerEstimator

__all__ = ["Kept", "Task", "called", "column_name", "columns_as_tasks", "keep", "known_rows", "same", "unusable"]

_MOST_COLUMNS = 40  # that are taken as tasks: the attributes of CelebA; each costs as much as a target


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """X or Y as it was collected, and the variable that holds its tables."""

    collected: NDArray[Any]
    variable: Variable
    error: Exception | None

    @classmethod
    def failed(cls, n_samples: int, error: Exception) -> Kept:
        """In the place of one that could not be collected."""
        nothing = np.zeros((n_samples, 1))
        return cls(nothing, Variable(nothing), error)


@dataclass(slots=True, eq=False)
class Task:
    """One of the targets.

    Attributes:
        name: of the task; empty if it is the only one.
        y: its targets.
        layers: measures layers against them.
        rows: the samples that have a target; None if all do.
        x: X of those samples, where it bounds what a layer knows of Y.
        whole_x: X of all samples, of which ``x`` is a part.
        refuted: whether a layer's usable information lay above I(X;Y).
    """

    name: str
    y: Kept
    layers: LayerEstimator
    rows: NDArray[np.intp] | None = None
    x: Variable | None = None
    whole_x: Variable | None = None
    refuted: bool = False


def called(task: str) -> str:
    """What the targets of a task are called in messages."""
    return f"targets of task {task!r}" if task else "targets"


def column_name(task: str, column: int) -> str:
    """The name of a column of a task's targets that is a task of its own."""
    return f"{task}_{column}" if task else str(column)


def columns_as_tasks(values: NDArray[Any]) -> bool:
    """Whether the columns of targets are tasks of their own, as many labels of a sample are.

    They are where each column holds classes, and the rows together are too many different ones to be classes: one-hot
    rows, and rows of few labels, stay one target. So do more than ``_MOST_COLUMNS``, such as the pixels of an image.

    Args:
        values: shape (n, q).
    """
    n_columns = values.shape[1]
    if not 1 < n_columns <= _MOST_COLUMNS or values.dtype.kind not in "biuf" or kind_of(values).discrete:
        return False
    columns = (
        column if (rows := known_rows(column)) is None else column[rows] for column in np.hsplit(values, n_columns)
    )
    return all(len(column) > 0 and _is_class(column) for column in columns)


def _is_class(column: NDArray[Any]) -> bool:
    return bool((column == column[0]).all()) or kind_of(column).discrete


def known_rows(values: NDArray[Any]) -> NDArray[np.intp] | None:
    """The samples that have a target, where integers hold torch's ignore_index -100; None if all have one.

    Integers with other negative numbers are measured as they are: there -100 is one of them.

    Args:
        values: shape (n, q); a sample has no target if all of its q are ignored.
    """
    if values.dtype.kind != "i" or not (values == IGNORED).any() or ((values < 0) & (values != IGNORED)).any():
        return None
    return np.flatnonzero((values != IGNORED).any(axis=1))


def keep(
    kept: Kept | None,
    collected: NDArray[Any],
    name: str,
    discrete: Kind | bool | None,
    rows: NDArray[np.intp] | None = None,
) -> Kept:
    """The variable of last time if the values are the same and read the same way, else a new one.

    Args:
        kept: what was kept last time.
        collected: shape (n, q), the values.
        name: what messages call them.
        discrete: whether they are classes.
        rows: those of them to take; None for all.
    """
    if kept is not None and same(kept.collected, collected) and discrete in (None, kept.variable.kind):
        return kept
    values = collected if rows is None else collected[rows]
    error = unusable(values, name)
    if rows is not None and not len(rows):
        error = CollectionError(f"{name}: expected some that are not -100, got {len(collected)} that are.")
    if error is not None:
        values = np.zeros((len(collected), 1))
    try:
        return Kept(collected, Variable(values, discrete=discrete, name=name), error)
    except (TypeError, ValueError) as refused:  # neither numbers nor labels: the same at every epoch
        raise CollectionError(str(refused)) from refused


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays hold the same values of the same type."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b))


def unusable(values: NDArray[Any], name: str) -> CollectionError | None:
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
