"""Every estimate of one run or several in the order of measurement, as plain values that a checkpoint can hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mi_callback.estimation.records import Flag, MutualInformation
from mi_callback.quantities import limit
from mi_callback.quantities import quantity as quantity_of
from mi_callback.reporting.files import FORMAT, is_history_state, load, save
from mi_callback.reporting.series import ROW_KEYS, Ceiling, Row, Series, series_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["History"]

_BY_NEIGHBORS = {"ksg", "ross", "copula"}  # names of estimators


class History:
    """The estimates of training, one row a run, layer, quantity and epoch, in the order of measurement.

    A run is one training from its start; one that resumes from a checkpoint is the same run. Everything here is about
    the last run, but for ``to_rows``, files and ``len``, which hold all of them; ``of_run`` gives another by itself.

    What is measured again at an epoch that is already there, as happens when training resumes from a checkpoint that
    was written in the middle of an epoch, replaces the earlier row: the curve follows the weights that training went
    on with.

    Example:
        >>> from mi_callback import mutual_information
        >>> history = History()
        >>> estimate = mutual_information([0.1, 0.4, 0.2, 0.9, 0.5], [0.2, 0.3, 0.1, 0.8, 0.6], n_permutations=0)
        >>> history.append(epoch=0, step=10, layer="net.0", quantity="target", estimate=estimate)
        >>> history.layers
        ['net.0']
    """

    def __init__(self) -> None:
        self._earlier: list[History] = []  # the runs before, in order, one each
        self._start(0)

    def _start(self, run: int) -> None:
        self._run = run
        self._rows: dict[tuple[int, str, str], Row] = {}  # of this run
        # the same by quantity, layer and epoch: curves are read at every drawing, and the rows may be many
        self._curves: dict[str, dict[str, dict[int, Row]]] = {}
        self._series: dict[str, dict[str, Series]] = {}  # read from ``_curves`` already: several figures ask for them
        self._layers: dict[str, None] = {}  # a set in the order of first measurement
        self._estimators: dict[str, set[str]] = {}  # quantity to the estimators that measured it
        self._noise: dict[str, float] = {}  # quantity to the measurement noise that it was measured under
        self._ceilings: dict[str, Ceiling] = {}
        self._metrics: dict[str, dict[int, float]] = {}

    def begin_run(self) -> None:
        """Let what is added from now on be a new run; a run that nothing was measured in is not kept."""
        if self._rows:
            self._earlier.append(self._alone())
            self._start(self._run + 1)

    def _alone(self) -> History:
        """The last run by itself, sharing its content."""
        alone = copy.copy(self)
        alone._earlier = []
        return alone

    def of_run(self, run: int | None = None) -> History:
        """A copy that holds one run alone, to be drawn, tabled or laid over others.

        Args:
            run: number of the run, one of ``runs``; None for the last.

        Raises:
            ValueError: if there is no such run.
        """
        if run is None:
            run = self.runs[-1] if self.runs else self._run
        elif run not in self.runs:
            raise ValueError(f"run: expected one of {self.runs}, got {run!r}.")
        return copy.deepcopy(next(one for one in (*self._earlier, self) if one._run == run)._alone())

    def append(self, *, epoch: int, step: int, layer: str, quantity: str, estimate: MutualInformation) -> None:
        """Add one estimate.

        Args:
            epoch: epoch at whose end it was measured.
            step: global step at which it is logged.
            layer: name of the layer.
            quantity: "target" for I(T;Y), "input" for I(X;T), "usable" for usable information, or another name.
            estimate: what was measured. A failed measurement is an estimate of NaN.

        Raises:
            ValueError: if the unit differs from that of the rows before.
        """
        if self.unit not in (None, estimate.unit):
            raise ValueError(
                f"estimate: expected unit {self.unit!r} as in the rows before, got {estimate.unit!r}. Measure in one "
                "unit, or start a new History."
            )
        row = Row.of(estimate, run=self._run, epoch=epoch, step=step, layer=layer, quantity=quantity)
        self._add(row)
        self._withdraw_refuted([row])

    def _add(self, row: Row) -> None:
        self._rows[row.epoch, row.layer, row.quantity] = row
        self._curves.setdefault(row.quantity, {}).setdefault(row.layer, {})[row.epoch] = row
        self._series.pop(row.quantity, None)
        self._layers[row.layer] = None
        if row.estimator != "none":  # a failed measurement
            self._estimators.setdefault(row.quantity, set()).add(row.estimator)
        if row.noise_std is not None:
            self._noise[row.quantity] = row.noise_std

    def _withdraw_refuted(self, rows: Iterable[Row]) -> None:
        """Withdraw estimated ceilings that lie below usable information: they were read too low."""
        attained = [row for row in rows if quantity_of(row.quantity).is_lower_bound]
        for name, ceiling in list(self._ceilings.items()):
            if any(ceiling.is_refuted_by(r.mi, r.stderr) for r in attained if r.quantity in ceiling.quantities):
                del self._ceilings[name]
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
                self._add(replace(row, flags=tuple(flag for flag in row.flags if flag != label)))

    def set_ceiling(
        self, name: str, value: float, stderr: float = math.nan, *, quantities: tuple[str, ...] | None = None
    ) -> None:
        """Set an upper limit to be drawn; a later call with the same name replaces it.

        One with a standard error is an estimate. It is withdrawn, with the flags that rest on it, once usable
        information of any layer lies above it beyond error: it was read too low, and the layers were not too high.

        Args:
            name: "I(X;Y)", "H(Y)", "log n", "psi(n) - psi(k)" or another name, which is drawn as it stands.
            value: the limit, in the history's unit.
            stderr: its standard error; NaN if it is exact or unknown.
            quantities: quantities that it bounds; None goes by the name: I(X;Y) and H(Y) bound what a layer holds on
                the target, H(X) what it holds on the input, and any other name bounds everything.
        """
        bounded = limit(name).bounds if quantities is None else tuple(quantities)
        self._ceilings[str(name)] = Ceiling(float(value), float(stderr), bounded)
        self._withdraw_refuted(self._rows.values())

    def set_metric(self, name: str, epoch: int, value: float) -> None:
        """Keep a logged metric of training, such as the loss, to be drawn beside the curves."""
        self._metrics.setdefault(str(name), {})[int(epoch)] = float(value)

    @property
    def runs(self) -> list[int]:
        """Numbers of the runs in which something was measured, in ascending order."""
        return [history._run for history in (*self._earlier, self) if history._rows]

    @property
    def ceilings(self) -> dict[str, Ceiling]:
        """The upper limits by name."""
        return dict(self._ceilings)

    @property
    def metrics(self) -> dict[str, dict[int, float]]:
        """The training's metrics: name to epoch to value."""
        return {name: dict(values) for name, values in self._metrics.items()}

    @property
    def unit(self) -> str | None:
        """Unit of all values, None for an empty history."""
        return next(iter(self._rows.values())).unit if self._rows else None

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of first measurement."""
        return list(self._layers)

    @property
    def quantities(self) -> list[str]:
        """Names of the quantities, in the order of first measurement."""
        return list(self._curves)

    @property
    def epochs(self) -> list[int]:
        """The epochs measured, in ascending order."""
        return sorted({epoch for epoch, _, _ in self._rows})

    def __len__(self) -> int:
        return sum(len(history._rows) for history in (*self._earlier, self))

    def __repr__(self) -> str:
        runs = f"{len(self.runs)} runs, of the last " if self._earlier else ""
        return f"History({runs}{len(self.layers)} layers, {len(self.epochs)} epochs, quantities={self.quantities})"

    def to_rows(self) -> list[dict[str, Any]]:
        """One new dict of plain values a run, layer, quantity and epoch, keys as in ``ROW_KEYS``, in order measured."""
        return [row.to_dict() for row in self._all_rows()]

    def _all_rows(self) -> list[Row]:
        return [row for history in (*self._earlier, self) for row in history._rows.values()]

    def series(self, quantity: str, *, run: int | None = None) -> dict[str, Series]:
        """Curves over epochs of one quantity, by layer.

        Args:
            quantity: "target", "input" or another quantity of the history.
            run: number of the run, one of ``runs``; None for the last.

        Returns:
            A series for each layer in which the quantity was measured; empty if it never was.
        """
        if run is not None and run != self._run:
            return self.of_run(run).series(quantity)
        if quantity not in self._series:
            curves = self._curves.get(quantity, {})
            series = {layer: series_of(layer, quantity, list(rows.values())) for layer, rows in curves.items()}
            self._series[quantity] = series
        return dict(self._series[quantity])

    def ceilings_of(self, quantity: str) -> dict[str, Ceiling]:
        """The finite upper limits that bound ``quantity``, by name."""
        others = self._estimators.get(quantity, set()) - _BY_NEIGHBORS
        return {
            name: c
            for name, c in self._ceilings.items()
            if math.isfinite(c.value)
            and (not c.quantities or quantity in c.quantities)
            and not (limit(name).of_neighbors and others)
        }

    def noise(self, quantity: str) -> float | None:
        """The standard deviation of measurement noise, for I(X; T + sigma Z); None without noise."""
        return self._noise.get(quantity)

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas data frame, flags as lists. Needs pandas."""
        import pandas as pd

        return pd.DataFrame(self.to_rows(), columns=list(ROW_KEYS))

    def save(self, path: str | Path) -> None:
        """Write a file: ``.json`` holds everything, ``.csv`` the rows only.

        Args:
            path: where to write; a file that is there is replaced.

        Raises:
            ValueError: if the name ends otherwise.
        """
        save(self.state_dict(), Path(path))

    @classmethod
    def load(cls, path: str | Path, *, monitor: str | None = None) -> History:
        """Read a history from a Lightning checkpoint, or from a file that ``save`` wrote.

        Args:
            path: a ``.ckpt``, ``.pt``, ``.json`` or ``.csv`` file.
            monitor: part of the state key of the monitor wanted, for a checkpoint with several.

        Raises:
            ValueError: if the file holds no history, or several of which ``monitor`` does not name one.
        """
        history = cls()
        history.load_state_dict(load(Path(path), monitor))
        return history

    def plot(self, kind: str = "curves", *, ax: Axes | None = None) -> Figure | list[Artist]:
        """Draw a figure, which a notebook shows by itself.

        Args:
            kind: "curves" over epochs, the information "plane", a "heat_map" of I(T;Y), the "profile" over depth, or
                another name in ``mi_callback.reporting.figures.catalogue.FIGURES``.
            ax: axes to draw on; None makes a figure.

        Returns:
            The new figure, or the artists drawn on ``ax``.

        Raises:
            ValueError: if ``kind`` is none of these.
        """
        from mi_callback.reporting.figures.catalogue import plot

        return plot(self, kind, ax)

    def state_dict(self) -> dict[str, Any]:
        """Everything as dicts and lists of plain values, column by column, so that it loads with ``weights_only``."""
        rows = self._all_rows()
        columns: dict[str, list[Any]] = {key: [getattr(row, key) for row in rows] for key in ROW_KEYS}
        columns["flags"] = [list(flags) for flags in columns["flags"]]
        earlier = [{"run": history._run, **history._limits_and_metrics()} for history in self._earlier]
        return {"format": FORMAT, "columns": columns, **self._limits_and_metrics(), "earlier": earlier}

    def _limits_and_metrics(self) -> dict[str, Any]:
        ceilings = {
            name: {"value": c.value, "stderr": c.stderr, "quantities": list(c.quantities)}
            for name, c in self._ceilings.items()
        }
        return {"ceilings": ceilings, "metrics": self.metrics}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the content by that of a ``state_dict``.

        Raises:
            ValueError: if the state is not that of a history.
        """
        if not is_history_state(state):
            found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(
                f"state: expected what History.state_dict() returns, of format {FORMAT!r}, got {found}. Was it "
                "written by another version?"
            )
        columns = {key: values for key, values in state["columns"].items() if key in ROW_KEYS}
        rows = []
        for values in zip(*columns.values(), strict=True):
            fields = dict(zip(columns, values, strict=True))
            row = Row(**fields | {"flags": tuple(fields["flags"])})
            rows.append(row if "noise_std" in columns else _from_first_format(row))
        self._earlier = []
        self._start(min((row.run for row in rows), default=0))
        for row in rows:
            if row.run != self._run:
                self.begin_run()
                self._run = row.run
            self._add(row)
        told = {one["run"]: one for one in state.get("earlier", ())}
        for history in self._earlier:
            if history._run in told:
                history._load_limits_and_metrics(told[history._run])
        self._load_limits_and_metrics(told.get(self._run, state))

    def _load_limits_and_metrics(self, state: Mapping[str, Any]) -> None:
        self._ceilings = {
            name: Ceiling(c["value"], c["stderr"], tuple(c["quantities"])) for name, c in state["ceilings"].items()
        }
        self._withdraw_refuted(self._rows.values())
        self._metrics = {name: dict(values) for name, values in state["metrics"].items()}


def _from_first_format(row: Row) -> Row:
    """A row whose noise and reduction stood in the name of its space, and nowhere else."""
    reduction, comma, space = row.space.rpartition(", ")
    if row.estimator != "mixture":
        return replace(row, reduction=reduction) if comma and "->" in reduction else row
    return replace(row, noise_std=float(space.removeprefix("noise ")), reduction=reduction or None)
