"""What every figure stands on: a new figure without pyplot, axes in one style, a legend above, a bar of names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from mi_callback.reporting.palette import EPOCH_COLORS, GREY, INK, TEXT, depth_colors, short_name
from mi_callback.reporting.series import even_selection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["WIDTH", "depth_bar", "epoch_bar", "legend", "new_figure", "note", "style"]

WIDTH = 4.4  # inches: text of 10 points stays readable where the figure is shown as a small tile


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """A figure that pyplot knows nothing of, fit for print, of ``height`` and ``width`` in inches.

    A notebook shows it by itself: its rich display asks an object for ``_repr_png_``.
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def style(ax: Axes, *, xlabel: str = "", ylabel: str = "") -> None:
    """Label the axes and give them the common look."""
    ax.set_xlabel(xlabel, fontsize=TEXT["axis"], color=INK)
    ax.set_ylabel(ylabel, fontsize=TEXT["axis"], color=INK)
    ax.tick_params(labelsize=TEXT["tick"], colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, color="#e8e8e8", linewidth=0.6)
    ax.set_axisbelow(True)


def note(ax: Axes, message: str) -> Artist:
    """Say in the middle of empty axes why nothing is drawn."""
    return ax.text(
        0.5,
        0.5,
        message,
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=TEXT["note"],
        color=GREY,
    )


def legend(ax: Axes, handles: Sequence[Artist], *, own_figure: bool) -> list[Artist]:
    """Name the handles: above all axes of a figure of ours, where it hides no point; inside axes that were given."""
    if not handles:
        return []
    if not own_figure:
        return [ax.legend(handles=handles, fontsize=TEXT["note"], frameon=False, loc="best")]
    longest = max(len(str(handle.get_label())) for handle in handles)
    widest = max(1, int(WIDTH / (0.066 * longest + 0.38)))  # inches: an average letter; the symbol with its spacing
    rows = math.ceil(len(handles) / widest)
    figure = ax.figure.figure
    assert figure is not None
    box = figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=math.ceil(len(handles) / rows),
        fontsize=TEXT["note"],
        frameon=False,
        handlelength=1.6,
        columnspacing=1.0,
        handletextpad=0.4,
        borderaxespad=0.1,
    )
    return [box]


def epoch_bar(axes: Sequence[Axes], norm: Normalize) -> None:
    """Put a colour bar of epochs beside the axes."""
    bar = axes[0].figure.colorbar(ScalarMappable(norm, EPOCH_COLORS), ax=list(axes), pad=0.02, fraction=0.05, aspect=40)
    bar.set_label("epoch", fontsize=TEXT["axis"], color=INK)
    bar.ax.tick_params(labelsize=TEXT["tick"], colors=INK)
    bar.outline.set_visible(False)


def depth_bar(axes: Sequence[Axes], layers: Sequence[str]) -> None:
    """Put a colour bar of layers beside the axes, with the names of some of them, the first one at the top."""
    norm = BoundaryNorm(np.arange(len(layers) + 1) - 0.5, len(layers))
    mapped = ScalarMappable(norm, ListedColormap(depth_colors(len(layers))))
    bar = axes[0].figure.colorbar(mapped, ax=list(axes), pad=0.02, fraction=0.05, aspect=40)
    some = even_selection(len(layers), 6)
    bar.set_ticks(some.tolist(), labels=[short_name(layers[i]) for i in some])
    bar.ax.minorticks_off()
    bar.ax.invert_yaxis()
    bar.ax.tick_params(labelsize=TEXT["note"], colors=INK, length=0)
    bar.outline.set_visible(False)
