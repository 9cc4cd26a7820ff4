"""What one run has measured on one data set: its rows by quantity, layer and epoch, and the limits above them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from mi_callback.estimation.records import Flag
from mi_callback.quantities import limit
from mi_callback.quantities import quantity as quantity_of
from mi_callback.reporting.series import Ceiling, Row, Series, series_of

__all__ = ["Part"]

_BY_NEIGHBORS = {"ksg", "ross"}  # names of estimators


class Part:
    """The estimates of one run on one data set.

    Attributes:
        ceilings: the upper limits by name.
    """

    def __init__(self) -> None:
        self.ceilings: dict[str, Ceiling] = {}
        self._rows: dict[tuple[int, str, str], Row] = {}
        # the same by quantity, layer and epoch: curves are read at every drawing, and the rows may be many
        self._curves: dict[str, dict[str, dict[int, Row]]] = {}
        self._series: dict[str, dict[str, Series]] = {}  # read from ``_curves`` already: several figures ask for them
        self._layers: dict[str, None] = {}  # a set in the order of first measurement
        self._estimators: dict[str, set[str]] = {}  # quantity to the estimators that measured it
        self._noise: dict[str, float] = {}  # quantity to the measurement noise that it was measured under

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, epoch: int, layer: str, quantity: str) -> Row:
        """One of the rows."""
        return self._rows[epoch, layer, quantity]

    def rows(self) -> list[Row]:
        """All of them, in the order of measurement."""
        return list(self._rows.values())

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of first measurement."""
        return list(self._layers)

    @property
    def quantities(self) -> list[str]:
        """Names of the quantities, in the order of first measurement."""
        return list(self._curves)

    @property
    def epochs(self) -> set[int]:
        """The epochs measured."""
        return {epoch for epoch, _, _ in self._rows}

    def add(self, row: Row) -> None:
        """Take a row in; one of the same epoch, layer and quantity is replaced."""
        self._rows[row.epoch, row.layer, row.quantity] = row
        self._curves.setdefault(row.quantity, {}).setdefault(row.layer, {})[row.epoch] = row
        self._series.pop(row.quantity, None)
        self._layers[row.layer] = None
        if row.estimator != "none":  # a failed measurement
            self._estimators.setdefault(row.quantity, set()).add(row.estimator)
        if row.noise_std is not None:
            self._noise[row.quantity] = row.noise_std

    def renumber(self, run: int) -> None:
        """Let the rows belong to another run."""
        for row in self.rows():
            self.add(replace(row, run=run))

    def series(self, quantity: str) -> dict[str, Series]:
        """Curves over epochs of one quantity, by layer."""
        if quantity not in self._series:
            curves = self._curves.get(quantity, {})
            series = {layer: series_of(layer, quantity, list(rows.values())) for layer, rows in curves.items()}
            self._series[quantity] = series
        return dict(self._series[quantity])

    def noise(self, quantity: str) -> float | None:
        """The standard deviation of measurement noise, for I(X; T + sigma Z); None without noise."""
        return self._noise.get(quantity)

    def ceilings_of(self, quantity: str) -> dict[str, Ceiling]:
        """The finite upper limits that bound ``quantity``, by name."""
        others = self._estimators.get(quantity, set()) - _BY_NEIGHBORS
        return {
            name: c
            for name, c in self.ceilings.items()
            if math.isfinite(c.value)
            and (not c.quantities or quantity in c.quantities)
            and not (limit(name).of_neighbors and others)
        }

    def withdraw_refuted(self, rows: Iterable[Row] | None = None) -> None:
        """Withdraw estimated ceilings that lie below usable information of the rows: they were read too low."""
        known = self._rows.values() if rows is None else rows
        attained = [row for row in known if quantity_of(row.quantity).is_lower_bound]
        for name, ceiling in list(self.ceilings.items()):
            if any(ceiling.is_refuted_by(r.mi, r.stderr) for r in attained if r.quantity in ceiling.quantities):
                del self.ceilings[name]
                self._withdraw_flags(ceiling)

    def _withdraw_flags(self, withdrawn: Ceiling) -> None:
        """Take back that estimates lie above a ceiling, where they lie above no other."""
        label = Flag.ABOVE_CEILING.label
        for row in list(self._rows.values()):
            others = self.ceilings_of(row.quantity).values()
            if (
                label in row.flags
                and row.quantity in withdrawn.quantities
                and not any(other.is_below(row.mi, row.stderr) for other in others)
            ):
                self.add(replace(row, flags=tuple(flag for flag in row.flags if flag != label)))
