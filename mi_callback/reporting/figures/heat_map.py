"""A heat map of layers and epochs, for deep networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mi_callback.reporting.figures.annotations import in_doubt
from mi_callback.reporting.figures.style import GREY, INK, TEXT, empty_note, fold_pattern, new_figure, style
from mi_callback.reporting.labels import axis_label, layer_labels
from mi_callback.reporting.series import Estimates, even_selection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["heat_map"]

_MOST_NAMES = 12  # of 10 points in the 2.4 inches of the highest map
_MOST_CELLS = 800  # with a ring if flagged: cells of 12 by 12 points; in smaller ones the rings hide the map


@overload
def heat_map(history: Estimates, *, quantity: str = ..., ax: None = ...) -> Figure: ...


@overload
def heat_map(history: Estimates, *, quantity: str = ..., ax: Axes) -> list[Artist]: ...


def heat_map(history: Estimates, *, quantity: str = "target", ax: Axes | None = None) -> Figure | list[Artist]:
    """Draw one quantity as a map of layers, the first at the top, and epochs, in the unit of the history.

    What was not measured, or failed, is left grey. Flagged cells have a ring, unless there are more than 800 cells.

    Args:
        history: estimates of a run.
        quantity: the quantity to draw.
        ax: axes to draw on; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.
    """
    if ax is not None:
        return _draw_map(ax, history, quantity)
    figure = new_figure(min(3.8, 1.4 + 0.22 * max(len(history.layers), 4)))
    _draw_map(figure.add_subplot(), history, quantity)
    return figure


def _draw_map(ax: Axes, history: Estimates, quantity: str) -> list[Artist]:
    style(ax, xlabel="epoch")
    ax.grid(visible=False)
    found = history.series(quantity)
    if not found:
        return [empty_note(ax, f"The history holds no quantity {quantity!r}.")]
    epochs = np.unique(np.concatenate([one.epochs for one in found.values()]))
    values = np.full((len(found), len(epochs)), np.nan)
    marked = np.zeros(values.shape, dtype=bool)
    for i, series in enumerate(found.values()):
        at = np.searchsorted(epochs, series.epochs)
        values[i, at] = series.mi
        marked[i, at] = in_doubt(history, series)
    ax.set_facecolor("#dddddd")
    mesh = ax.pcolormesh(_edges(epochs), np.arange(len(found) + 1) - 0.5, values, cmap="cividis")
    drawn: list[Artist] = [mesh]
    if marked.any() and marked.size <= _MOST_CELLS:
        rows, columns = np.nonzero(marked)
        drawn += ax.plot(
            epochs[columns],
            rows,
            linestyle="none",
            marker="o",
            markersize=3.5,
            markerfacecolor="none",
            markeredgecolor="white",
            markeredgewidth=0.8,
            label="_hollow",
        )
    named = even_selection(len(found), _MOST_NAMES)
    names, labels = list(found), layer_labels(history.layers)
    ax.set_yticks(named, [labels.short[names[i]] for i in named])
    # 20 characters are 1.3 inches at 9 points, and so high is the lowest map
    ax.set_ylabel(fold_pattern(labels.pattern, 20), fontsize=TEXT["note"], color=GREY)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02, fraction=0.05, aspect=40)
    bar.set_label(axis_label(history, quantity), fontsize=TEXT["axis"], color=INK)
    bar.ax.tick_params(labelsize=TEXT["tick"], colors=INK)
    bar.outline.set_visible(False)
    return drawn


def _edges(epochs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Borders halfway between epochs, which need not be evenly spaced; shape (E + 1,)."""
    if len(epochs) == 1:
        return np.array([epochs[0] - 0.5, epochs[0] + 0.5])
    middle = (epochs[:-1] + epochs[1:]) / 2
    return np.array([2 * epochs[0] - middle[0], *middle, 2 * epochs[-1] - middle[-1]], dtype=np.float64)
