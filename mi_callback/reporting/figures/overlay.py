"""Several runs of one network, such as seeds, laid over one another: mean and spread."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mi_callback.reporting.figures.annotations import draw_ceilings
from mi_callback.reporting.figures.style import (
    DATA_STYLES,
    GREY,
    INK,
    MOST_NAMED,
    depth_bar,
    empty_note,
    layer_looks,
    legend,
    new_figure,
    style,
)
from mi_callback.reporting.labels import axis_label, layer_labels
from mi_callback.reporting.series import Estimates, Series

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["overlay"]


@overload
def overlay(
    histories: Sequence[Estimates] | Mapping[str, Sequence[Estimates]],
    *,
    quantity: str = ...,
    layers: Sequence[str] | None = ...,
    ax: None = ...,
) -> Figure: ...


@overload
def overlay(
    histories: Sequence[Estimates] | Mapping[str, Sequence[Estimates]],
    *,
    quantity: str = ...,
    layers: Sequence[str] | None = ...,
    ax: Axes,
) -> list[Artist]: ...


def overlay(
    histories: Sequence[Estimates] | Mapping[str, Sequence[Estimates]],
    *,
    quantity: str = "target",
    layers: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure | list[Artist]:
    """Draw one quantity of several runs: the mean over the runs, a band of one standard deviation, and each run thinly.

    Mean and band are drawn at the epochs that all runs of a group measured without failing; the runs themselves are
    drawn whole. The ceilings are those of the first run.

    Args:
        histories: the runs; or groups of them by name, such as the seeds of two widths, each with a mean and a spread
            of its own and one kind of line.
        quantity: the quantity to draw.
        layers: the layers to draw; None takes those that all runs have.
        ax: axes to draw on; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.

    Raises:
        ValueError: if there is no history, if units differ, or if a layer is missing from a run.
    """
    groups = dict(histories) if isinstance(histories, Mapping) else {"": histories}
    every = [history for group in groups.values() for history in group]
    if not every or not all(map(len, groups.values())):
        raise ValueError("histories: expected at least one History, got none.")
    units = {history.unit for history in every if len(history)}
    if len(units) > 1:
        raise ValueError(f"histories: expected one unit, got {sorted(map(str, units))}. Measure the runs in one unit.")
    runs = {name: [history.series(quantity) for history in group] for name, group in groups.items()}
    first, *others = [run for group in runs.values() for run in group]
    common = [name for name in first if all(name in run for run in others)]
    missing = [name for name in layers or () if name not in common]
    if missing:
        raise ValueError(f"layers: expected layers that every run has, {common}, got {missing}.")
    figure = new_figure(3.3) if ax is None else None
    if figure is not None:
        ax = figure.add_subplot()
    assert ax is not None
    drawn = _draw(ax, every[0], runs, quantity, list(layers or common), own_figure=figure is not None)
    return drawn if figure is None else figure


def _draw(
    ax: Axes,
    first: Estimates,
    groups: Mapping[str, Sequence[dict[str, Series]]],
    quantity: str,
    layers: list[str],
    *,
    own_figure: bool,
) -> list[Artist]:
    style(ax, xlabel="epoch", ylabel=axis_label(first, quantity))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if not layers:
        return [empty_note(ax, f"The runs have no layer in common that\nmeasured the quantity {quantity!r}.")]
    looks, labels = layer_looks(layers), layer_labels(first.layers)
    drawn: list[Artist] = []
    values: list[float] = []
    for dashes, runs in zip(itertools.cycle(DATA_STYLES), groups.values(), strict=False):
        for layer in layers:
            of_layer = [run[layer] for run in runs]
            drawn += _mean_and_spread(ax, of_layer, looks[layer].color, dashes)
            values += [value for series in of_layer for value in series.mi.tolist()]
    drawn += draw_ceilings(ax, first, {"y": (quantity, values)})
    handles: list[Artist] = []
    if len(layers) <= MOST_NAMED:
        handles += [Line2D([], [], color=look.color, linewidth=1.8, label=labels.short[n]) for n, look in looks.items()]
    else:
        depth_bar([ax], layers)
    for dashes, (name, runs) in zip(itertools.cycle(DATA_STYLES), groups.items(), strict=False):
        of = f"{name}: " if name else ""
        if len(groups) > 1:
            label = f"{of}mean ±1 sd of {len(runs)} runs" if len(runs) > 1 else f"{of}1 run"
            handles.append(Line2D([], [], color=GREY, linestyle=dashes, linewidth=1.8, label=label))
        elif len(runs) > 1:
            handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label=f"{of}±1 sd of {len(runs)} runs"))
        else:
            handles.append(Line2D([], [], color=INK, label=f"{of}1 run"))
    drawn += legend(ax, handles, own_figure=own_figure, pattern=labels.pattern)
    ax.margins(x=0.02, y=0.13)
    return drawn


def _mean_and_spread(ax: Axes, runs: Sequence[Series], color: str, dashes: Any) -> list[Artist]:
    """One layer of the runs of one group."""
    drawn: list[Artist] = []
    for series in runs:
        drawn += ax.plot(
            series.epochs, series.mi, color=color, linewidth=0.6, alpha=0.35, linestyle=dashes, label="_run"
        )
    epochs, table = _aligned(runs)
    mean = table.mean(axis=0)
    if len(table) > 1:
        half = table.std(axis=0, ddof=1)
        drawn.append(ax.fill_between(epochs, mean - half, mean + half, color=color, alpha=0.2, linewidth=0))
    marker = "o" if len(epochs) == 1 else ""
    drawn += ax.plot(epochs, mean, color=color, linewidth=1.8, linestyle=dashes, marker=marker, label=runs[0].layer)
    return drawn


def _aligned(series: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs that all runs measured, shape (E,), and their values, shape (R, E)."""
    epochs = series[0].epochs
    for one in series:
        epochs = np.intersect1d(epochs, one.epochs[np.isfinite(one.mi)], assume_unique=True)
    return epochs, np.stack([one.mi[np.searchsorted(one.epochs, epochs)] for one in series])
