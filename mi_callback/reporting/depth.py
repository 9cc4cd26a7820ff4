"""Figures over depth: a heat map of layers and epochs for deep networks, and the profile from first layer to last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mi_callback.reporting.canvas import epoch_bar, legend, new_figure, note, style
from mi_callback.reporting.history import History
from mi_callback.reporting.marks import draw_ceilings, hollow, hollow_handle
from mi_callback.reporting.palette import EPOCH_COLORS, INK, SOFT, TEXT, axis_label, short_name
from mi_callback.reporting.series import even_selection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["depth_profile", "heat_map"]

_MOST_NAMES = 12
_MOST_CELLS = 800  # up to so many, flagged cells have a ring; beyond, the rings would hide the map
_MOST_PROFILES = 5


@overload
def heat_map(history: History, *, quantity: str = ..., ax: None = ...) -> Figure: ...


@overload
def heat_map(history: History, *, quantity: str = ..., ax: Axes) -> list[Artist]: ...


def heat_map(history: History, *, quantity: str = "target", ax: Axes | None = None) -> Figure | list[Artist]:
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


def _draw_map(ax: Axes, history: History, quantity: str) -> list[Artist]:
    style(ax, xlabel="epoch")
    ax.grid(visible=False)
    found = history.series(quantity)
    if not found:
        return [note(ax, f"The history holds no quantity {quantity!r}.")]
    epochs = np.unique(np.concatenate([one.epochs for one in found.values()]))
    values = np.full((len(found), len(epochs)), np.nan)
    marked = np.zeros(values.shape, dtype=bool)
    for i, series in enumerate(found.values()):
        at = np.searchsorted(epochs, series.epochs)
        values[i, at] = series.mi
        marked[i, at] = hollow(history, series)
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
    names = list(found)
    ax.set_yticks(named, [short_name(names[i]) for i in named])
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


@overload
def depth_profile(history: History, *, quantities: Sequence[str] | None = ..., ax: None = ...) -> Figure: ...


@overload
def depth_profile(history: History, *, quantities: Sequence[str] | None = ..., ax: Axes) -> list[Artist]: ...


def depth_profile(
    history: History, *, quantities: Sequence[str] | None = None, ax: Axes | None = None
) -> Figure | list[Artist]:
    """Draw what the layers hold from first to last, at the last epoch and up to four before it, by colour.

    The last epoch has error bars of one standard error. Flagged estimates are hollow.

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
    figure = new_figure(0.8 + 1.6 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    drawn: list[Artist] = []
    for panel, quantity in zip(panels, names, strict=True):
        drawn += _draw_profile(panel, history, quantity, chosen)
        panel.label_outer()
    if any(artist.get_label() == "_hollow" for artist in drawn):
        legend(panels[0], [hollow_handle()], own_figure=True)
    if len(chosen):
        epoch_bar(list(panels), _norm(chosen))
    return figure


def _norm(epochs: NDArray[np.int64]) -> Normalize:
    return Normalize(epochs[0], max(epochs[-1], epochs[0] + 1))


def _draw_profile(ax: Axes, history: History, quantity: str, chosen: NDArray[np.int64]) -> list[Artist]:
    style(ax, ylabel=axis_label(history, quantity))
    found = history.series(quantity)
    if not found:
        return [note(ax, f"The history holds no quantity {quantity!r}.")]
    layers = history.layers
    drawn: list[Artist] = []
    every: list[float] = []
    for epoch in chosen:
        at = [(layers.index(name), one, i) for name, one in found.items() for i in np.flatnonzero(one.epochs == epoch)]
        x = np.array([position for position, _, _ in at])
        y = np.array([one.mi[i] for _, one, i in at])
        marked = np.array([hollow(history, one)[i] for _, one, i in at], dtype=bool)
        every += y.tolist()
        last = epoch == chosen[-1]
        color = colormaps[EPOCH_COLORS](_norm(chosen)(epoch))
        drawn += ax.plot(x, y, color=color, linewidth=1.8 if last else 1.1, label=f"_epoch {epoch}", zorder=2.2)
        if last:
            stderr = np.nan_to_num([one.stderr[i] for _, one, i in at])
            drawn += ax.errorbar(x, y, yerr=stderr, fmt="none", ecolor=SOFT, elinewidth=1.4, zorder=2).get_children()
        for part, face in ((~marked, color), (marked, "white")):
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
    drawn += draw_ceilings(ax, history, {"y": (quantity, every)})
    named = even_selection(len(layers), 8)
    slant = any(len(short_name(layers[i])) > 8 for i in named) or len(named) > 6
    ax.set_xticks(named, [short_name(layers[i]) for i in named])
    ax.tick_params(axis="x", labelrotation=30 if slant else 0)
    if slant:
        for tick in ax.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    ax.margins(y=0.13)
    return drawn
