"""How layers, quantities and epochs look, the same in every figure: colours, markers, labels and text sizes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["EPOCH_COLORS", "GREY", "INK", "MARKERS", "TEXT", "layer_colors", "quantity_label", "symbol"]

# Okabe & Ito (2008), told apart with every common colour blindness; its yellow is too faint for lines on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
EPOCH_COLORS = "viridis"  # rises evenly in lightness: reads in grey print and with colour blindness
DEPTH_COLORS = "cividis"
INK = "#222222"
GREY = "#8c8c8c"
TEXT = {"axis": 11.0, "tick": 9.5, "note": 9.0}  # points, for a figure 5 inches wide that is shown as a small tile

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


def symbol(name: str) -> str:
    """Mathematical notation of a quantity or ceiling; a name without one is drawn as it stands."""
    return _SYMBOLS.get(name, name.replace("$", r"\$"))


def quantity_label(quantity: str, unit: str | None) -> str:
    """Axis label of a quantity with its unit."""
    return f"{symbol(quantity)} ({unit or 'bits'})"


def layer_colors(layers: Sequence[str]) -> dict[str, str]:
    """A colour a layer: distinct hues for a few layers, a gradation by depth for more than there are hues."""
    if len(layers) <= len(OKABE_ITO):
        return dict(zip(layers, OKABE_ITO, strict=False))
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # the lightest fifth of the map is left out: it is too faint for lines on white
    depth = colormaps[DEPTH_COLORS]
    return {layer: to_hex(depth(0.82 * i / (len(layers) - 1))) for i, layer in enumerate(layers)}
