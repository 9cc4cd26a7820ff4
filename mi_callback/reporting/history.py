"""Every estimate of one run or several in the order of measurement, as plain values that a checkpoint can hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mi_callback.estimation.records import MutualInformation
from mi_callback.quantities import limit
from mi_callback.reporting.files import FORMAT, is_history_state, load, save
from mi_callback.reporting.part import Part
from mi_callback.reporting.series import ROW_KEYS, Ceiling, Row, Series

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["History"]


class History:
    """The estimates of training, one row a run, data set, layer, quantity and epoch, in the order of measurement.

    A run is one training from its start; one that resumes from a checkpoint is the same run. Everything here is about
    the last run, but for ``to_rows``, files and ``len``, which hold all of them; ``of_run`` gives another by itself.
    Where a run has several data sets, curves and limits are those of the first, unless another is asked for;
    ``of_data`` gives another by itself.

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
        self._name: str | None = None  # of this run, in a history of several that were merged
        self._parts: dict[str, Part] = {}  # of this run, by data set
        # data set, epoch, layer and quantity of each row of this run, in the order of measurement
        self._order: dict[tuple[str, int, str, str], None] = {}
        self._metrics: dict[str, dict[int, float]] = {}

    def begin_run(self) -> None:
        """Let what is added from now on be a new run; a run that nothing was measured in is not kept."""
        if self._order:
            self._earlier.append(self._alone())
            self._start(self._run + 1)

    def _alone(self) -> History:
        """The last run by itself, sharing its content."""
        alone = copy.copy(self)
        alone._earlier = []
        return alone

    @property
    def _first(self) -> Part:
        """The first data set that something was measured on."""
        parts = list(self._parts.values()) or [Part()]
        return next((part for part in parts if len(part)), parts[0])

    def of_data(self, data: str) -> History:
        """A copy that holds one data set of the last run alone.

        Args:
            data: name of the data set, one of ``data``.

        Raises:
            ValueError: if there is no such data set.
        """
        if data not in self.data:
            raise ValueError(f"data: expected one of {self.data}, got {data!r}.")
        alone = self._alone()
        alone._parts = {data: self._parts[data]}
        alone._order = {key: None for key in self._order if key[0] == data}
        return copy.deepcopy(alone)

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

    @classmethod
    def merged(cls, histories: Mapping[str, History | Sequence[History]]) -> History:
        """Put several histories into one, to compare them: seeds, widths, data sets of one kind of network.

        Every run of every history is a run of the new one. Runs of one name are one group, such as the seeds of one
        width: ``plot("runs")`` draws their mean and spread, one kind of line a group.

        Args:
            histories: name to a history, or to several.

        Returns:
            A new history; ``names`` says what its runs are called.

        Raises:
            ValueError: there is nothing to merge, units differ, or no layer is in all of them.

        Example:
            >>> History.merged({"narrow": [], "wide": []})
            Traceback (most recent call last):
            ...
            ValueError: histories: expected at least one estimate under 'narrow', got none.
        """
        if not isinstance(histories, Mapping) or not histories:
            raise ValueError(f"histories: expected a dict of names to histories, got {type(histories).__name__}.")
        found: list[History] = []
        for name, given in histories.items():
            several = [given] if isinstance(given, History) else list(given)
            if foreign := [type(one).__name__ for one in several if not isinstance(one, History)]:
                raise ValueError(f"histories: expected a History, or a list of them, under {name!r}, got {foreign[0]}.")
            if not any(map(len, several)):
                raise ValueError(f"histories: expected at least one estimate under {name!r}, got none.")
            found += [one._alone_as(len(found) + i, str(name)) for i, one in enumerate(_runs_of(several))]
        units = sorted({str(one.unit) for one in found})
        if len(units) > 1:
            raise ValueError(f"histories: expected one unit, got {units}. Measure all in one unit.")
        if not set.intersection(*(set(one.layers) for one in found)):
            layers = {one._name: one.layers for one in found}
            raise ValueError(
                f"histories: expected a layer that all of them have, got {layers}. Give the layers that correspond one "
                "label when measuring, as in layers={'encoder.3': 'bottleneck'}."
            )
        whole = cls()
        whole.__dict__.update(found[-1].__dict__)
        whole._earlier = found[:-1]
        return whole

    def _alone_as(self, run: int, name: str) -> History:
        """This history, of one run, under another number and a name."""
        self._run, self._name = run, name
        for part in self._parts.values():
            part.renumber(run)
        return self

    @property
    def names(self) -> dict[int, str]:
        """What runs of a merged history are called, by their number."""
        return {one._run: one._name for one in (*self._earlier, self) if one._order and one._name is not None}

    def groups(self) -> dict[str, list[History]]:
        """Copies of all runs, one history each, by name; those without a name are one group, under an empty one."""
        groups: dict[str, list[History]] = {}
        for run in self.runs:
            groups.setdefault(self.names.get(run, ""), []).append(self.of_run(run))
        return groups

    def append(
        self, *, epoch: int, step: int, layer: str, quantity: str, estimate: MutualInformation, data: str = "train"
    ) -> None:
        """Add one estimate.

        Args:
            epoch: epoch at whose end it was measured.
            step: global step at which it is logged.
            layer: name of the layer.
            quantity: "target" for I(T;Y), "input" for I(X;T), "usable" for usable information, or another name.
            estimate: what was measured. A failed measurement is an estimate of NaN.
            data: name of the data set.

        Raises:
            ValueError: if the unit differs from that of the rows before.
        """
        if self.unit not in (None, estimate.unit):
            raise ValueError(
                f"estimate: expected unit {self.unit!r} as in the rows before, got {estimate.unit!r}. Measure in one "
                "unit, or start a new History."
            )
        row = Row.of(estimate, run=self._run, epoch=epoch, step=step, data=data, layer=layer, quantity=quantity)
        self._add(row)
        self._parts[row.data].withdraw_refuted([row])

    def _add(self, row: Row) -> None:
        self._parts.setdefault(row.data, Part()).add(row)
        self._order[row.data, row.epoch, row.layer, row.quantity] = None

    def set_ceiling(
        self,
        name: str,
        value: float,
        stderr: float = math.nan,
        *,
        quantities: tuple[str, ...] | None = None,
        data: str = "train",
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
            data: name of the data set that it holds for.
        """
        bounded = limit(name).bounds if quantities is None else tuple(quantities)
        part = self._parts.setdefault(str(data), Part())
        part.ceilings[str(name)] = Ceiling(float(value), float(stderr), bounded)
        part.withdraw_refuted()

    def set_metric(self, name: str, epoch: int, value: float) -> None:
        """Keep a logged metric of training, such as the loss, to be drawn beside the curves."""
        self._metrics.setdefault(str(name), {})[int(epoch)] = float(value)

    @property
    def runs(self) -> list[int]:
        """Numbers of the runs in which something was measured, in ascending order."""
        return [history._run for history in (*self._earlier, self) if history._order]

    @property
    def data(self) -> list[str]:
        """Names of the data sets measured, in the order of first measurement."""
        return [name for name, part in self._parts.items() if len(part)]

    @property
    def ceilings(self) -> dict[str, Ceiling]:
        """The upper limits by name, of the first data set."""
        return dict(self._first.ceilings)

    @property
    def metrics(self) -> dict[str, dict[int, float]]:
        """The training's metrics: name to epoch to value."""
        return {name: dict(values) for name, values in self._metrics.items()}

    @property
    def unit(self) -> str | None:
        """Unit of all values, None for an empty history."""
        return next((self._row(key).unit for key in self._order), None)

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of first measurement."""
        return list(dict.fromkeys(layer for part in self._parts.values() for layer in part.layers))

    @property
    def quantities(self) -> list[str]:
        """Names of the quantities, in the order of first measurement."""
        return list(dict.fromkeys(quantity for part in self._parts.values() for quantity in part.quantities))

    @property
    def epochs(self) -> list[int]:
        """The epochs measured, in ascending order."""
        return sorted(set[int]().union(*(part.epochs for part in self._parts.values())))

    def __len__(self) -> int:
        return sum(len(history._order) for history in (*self._earlier, self))

    def __repr__(self) -> str:
        runs = f"{len(self.runs)} runs, of the last " if self._earlier else ""
        data = f", data={self.data}" if len(self.data) > 1 else ""
        return (
            f"History({runs}{len(self.layers)} layers, {len(self.epochs)} epochs, quantities={self.quantities}{data})"
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """One new dict of plain values a run, data set, layer, quantity and epoch, in the order of measurement.

        Keys are those of ``ROW_KEYS``.
        """
        return [row.to_dict() for row in self._all_rows()]

    def _row(self, key: tuple[str, int, str, str]) -> Row:
        data, epoch, layer, quantity = key
        return self._parts[data].row(epoch, layer, quantity)

    def _all_rows(self) -> list[Row]:
        return [history._row(key) for history in (*self._earlier, self) for key in history._order]

    def series(self, quantity: str, *, run: int | None = None, data: str | None = None) -> dict[str, Series]:
        """Curves over epochs of one quantity, by layer.

        Args:
            quantity: "target", "input" or another quantity of the history.
            run: number of the run, one of ``runs``; None for the last.
            data: name of the data set; None for the first.

        Returns:
            A series for each layer in which the quantity was measured; empty if it never was.
        """
        if run is not None and run != self._run:
            return self.of_run(run).series(quantity, data=data)
        return self._part(data).series(quantity)

    def _part(self, data: str | None) -> Part:
        return self._first if data is None else self._parts.get(data, Part())

    def ceilings_of(self, quantity: str, *, data: str | None = None) -> dict[str, Ceiling]:
        """The finite upper limits that bound ``quantity``, by name, of one data set, the first by default."""
        return self._part(data).ceilings_of(quantity)

    def noise(self, quantity: str) -> float | None:
        """The standard deviation of measurement noise, for I(X; T + sigma Z); None without noise."""
        return self._first.noise(quantity)

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
            path: a ``.ckpt``, ``.pt``, ``.json`` or ``.csv`` file; or a folder, such as that of a logger's run or of
                Trainer's checkpoints, of which the newest file that holds a history is read.
            monitor: part of the state key of the monitor wanted, for a checkpoint with several.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file holds no history, or several of which ``monitor`` does not name one.
        """
        history = cls()
        history.load_state_dict(load(Path(path), monitor))
        return history

    def plot(self, kind: str = "curves", *, ax: Axes | None = None) -> Figure | list[Artist]:
        """Draw a figure, which a notebook shows by itself.

        Args:
            kind: "curves" over epochs, the information "plane", a "heat_map" of I(T;Y), the "profile" over depth, the
                "gap" between data sets, "runs" over one another, or another name in
                ``mi_callback.reporting.figures.catalogue.FIGURES``.
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
        earlier = [{"run": one._run, **one._limits_and_metrics()} for one in self._earlier]
        return {"format": FORMAT, "columns": columns, **self._limits_and_metrics(), "earlier": earlier}

    def _limits_and_metrics(self) -> dict[str, Any]:
        limits = {
            data: {
                name: {"value": c.value, "stderr": c.stderr, "quantities": list(c.quantities)}
                for name, c in part.ceilings.items()
            }
            for data, part in self._parts.items()
        }
        # those of training data stand where versions without other data look for them
        found = {"ceilings": limits.pop("train", {}), "ceilings_of_data": limits, "metrics": self.metrics}
        return found if self._name is None else found | {"name": self._name}

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
        limits = {"train": state["ceilings"], **state.get("ceilings_of_data", {})}
        for data, ceilings in limits.items():
            if not ceilings:
                continue
            part = self._parts.setdefault(data, Part())
            part.ceilings = {
                name: Ceiling(c["value"], c["stderr"], tuple(c["quantities"])) for name, c in ceilings.items()
            }
            part.withdraw_refuted()
        self._metrics = {name: dict(values) for name, values in state["metrics"].items()}
        self._name = state.get("name")


def _runs_of(histories: Sequence[History]) -> list[History]:
    """Copies of all runs of all histories."""
    return [history.of_run(run) for history in histories for run in history.runs]


def _from_first_format(row: Row) -> Row:
    """A row whose noise and reduction stood in the name of its space, and nowhere else."""
    reduction, comma, space = row.space.rpartition(", ")
    if row.estimator != "mixture":
        return replace(row, reduction=reduction) if comma and "->" in reduction else row
    return replace(row, noise_std=float(space.removeprefix("noise ")), reduction=reduction or None)
