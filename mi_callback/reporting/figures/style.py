"""The common look: colours, markers and text sizes, new figures without pyplot, axes, legends and bars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure

from mi_callback.reporting.labels import fold, layer_labels
from mi_callback.reporting.series import even_selection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = [
    "DATA_STYLES",
    "EPOCH_COLORS",
    "GREY",
    "INK",
    "LETTER",
    "MOST_NAMED",
    "SOFT",
    "TEXT",
    "WIDTH",
    "LayerLook",
    "depth_bar",
    "depth_colors",
    "empty_note",
    "epoch_bar",
    "fold_pattern",
    "layer_looks",
    "legend",
    "new_figure",
    "style",
]

# Okabe & Ito (2008), told apart with every common colour blindness; its yellow is too faint for lines on white.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_NAMED = len(_OKABE_ITO)  # more layers than hues are told by a gradation over depth, and some of them are named
# of data sets, groups of runs and losses
DATA_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)))
EPOCH_COLORS = "viridis"  # rises evenly in lightness: reads in grey print and with colour blindness
INK = "#222222"
GREY = "#7a7a7a"
SOFT = "#b8b8b8"
TEXT = {"axis": 11.0, "tick": 10.0, "note": 9.0}  # points, in figures of one width
WIDTH = 4.4  # inches: text of 10 points stays readable where the figure is shown as a small tile
LETTER = 0.066  # inches, the average letter of DejaVu Sans at 9 points


@dataclass(frozen=True, slots=True)
class LayerLook:
    """Colour and marker of a layer."""

    color: str
    marker: str


def depth_colors(n: int) -> list[str]:
    """Colours of n layers, from dark to light with depth."""
    # cividis has the virtues of viridis and is not taken for epochs; its lightest end is too faint for lines on white
    return [to_hex(colormaps["cividis"](0.9 * i / max(n - 1, 1))) for i in range(n)]


def layer_looks(layers: Sequence[str]) -> dict[str, LayerLook]:
    """A look for each layer: distinct hues for a few layers, a gradation by depth for more than there are hues."""
    n = len(layers)
    colors = _OKABE_ITO[:n] if n <= MOST_NAMED else depth_colors(n)
    markers = itertools.cycle(_MARKERS)
    return {layer: LayerLook(c, m) for layer, c, m in zip(layers, colors, markers, strict=False)}


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


def empty_note(ax: Axes, message: str) -> Artist:
    """Say in the middle of empty axes why nothing is drawn."""
    return ax.annotate(
        message, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", fontsize=TEXT["note"], color=GREY
    )


def legend(ax: Axes, handles: Sequence[Artist], *, own_figure: bool, pattern: str = "") -> list[Artist]:
    """Name the handles: above all axes of a figure of ours, where it hides no point; inside axes that were given.

    Args:
        ax: axes that the handles belong to.
        handles: what to name, each with its label.
        own_figure: whether the figure is ours.
        pattern: what the layers' short names are part of, which is the title of the legend; empty for none.

    Returns:
        The legend, if there is anything to say.
    """
    if not handles and not pattern:
        return []
    text = {"fontsize": TEXT["note"], "title_fontsize": TEXT["note"], "frameon": False}
    if not own_figure:
        return [ax.legend(handles=handles, title=pattern or None, loc="best", **text)]
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    widest = max(1, int(WIDTH / (LETTER * longest + 0.38)))  # .38 inches: the symbol, its pad and the column's, below
    rows = math.ceil(len(handles) / widest)
    figure = ax.figure.figure
    assert figure is not None
    box = figure.legend(
        handles=handles,
        title=fold_pattern(pattern, int(WIDTH / LETTER)) or None,
        loc="outside upper center",
        ncols=math.ceil(len(handles) / max(rows, 1)) or 1,
        handlelength=1.6,
        columnspacing=1.0,
        handletextpad=0.4,
        borderaxespad=0.1,
        **text,
    )
    box.get_title().set_color(GREY)
    return [box]


def fold_pattern(pattern: str, longest: int) -> str:
    """The pattern of layers' names in lines of at most ``longest`` characters, which end at dots."""
    return fold([f"{part}." for part in pattern.split(".")], longest)[:-1]


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
    names = layer_labels(layers).short
    some = even_selection(len(layers), 6)  # names of 9 points stand apart along one panel of an inch
    bar.set_ticks(some.tolist(), labels=[names[layers[i]] for i in some])
    bar.ax.minorticks_off()
    bar.ax.invert_yaxis()
    bar.ax.tick_params(labelsize=TEXT["note"], colors=INK, length=0)
    bar.outline.set_visible(False)
