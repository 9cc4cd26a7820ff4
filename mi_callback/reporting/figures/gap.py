"""What a layer holds of the training data beyond what it holds of other data, over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mi_callback.reporting.figures.style import (
    DATA_STYLES,
    GREY,
    INK,
    MOST_NAMED,
    TEXT,
    depth_bar,
    empty_note,
    layer_looks,
    legend,
    new_figure,
    style,
)
from mi_callback.reporting.labels import layer_labels, panel_label
from mi_callback.reporting.series import Estimates, Series

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["gap"]


@overload
def gap(history: Estimates, *, quantities: Sequence[str] | None = ..., ax: None = ...) -> Figure: ...


@overload
def gap(history: Estimates, *, quantities: Sequence[str] | None = ..., ax: Axes) -> list[Artist]: ...


def gap(
    history: Estimates, *, quantities: Sequence[str] | None = None, ax: Axes | None = None
) -> Figure | list[Artist]:
    """Draw the gap: each quantity on the first data set less the same on every other one, in the unit of the history.

    One panel a quantity, one line a layer, with a band of one standard error of the difference. Fewer samples are read
    with another bias, so that a part of the gap may be that of their numbers; ``max_samples`` makes these the same.

    Args:
        history: estimates of a run on several data sets.
        quantities: the quantities to draw; None takes those of the history. With ``ax`` the first of them is drawn.
        ax: axes to draw on; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.
    """
    names = list(history.quantities if quantities is None else quantities) or ["target"]
    if ax is not None:
        return _panel(ax, history, names[0])
    figure = new_figure(0.8 + 1.4 * len(names))
    panels = list(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    for panel, quantity in zip(panels, names, strict=True):
        _panel(panel, history, quantity)
    handles = _handles(history)
    legend(panels[0], handles, own_figure=True, pattern=layer_labels(history.layers).pattern)
    if len(history.layers) > MOST_NAMED:
        depth_bar(panels, history.layers)
    panels[-1].set_xlabel("epoch", fontsize=TEXT["axis"], color=INK)
    return figure


def _panel(ax: Axes, history: Estimates, quantity: str) -> list[Artist]:
    style(ax, ylabel=panel_label(history, quantity))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    first, *others = history.data or [""]
    found = history.series(quantity, data=first)
    drawn: list[Artist] = []
    looks = layer_looks(history.layers)
    few = len(history.layers) <= MOST_NAMED
    for i, data in enumerate(others):
        for layer, other in history.series(quantity, data=data).items():
            if layer in found:
                dashes = DATA_STYLES[i % len(DATA_STYLES)]
                drawn += _difference(ax, found[layer], other, looks[layer].color, dashes, few=few)
    if not drawn:
        return [empty_note(ax, "The gap needs a quantity that was measured\non two data sets: data=('train', 'val').")]
    ax.axhline(0.0, color=GREY, linewidth=0.8, label="_zero")
    ax.margins(x=0.02, y=0.13)
    return drawn


def _difference(ax: Axes, first: Series, other: Series, color: str, dashes: object, *, few: bool) -> list[Artist]:
    epochs, i, j = np.intersect1d(first.epochs, other.epochs, assume_unique=True, return_indices=True)
    values = first.mi[i] - other.mi[j]
    error = np.hypot(first.stderr[i], other.stderr[j])
    drawn: list[Artist] = []
    if few and np.isfinite(error).any():
        drawn.append(ax.fill_between(epochs, values - error, values + error, color=color, alpha=0.18, linewidth=0))
    marker = "o" if len(epochs) == 1 else ""
    width = 1.6 if few else 0.9
    drawn += ax.plot(epochs, values, color=color, linewidth=width, linestyle=dashes, marker=marker, label=first.layer)
    return drawn


def _handles(history: Estimates) -> list[Artist]:
    handles: list[Artist] = []
    if len(history.layers) <= MOST_NAMED:
        names, looks = layer_labels(history.layers).short, layer_looks(history.layers)
        handles += [
            Line2D([], [], color=look.color, linewidth=1.6, label=names[layer]) for layer, look in looks.items()
        ]
    first, *others = history.data or [""]
    for i, data in enumerate(others):
        dashes = DATA_STYLES[i % len(DATA_STYLES)]
        handles.append(Line2D([], [], color=GREY, linestyle=dashes, label=f"{first} less {data}"))
    return handles
