"""Curves over epochs: one panel a quantity, one line a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from mi_callback.reporting.canvas import draw_ceilings, draw_null_band, hollow, new_figure, note, style
from mi_callback.reporting.history import History, Series
from mi_callback.reporting.palette import TEXT, layer_colors, quantity_label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]


@overload
def curves(history: History, *, quantities: Sequence[str] | None = ..., ax: None = ...) -> Figure: ...


@overload
def curves(
    history: History, *, quantities: Sequence[str] | None = ..., ax: Axes | Sequence[Axes]
) -> list[Artist]: ...


def curves(
    history: History, *, quantities: Sequence[str] | None = None, ax: Axes | Sequence[Axes] | None = None
) -> Figure | list[Artist]:
    """Draw the curves over epochs with standard error and null band, in the unit of the history.

    Args:
        history: estimates of a run.
        quantities: the quantities to draw, one panel each; None takes all of the history, or as many as there are axes.
        ax: axes to draw on, one a quantity; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.
    """
    names = list(history.quantities if quantities is None else quantities) or ["target"]
    if ax is None:
        figure = new_figure(5.6, 0.9 + 2.2 * len(names))
        panels = list(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    else:
        figure = None
        panels = list(ax) if isinstance(ax, Sequence) else [ax]
    drawn: list[Artist] = []
    for panel, quantity in zip(panels, names, strict=False):
        drawn += _panel(panel, history, quantity)
    panels[-1].set_xlabel("epoch", fontsize=TEXT["axis"])
    return drawn if figure is None else figure


def _panel(ax: Axes, history: History, quantity: str) -> list[Artist]:
    style(ax, ylabel=quantity_label(quantity, history.unit))
    found = history.series(quantity)
    if not found:
        return [note(ax, f"The history holds no quantity {quantity!r}.")]
    colors = layer_colors(history.layers)
    drawn = draw_null_band(ax, list(found.values()))
    values = [v for one in found.values() for v in one.mi.tolist()]
    drawn += draw_ceilings(ax, history.ceilings, quantity, values)
    for layer, series in found.items():
        drawn += _curve(ax, series, history, colors[layer])
    drawn.append(ax.legend(fontsize=TEXT["note"], frameon=False, loc="best"))
    return drawn


def _curve(ax: Axes, series: Series, history: History, color: str) -> list[Artist]:
    drawn: list[Artist] = [
        ax.fill_between(
            series.epochs, series.mi - series.stderr, series.mi + series.stderr, color=color, alpha=0.2, linewidth=0
        ),
        *ax.plot(series.epochs, series.mi, color=color, linewidth=1.5, marker="o", markersize=3, label=series.layer),
    ]
    marked = hollow(series, history.ceilings)
    drawn += ax.plot(
        series.epochs[marked], series.mi[marked], linestyle="none", marker="o", markersize=3, color=color,
        markerfacecolor="white",
    )
    return drawn
