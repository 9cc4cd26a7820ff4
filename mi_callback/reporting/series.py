"""What a history gives to those who draw: curves over epochs, and the ceilings above them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.records import Ceiling, Flag, MutualInformation

__all__ = ["ROW_KEYS", "Ceiling", "Row", "Series", "even_selection", "series_of", "within_reach"]

_REMARKS = frozenset(flag.label for flag in Flag if not flag.is_doubt)
_REACH = 1.3  # a ceiling higher than this many times the highest value would squeeze the curves


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One estimate in a history: plain values that any file can hold, see ``MutualInformation``.

    A field with a default may be missing from files of an earlier version.
    """

    epoch: int
    step: int
    layer: str
    quantity: str
    mi: float
    raw: float
    null_mean: float
    null_std: float
    p_value: float | None
    stderr: float
    unit: str
    estimator: str
    space: str
    intrinsic_dim: float
    noise_std: float | None = None
    reduction: str | None = None
    n_samples: int
    flags: tuple[str, ...]

    @classmethod
    def of(cls, epoch: int, step: int, layer: str, quantity: str, estimate: MutualInformation) -> Row:
        """The row of an estimate."""
        return cls(
            epoch=int(epoch),
            step=int(step),
            layer=str(layer),
            quantity=str(quantity),
            mi=float(estimate.mi),
            raw=float(estimate.raw),
            null_mean=float(estimate.null_mean),
            null_std=float(estimate.null_std),
            p_value=None if estimate.p_value is None or math.isnan(estimate.p_value) else float(estimate.p_value),
            stderr=float(estimate.stderr),
            unit=str(estimate.unit),
            estimator=str(estimate.estimator),
            space=str(estimate.space),
            intrinsic_dim=float(estimate.intrinsic_dim),
            noise_std=None if estimate.noise_std is None else float(estimate.noise_std),
            reduction=estimate.reduction,
            n_samples=int(estimate.n_samples),
            flags=tuple(flag.label for flag in estimate.flags),
        )

    def to_dict(self) -> dict[str, Any]:
        """A new dict, flags as a list."""
        return {key: getattr(self, key) for key in ROW_KEYS} | {"flags": list(self.flags)}

    @property
    def is_doubtful(self) -> bool:
        """Whether a flag casts doubt on the value; a label of another version counts as a doubt."""
        return not _REMARKS.issuperset(self.flags)


ROW_KEYS = tuple(field.name for field in fields(Row))


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


def series_of(layer: str, quantity: str, rows: list[Row]) -> Series:
    """The series of one layer's rows."""
    rows = sorted(rows, key=attrgetter("epoch"))  # a resumed run may have measured an earlier epoch late
    mi, raw, null_std, stderr = np.array([(r.mi, r.raw, r.null_std, r.stderr) for r in rows], dtype=np.float64).T
    return Series(
        layer=layer,
        quantity=quantity,
        epochs=np.array([row.epoch for row in rows], dtype=np.int64),
        mi=mi,
        raw=raw,
        null_std=null_std,
        stderr=stderr,
        flagged=np.array([row.is_doubtful for row in rows]),
    )


def within_reach(ceilings: Mapping[str, Ceiling], values: Iterable[float]) -> dict[str, Ceiling]:
    """Those of the ceilings that can be drawn without squeezing the values below them."""
    top = max((v for v in values if math.isfinite(v)), default=0.0)
    return {name: c for name, c in ceilings.items() if c.value <= _REACH * max(top, 0.5)}


def even_selection(n: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` of n positions, evenly spaced, the first and the last among them; shape (min(n, most),)."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))
