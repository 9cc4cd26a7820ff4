"""The profile over depth: what each layer holds, from the first to the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from mi_callback.reporting.figures.annotations import draw_ceilings, flagged_handle, in_doubt
from mi_callback.reporting.figures.style import (
    EPOCH_COLORS,
    GREY,
    SOFT,
    TEXT,
    empty_note,
    epoch_bar,
    fold_pattern,
    legend,
    new_figure,
    style,
)
from mi_callback.reporting.labels import layer_labels, panel_label
from mi_callback.reporting.series import Estimates, Series, even_selection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["depth_profile"]

_MOST_PROFILES = 5  # one a fifth of the colour map, which neighbours in lightness can still be told by
_MOST_NAMES = 8  # upright up to 6 of 8 letters: .5 inches each of the 3.2 of the axis


@overload
def depth_profile(history: Estimates, *, quantities: Sequence[str] | None = ..., ax: None = ...) -> Figure: ...


@overload
def depth_profile(history: Estimates, *, quantities: Sequence[str] | None = ..., ax: Axes) -> list[Artist]: ...


def depth_profile(
    history: Estimates, *, quantities: Sequence[str] | None = None, ax: Axes | None = None
) -> Figure | list[Artist]:
    """Draw what the layers hold from first to last, at the last epoch and up to four before it, by colour.

    The last epoch has bars from low to high end of the interval, or upwards of one standard error where it is open.
    Flagged estimates are hollow.

    Args:
        history: estimates of a run.
        quantities: the quantities to draw, one panel each; None takes those of the history. With ``ax`` the first of
            them is drawn.
        ax: axes to draw on; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.
    """
    names = list(history.quantities if quantities is None else quantities) or ["target"]
    epochs = np.array(history.epochs)
    chosen = epochs[even_selection(len(epochs), _MOST_PROFILES)] if len(epochs) else epochs
    if ax is not None:
        return _draw_profile(ax, history, names[0], chosen)
    figure = new_figure(0.8 + 1.5 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    drawn: list[Artist] = []
    for panel, quantity in zip(panels, names, strict=True):
        drawn += _draw_profile(panel, history, quantity, chosen)
        panel.label_outer()
    if any(artist.get_label() == "_hollow" for artist in drawn):
        legend(panels[0], [flagged_handle()], own_figure=True)
    if len(chosen):
        epoch_bar(list(panels), _norm(chosen))
    return figure


def _norm(epochs: NDArray[np.int64]) -> Normalize:
    return Normalize(epochs[0], max(epochs[-1], epochs[0] + 1))


def _draw_profile(ax: Axes, history: Estimates, quantity: str, chosen: NDArray[np.int64]) -> list[Artist]:
    style(ax, ylabel=panel_label(history, quantity))
    found = history.series(quantity)
    if not found:
        return [empty_note(ax, f"The history holds no quantity {quantity!r}.")]
    depth = {layer: i for i, layer in enumerate(history.layers)}
    x = np.array([depth[layer] for layer in found])
    mi, below, above, marked = (np.full((len(chosen), len(found)), missing) for missing in (*[np.nan] * 3, False))
    for column, series in enumerate(found.values()):
        _, rows, at = np.intersect1d(chosen, series.epochs, assume_unique=True, return_indices=True)
        mi[rows, column] = series.mi[at]
        below[rows, column], above[rows, column] = (reach[at] for reach in _reaches(series))
        marked[rows, column] = in_doubt(history, series)[at]
    drawn: list[Artist] = []
    for epoch, y, low, high, doubt in zip(chosen, mi, below, above, marked, strict=True):
        last, known = epoch == chosen[-1], np.isfinite(y)
        color = colormaps[EPOCH_COLORS](_norm(chosen)(epoch))
        width = 1.8 if last else 1.1
        drawn += ax.plot(x[known], y[known], color=color, linewidth=width, label=f"_epoch {epoch}", zorder=2.2)
        if last:
            limits = ax.dataLim.frozen()  # bars have no say in the scale
            bars = ax.errorbar(x, y, yerr=np.nan_to_num([low, high]), fmt="none", ecolor=SOFT, elinewidth=1.4, zorder=2)
            drawn += bars.get_children()
            ax.dataLim.set(limits)
        for part, face in ((known & ~doubt, color), (known & doubt, "white")):
            if part.any():
                drawn += ax.plot(
                    x[part],
                    y[part],
                    linestyle="none",
                    marker="o",
                    markersize=5 if last else 3.5,
                    color=color,
                    markerfacecolor=face,
                    label="_hollow" if face == "white" else "_solid",
                    zorder=3,
                )
    drawn += draw_ceilings(ax, history, {"y": (quantity, mi.ravel().tolist())})
    _name_layers(ax, history.layers)
    ax.margins(y=0.13)
    return drawn


def _reaches(series: Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the bars reach below and above the values, of each epoch: the interval, or the standard error."""
    ends = (series.mi - series.low, series.high - series.mi)
    below, above = (np.where(np.isfinite(end), np.maximum(end, 0), series.stderr) for end in ends)
    return below, above


def _name_layers(ax: Axes, layers: Sequence[str]) -> None:
    labels = layer_labels(layers)
    named = even_selection(len(layers), _MOST_NAMES)
    names = [labels.short[layers[i]] for i in named]
    ax.set_xticks(named, names)
    ax.set_xlabel(fold_pattern(labels.pattern, 45), fontsize=TEXT["note"], color=GREY)  # 45 characters: 3 inches
    if len(names) > 6 or max(map(len, names)) > 8:
        for tick in ax.get_xticklabels():
            tick.set(rotation=30, ha="right", rotation_mode="anchor")
