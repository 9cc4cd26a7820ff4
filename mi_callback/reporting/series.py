"""What a history gives to those who draw: curves over epochs, and the ceilings above them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.records import Flag

__all__ = ["ROW_KEYS", "Ceiling", "Series", "even_selection", "series_of", "within_reach"]

ROW_KEYS = (
    "run",
    "epoch",
    "step",
    "layer",
    "quantity",
    "mi",
    "raw",
    "null_mean",
    "null_std",
    "p_value",
    "stderr",
    "unit",
    "estimator",
    "space",
    "intrinsic_dim",
    "n_samples",
    "flags",
)

_REMARKS = frozenset(flag.label for flag in Flag if not flag.is_doubt)
_epoch = itemgetter(ROW_KEYS.index("epoch"))
_numbers = itemgetter(*(ROW_KEYS.index(key) for key in ("mi", "raw", "null_std", "stderr")))
_REACH = 1.3  # a ceiling higher than this many times the highest value would squeeze the curves


@dataclass(frozen=True, slots=True)
class Ceiling:
    """An upper limit of what can be true, or of what the estimator can read.

    Attributes:
        value: the limit, in the history's unit.
        stderr: its standard error; NaN if it is exact or unknown.
        quantities: quantities that it bounds; empty for all.
    """

    value: float
    stderr: float = math.nan
    quantities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One quantity of one layer over E epochs, in ascending order of epochs. All arrays have shape (E,).

    Attributes:
        layer: name of the layer.
        quantity: name of the quantity.
        epochs: the epochs measured.
        mi: null-debiased estimates; NaN where a measurement failed.
        raw: estimates before debiasing.
        null_std: standard deviations of the permutation null.
        stderr: standard errors.
        flagged: whether the estimate carries a flag that casts doubt on its value.
    """

    layer: str
    quantity: str
    epochs: NDArray[np.int64]
    mi: NDArray[np.float64]
    raw: NDArray[np.float64]
    null_std: NDArray[np.float64]
    stderr: NDArray[np.float64]
    flagged: NDArray[np.bool_]


def series_of(layer: str, quantity: str, rows: list[tuple[Any, ...]]) -> Series:
    """The series of one layer's rows, whose values are in the order of ``ROW_KEYS``."""
    rows = sorted(rows, key=_epoch)  # a resumed run may have measured an earlier epoch late
    mi, raw, null_std, stderr = np.array([_numbers(row) for row in rows], dtype=np.float64).T
    return Series(
        layer=layer,
        quantity=quantity,
        epochs=np.array([_epoch(row) for row in rows], dtype=np.int64),
        mi=mi,
        raw=raw,
        null_std=null_std,
        stderr=stderr,
        flagged=np.array([not _REMARKS.issuperset(row[-1]) for row in rows]),
    )


def within_reach(ceilings: Mapping[str, Ceiling], values: Iterable[float]) -> dict[str, Ceiling]:
    """Those of the ceilings that can be drawn without squeezing the values below them."""
    top = max((v for v in values if math.isfinite(v)), default=0.0)
    return {name: c for name, c in ceilings.items() if c.value <= _REACH * max(top, 0.5)}


def even_selection(n: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` of n positions, evenly spaced, the first and the last among them; shape (min(n, most),)."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))
