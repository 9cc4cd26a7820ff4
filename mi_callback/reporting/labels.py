"""What layers, quantities and ceilings are called in figures, tables and the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from mi_callback.quantities import LIMITS, QUANTITIES, limit, quantity
from mi_callback.reporting.series import Estimates

__all__ = [
    "LayerLabels",
    "axis_label",
    "fold",
    "layer_labels",
    "panel_label",
    "plain_symbol",
    "plain_text",
    "symbol",
]

_WHOLE = 16  # characters: names up to so long stay whole, three fit side by side above a figure of 4.4 inches
_LONGEST = 24  # characters, 1.6 inches at 9 points: a bar of such names leaves 2 of 4.4 inches to the curves


def symbol(name: str) -> str:
    """Mathematical notation of a quantity or ceiling; a name without one is drawn as it stands."""
    known = limit(name)
    return known.symbol if known.bounds or name in LIMITS else quantity(name).symbol


def plain_symbol(name: str) -> str:
    """Notation of a quantity in plain text, for tables and web pages."""
    return quantity(name).text


def axis_label(history: Estimates, name: str) -> str:
    """Axis label of a quantity, with its unit and the measurement noise if there was any."""
    return "".join(_pieces(history, name))


def panel_label(history: Estimates, name: str) -> str:
    """Axis label of a quantity in lines short enough for the height of one of several panels."""
    return fold(_pieces(history, name), 14)  # characters: one inch at 11 points, and panels are 1.1 to 1.4 high


def _pieces(history: Estimates, name: str) -> list[str]:
    """The axis label in pieces between which a line may end."""
    sigma = history.noise(name)
    if sigma is not None:
        names = [r"$I(X;T+\sigma Z)$, ", rf"$\sigma={sigma:g}$ "]
    elif name in QUANTITIES or quantity(name).task:
        names = [symbol(name) + " "]
    else:
        names = re.split(r"(?<=[_ ])", symbol(name) + " ")[:-1]
    return [*names, f"({history.unit or 'bits'})"]


def fold(pieces: Iterable[str], longest: int) -> str:
    """Join pieces to lines of at most ``longest`` characters as drawn; a longer piece has a line of its own."""
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(plain_text(lines[-1] + piece).strip()) > longest:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def plain_text(label: str) -> str:
    """The label without the marks of mathematical notation, to count the characters that are drawn."""
    return re.sub(r"\\[a-zA-Z]+ ?", "x", re.sub(r"[${}]", "", label.replace(r"\$", "x")))


@dataclass(frozen=True, slots=True)
class LayerLabels:
    """Short names of a history's layers.

    Attributes:
        short: layer to its short name; no two layers share one.
        pattern: what the short names are part of, such as "encoder.layer.*.act", where ``*`` stands for the short name;
            empty if the names are whole.
    """

    short: dict[str, str]
    pattern: str = ""


def layer_labels(layers: Sequence[str]) -> LayerLabels:
    """Name layers shortly, the same in every figure, table and report.

    If any name is longer than 16 characters, the beginning and the end that all have in common are left out, in whole
    parts between dots; the model's ``output`` keeps its name and does not count. Parts in the middle of what is still
    longer than 24 characters give way to an ellipsis as long as no other layer could be meant.

    Args:
        layers: names of all layers of a history, each once.

    Returns:
        The short names, and the pattern of what was left out.
    """
    return _layer_labels(tuple(layers))


@lru_cache(maxsize=32)  # histories on display at a time; a figure asks several times
def _layer_labels(layers: tuple[str, ...]) -> LayerLabels:
    inner = [name for name in layers if name != "output"]
    if all(len(name) <= _WHOLE for name in inner):
        return LayerLabels({name: name for name in layers})
    parts = [name.split(".") for name in inner]
    shortest = min(map(len, parts))
    start = min(_n_common(parts), shortest - 1) if len(inner) > 1 else 0
    end = min(_n_common([part[::-1] for part in parts]), shortest - 1 - start) if len(inner) > 1 else 0
    middles = [part[start : len(part) - end] for part in parts]
    if ["output"] in middles and "output" in layers:  # two layers of one name
        start, end, middles = 0, 0, parts
    short = dict(zip(inner, (_elided(middle, middles) for middle in middles), strict=True))
    pattern = ".".join([*parts[0][:start], "*", *parts[0][len(parts[0]) - end :]]) if start or end else ""
    return LayerLabels({name: short.get(name, name) for name in layers}, pattern)


def _n_common(parts: list[list[str]]) -> int:
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))


def _elided(parts: list[str], among: list[list[str]]) -> str:
    """The parts joined by dots; if that is long, with as much left out as stays the name of one only."""
    whole = ".".join(parts)
    if len(whole) <= _LONGEST:
        return whole
    found = []
    for start in range(1, len(parts)):
        for end in range(1, len(parts) - start):
            head, tail = parts[:start], parts[-end:]
            if sum(other[:start] == head and other[-end:] == tail for other in among) == 1:
                found.append(f"{'.'.join(head)}…{'.'.join(tail)}")
    fitting = [label for label in found if len(label) <= _LONGEST]
    return max(fitting, key=len) if fitting else min([*found, whole], key=len)
