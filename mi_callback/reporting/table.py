"""A history as a table of its first and last epoch: what a run without a logger prints, and the report shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from mi_callback.estimation.records import Flag
from mi_callback.reporting.labels import layer_labels
from mi_callback.reporting.series import Estimates

__all__ = ["cells", "explained", "summary"]


def summary(history: Estimates) -> str:
    """A table of first and last estimates of the last run, in the unit of the history; one a data set.

    A line a layer and quantity: the debiased estimate at the first and at the last epoch, and of the last the interval
    that holds the truth, the half-width of the null band (two standard deviations), the p-value and the flags. Below it
    the ceilings, and what each flag means.

    Args:
        history: estimates of a run.

    Returns:
        Lines of text.
    """
    if not len(history):
        return "No mutual information was measured."
    history = history.of_run()
    if len(history.data) > 1:
        return "\n".join(f"On {name}:\n{_table(history.of_data(name))}" for name in history.data)
    return _table(history)


def _table(history: Estimates) -> str:
    """The table of one data set."""
    table = cells(history)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    sides = [str.ljust, str.ljust, *[str.rjust] * 5, str.ljust]  # words to the left, numbers to the right
    lines = [f"Mutual information in {history.unit}"]
    for row in table:
        lines.append("  ".join(side(c, w) for side, c, w in zip(sides, row, widths, strict=True)).rstrip())
    pattern = layer_labels(history.layers).pattern
    lines += [f"layers: * in {pattern}"] if pattern else []
    for name, ceiling in history.ceilings.items():
        spread = "" if math.isnan(ceiling.stderr) else f" +- {ceiling.stderr:.3f}"
        lines.append(f"ceiling {name} = {_number(ceiling.value)}{spread}")
    last = history.epochs[-1]
    labels = [flag for row in history.to_rows() if row["epoch"] == last for flag in row["flags"]]
    lines += [f"{label}: {message}" for label, message in explained(labels).items()]
    return "\n".join(lines)


def cells(history: Estimates) -> list[tuple[str, ...]]:
    """The table of one data set as text, its head first; eight columns, one line a quantity and layer."""
    first, last = history.epochs[0], history.epochs[-1]
    rows = {(r["quantity"], r["layer"], r["epoch"]): r for r in history.to_rows() if r["epoch"] in (first, last)}
    measured = {key[:2] for key in rows}
    lines = [(q, layer) for q in history.quantities for layer in history.layers if (q, layer) in measured]
    table: list[tuple[str, ...]] = [
        ("quantity", "layer", f"epoch {first}", f"epoch {last}", "interval", "null band", "p", "flags")
    ]
    names = layer_labels(history.layers).short
    for quantity, layer in lines:
        start, end = rows.get((quantity, layer, first)), rows.get((quantity, layer, last))
        table.append((quantity, names[layer], _number(start["mi"] if start else math.nan), *_last(end)))
    return table


def _last(row: dict[str, Any] | None) -> tuple[str, ...]:
    if row is None:
        return ("-", "-", "-", "-", "")
    p_value = "-" if row["p_value"] is None else f"{row['p_value']:.3f}"
    band = _number(2 * row["null_std"], sign="\N{PLUS-MINUS SIGN}")
    return (_number(row["mi"]), _interval(row["low"], row["high"]), band, p_value, ", ".join(row["flags"]))


def explained(labels: Iterable[str]) -> dict[str, str]:
    """The messages of flags by label, each once; a label of another version has none."""
    messages = {flag.label: flag.value for flag in Flag}
    return {label: messages[label] for label in dict.fromkeys(labels) if label in messages}


def _interval(low: float, high: float) -> str:
    """Where the truth is to be sought; "up" stands where nothing bounds it."""
    if math.isnan(low):
        return "-"
    return f"{low:.3f} to {high:.3f}" if math.isfinite(high) else f"{low:.3f} up"


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{sign}{value:.3f}"
