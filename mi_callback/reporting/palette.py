"""How layers, quantities and epochs look, the same in every figure: colours, markers, labels and text sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mi_callback.reporting.history import History

__all__ = [
    "EPOCH_COLORS",
    "GREY",
    "INK",
    "MOST_NAMED",
    "SOFT",
    "TEXT",
    "LayerLook",
    "axis_label",
    "depth_colors",
    "layer_looks",
    "plain_symbol",
    "short_name",
    "symbol",
]

# Okabe & Ito (2008), told apart with every common colour blindness; its yellow is too faint for lines on white.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_NAMED = len(_OKABE_ITO)  # more layers than hues are told by a gradation over depth, and some of them are named
EPOCH_COLORS = "viridis"  # rises evenly in lightness: reads in grey print and with colour blindness
INK = "#222222"
GREY = "#7a7a7a"
SOFT = "#b8b8b8"
TEXT = {"axis": 11.0, "tick": 10.0, "note": 9.0}  # points, in figures of one width

_SYMBOLS = {
    "target": r"$I(T;Y)$",
    "input": r"$I(X;T)$",
    "usable": r"usable $I(T;Y)$",
    "I(X;Y)": r"$I(X;Y)$",
    "H(X)": r"$H(X)$",
    "H(Y)": r"$H(Y)$",
    "log n": r"$\log n$",
    "psi(n) - psi(k)": r"$\psi(n)-\psi(k)$",
}


@dataclass(frozen=True, slots=True)
class LayerLook:
    """Colour and marker of a layer."""

    color: str
    marker: str


def symbol(name: str) -> str:
    """Mathematical notation of a quantity or ceiling; a name without one is drawn as it stands."""
    return _SYMBOLS.get(name, name.replace("$", r"\$"))


def plain_symbol(name: str) -> str:
    """Notation of a quantity in plain text, for tables and web pages."""
    return {"target": "I(T;Y)", "input": "I(X;T)", "usable": "usable I(T;Y)"}.get(name, name)


def axis_label(history: History, quantity: str) -> str:
    """Axis label of a quantity, with its unit and the measurement noise if there was any."""
    sigma = history.noise(quantity)
    name = symbol(quantity) if sigma is None else rf"$I(X;T+\sigma Z)$, $\sigma={sigma:g}$"
    return f"{name} ({history.unit or 'bits'})"


def short_name(layer: str, longest: int = 20) -> str:
    """The layer's name, with its middle left out if it is long: the ends tell layers apart."""
    if len(layer) <= longest:
        return layer
    half = (longest - 1) // 2
    return f"{layer[:half]}…{layer[-half:]}"


def depth_colors(n: int) -> list[str]:
    """Colours of n layers, from dark to light with depth."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # cividis has the virtues of viridis and is not taken for epochs; its lightest end is too faint for lines on white
    return [to_hex(colormaps["cividis"](0.9 * i / max(n - 1, 1))) for i in range(n)]


def layer_looks(layers: Sequence[str]) -> dict[str, LayerLook]:
    """A look for each layer: distinct hues for a few layers, a gradation by depth for more than there are hues."""
    n = len(layers)
    colors = _OKABE_ITO[:n] if n <= MOST_NAMED else depth_colors(n)
    markers = itertools.cycle(_MARKERS)
    return {layer: LayerLook(c, m) for layer, c, m in zip(layers, colors, markers, strict=False)}
