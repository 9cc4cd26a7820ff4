"""A report in one HTML file that needs no network: a plane with a slider over epochs, curves, table and flags."""

from __future__ import annotations

import html
from pathlib import Path
from string import Template
from typing import Any

from mi_callback.reporting.files import write_whole
from mi_callback.reporting.series import Estimates
from mi_callback.reporting.table import cells, explained

__all__ = ["write_report"]

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 1.5em auto; padding: 0 1em; }
h1 { font-size: 1.4em; margin-bottom: 0; }
h2 { font-size: 1.1em; margin-top: 2em; }
.lead { color: #555; margin-top: .2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #e5e5e5; }
th:nth-child(-n+2), td:nth-child(-n+2), th:last-child, td:last-child { text-align: left; }
th { border-bottom: 2px solid #888; font-weight: 600; }
.scroll { overflow-x: auto; }
dt { font-weight: 600; } dd { margin: 0 0 .6em 1.2em; }
@media print { .modebar { display: none; } }
</style>
</head>
<body>
<h1>$title</h1>
<p class="lead">$lead</p>
$figure
<h2>First and last epoch</h2>
<div class="scroll">$table</div>
<h2>Flags</h2>
$flags
<h2>How to read this</h2>
<ul>
<li>Estimates are the reading less the mean of its permutation null. They are signed and never clipped: one inside the
null band cannot be told from independence, but the null does not repair a downward bias in many dimensions.</li>
<li>A layer that is an invertible function of its input holds all of I(X;Y) from the first epoch: what rises while a
network learns is usable information, what a simple decoder gets out.</li>
<li>A deterministic layer of a continuous input has infinite I(X;T): a finite reading shows the resolution of so many
samples. Hollow points are in doubt, or above a limit by more than two standard errors.</li>
</ul>
</body>
</html>
""")


def write_report(history: Estimates, path: str | Path, *, title: str = "Mutual information while training") -> Path:
    """Write a report that opens in any browser, without a network: one file of about five megabytes.

    The slider moves the marked points through the epochs, a click on a layer's name switches it off or on, and hovering
    shows values. Needs plotly: ``pip install "mi-callback[report]"``.

    Args:
        history: estimates of a run; of several the last is shown.
        path: the file to write; one that is there is replaced.
        title: heading of the page.

    Returns:
        The path of the file.

    Raises:
        ImportError: if plotly is not installed.
        ValueError: if the history is empty.
    """
    if not len(history):
        raise ValueError("history: expected estimates to report on, got an empty history. Train first, or load one.")
    try:
        import plotly  # noqa: F401
    except ImportError as error:
        raise ImportError('The report needs plotly. Install it by: pip install "mi-callback[report]"') from error
    from mi_callback.reporting.report_figure import interactive_figure

    history = history.of_run()
    figure = interactive_figure(history)
    rows = history.to_rows()
    page = _PAGE.substitute(
        title=html.escape(title),
        lead=f"{len(history.layers)} layers, {len(history.epochs)} epochs, {_samples(rows)}, values in {history.unit}",
        figure=figure.to_html(
            full_html=False,
            include_plotlyjs=True,
            div_id="figure",
            auto_play=False,
            # the page talks to no server, and offers no button that would
            config={"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": "", "responsive": True},
        ),
        table=_tables(history),
        flags=_flags(history),
    )
    path = Path(path)
    write_whole(path, page)
    return path


def _samples(rows: list[dict[str, Any]]) -> str:
    """How many samples there were, and at how many of them estimates were taken, where it was not at all."""
    text = f"{max(row['n_samples'] for row in rows)} samples"
    points = [row["n_points"] for row in rows if row["n_points"] is not None and row["n_points"] < row["n_samples"]]
    if not points:
        return text
    fewest, most = min(points), max(points)
    return f"{text}, estimates at {fewest if fewest == most else f'{fewest} to {most}'} of them"


def _tables(history: Estimates) -> str:
    """A table for each data set, with its name where there are several."""
    if len(history.data) == 1:
        return _table(history)
    return "".join(f"<h3>{html.escape(name)}</h3>{_table(history.of_data(name))}" for name in history.data)


def _table(history: Estimates) -> str:
    head, *rows = cells(history)
    lines = [_row(head, "th"), *(_row(row, "td") for row in rows)]
    return "<table>" + "\n".join(lines) + "</table>"


def _row(texts: tuple[str, ...], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"


def _flags(history: Estimates) -> str:
    counts: dict[str, int] = {}
    for row in history.to_rows():
        for label in row["flags"]:
            counts[label] = counts.get(label, 0) + 1
    if not counts:
        return "<p>No estimate is flagged.</p>"
    messages = explained(list(counts))
    items = (
        f"<dt>{html.escape(label)} ({count} of {len(history)} estimates)</dt>"
        f"<dd>{html.escape(messages.get(label, ''))}</dd>"
        for label, count in counts.items()
    )
    return "<dl>" + "".join(items) + "</dl>"
