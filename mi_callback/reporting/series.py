"""What a history gives to those who draw: curves over epochs, and the ceilings above them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.records import Ceiling, Flag, MutualInformation
from mi_callback.quantities import QUANTITIES, quantity

__all__ = [
    "ROW_KEYS",
    "Ceiling",
    "Estimates",
    "Row",
    "Series",
    "drawable_ceilings",
    "even_selection",
    "noise_sweep",
    "series_of",
    "shown_quantities",
    "targets_of",
]

_REMARKS = frozenset(flag.label for flag in Flag if not flag.is_doubt)
_MOST_TASKS = 4  # whose panels a figure has: with both quantities and I(X;T) 13 inches of them
_HIGHEST = 1.3  # times the highest value: the curves from zero keep three quarters of the axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One estimate in a history: plain values that any file can hold, see ``MutualInformation``.

    A field with a default may be missing from files of an earlier version.
    """

    run: int = 0
    epoch: int
    step: int
    data: str = "train"
    layer: str
    quantity: str
    mi: float
    low: float = math.nan
    high: float = math.nan
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
    n_points: int | None = None
    flags: tuple[str, ...]

    @classmethod
    def of(
        cls,
        estimate: MutualInformation,
        *,
        run: int = 0,
        epoch: int,
        step: int,
        data: str = "train",
        layer: str,
        quantity: str,
    ) -> Row:
        """The row of an estimate."""
        return cls(
            run=run,
            epoch=int(epoch),
            step=int(step),
            data=str(data),
            layer=str(layer),
            quantity=str(quantity),
            mi=float(estimate.mi),
            low=float(estimate.interval[0]),
            high=float(estimate.interval[1]),
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
            n_points=None if estimate.n_points is None else int(estimate.n_points),
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
    """One quantity of one layer over E epochs, in ascending order. All arrays have shape (E,) and are read-only.

    Attributes:
        layer: name of the layer.
        quantity: name of the quantity.
        epochs: the epochs measured.
        mi: null-debiased estimates; NaN where a measurement failed.
        low: low ends of the intervals that hold the truth; NaN in files of versions that had none.
        high: high ends likewise; infinite where nothing bounds the truth.
        raw: estimates before debiasing.
        null_std: standard deviations of the permutation null.
        stderr: standard errors.
        flagged: whether the estimate carries a flag that casts doubt on its value.
    """

    layer: str
    quantity: str
    epochs: NDArray[np.int64]
    mi: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    raw: NDArray[np.float64]
    null_std: NDArray[np.float64]
    stderr: NDArray[np.float64]
    flagged: NDArray[np.bool_]


def series_of(layer: str, quantity: str, rows: list[Row]) -> Series:
    """The series of one layer's rows."""
    rows = sorted(rows, key=attrgetter("epoch"))  # a resumed run may have measured an earlier epoch late
    numbers = [(r.mi, r.low, r.high, r.raw, r.null_std, r.stderr) for r in rows]
    mi, low, high, raw, null_std, stderr = np.array(numbers, dtype=np.float64).T
    series = Series(
        layer=layer,
        quantity=quantity,
        epochs=np.array([row.epoch for row in rows], dtype=np.int64),
        mi=mi,
        low=low,
        high=high,
        raw=raw,
        null_std=null_std,
        stderr=stderr,
        flagged=np.array([row.is_doubtful for row in rows]),
    )
    for values in (series.epochs, mi, low, high, raw, null_std, stderr, series.flagged):
        values.setflags(write=False)  # all who ask share them
    return series


def drawable_ceilings(ceilings: Mapping[str, Ceiling], values: Iterable[float]) -> dict[str, Ceiling]:
    """Those of the ceilings that can be drawn without squeezing the values below them."""
    top = max((v for v in values if math.isfinite(v)), default=0.0)
    # with all values near zero a ceiling of half a bit is still drawn: it shows how little there is to find
    return {name: c for name, c in ceilings.items() if c.value <= _HIGHEST * max(top, 0.5)}


def even_selection(n: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` of n positions, evenly spaced, the first and the last among them; shape (min(n, most),)."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


class Estimates(Protocol):
    """What figures, tables and reports read of a history; ``History`` describes each member."""

    @property
    def unit(self) -> str | None:
        """Unit of all values."""

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of depth."""

    @property
    def quantities(self) -> list[str]:
        """Names of the quantities."""

    @property
    def epochs(self) -> list[int]:
        """The epochs measured, in ascending order."""

    @property
    def data(self) -> list[str]:
        """Names of the data sets, the first of which is shown where there is room for one only."""

    @property
    def ceilings(self) -> dict[str, Ceiling]:
        """The upper limits by name."""

    @property
    def metrics(self) -> dict[str, dict[int, float]]:
        """The training's metrics: name to epoch to value."""

    def __len__(self) -> int: ...

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict a layer, quantity and epoch."""

    def of_run(self, run: int | None = None) -> Estimates:
        """One run alone, the last by default."""

    def groups(self) -> Mapping[str, Sequence[Estimates]]:
        """All runs, one history each, by the name of their group."""

    def of_data(self, data: str) -> Estimates:
        """One data set of the last run alone."""

    def series(self, quantity: str, *, data: str | None = None) -> dict[str, Series]:
        """Curves over epochs of one quantity, by layer, of the first data set by default."""

    def ceilings_of(self, quantity: str, *, data: str | None = None) -> dict[str, Ceiling]:
        """The finite upper limits that bound the quantity, of the first data set by default."""

    def noise(self, quantity: str) -> float | None:
        """The standard deviation of measurement noise, None without noise."""


def noise_sweep(history: Estimates) -> list[str]:
    """The quantities I(X; T + sigma Z) of further sigma, which have a figure of their own."""
    return [name for name in history.quantities if name not in QUANTITIES and history.noise(name) is not None]


def targets_of(history: Estimates) -> list[str]:
    """The quantities I(T;Y), of one target or several."""
    return [name for name in history.quantities if "target" in (name, quantity(name).base)]


def shown_quantities(history: Estimates) -> list[str]:
    """The quantities of a history that figures have room for: of many tasks the first four."""
    tasks = list(dict.fromkeys(quantity(name).task for name in history.quantities if quantity(name).task))
    return [name for name in history.quantities if quantity(name).task not in tasks[_MOST_TASKS:]]
