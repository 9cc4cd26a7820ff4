"""Several histories as one, to compare seeds and widths: nothing is lost, and the figures show mean and spread."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback.reporting import History

from .records import a_history, estimate
from .test_figures import legend_labels


def test_every_row_and_limit_is_there_under_its_name(tmp_path):
    """Evidence: the histories that were merged, before and after a file."""
    seeds = [a_history(seed=seed) for seed in range(3)]
    wide = a_history(seed=7)
    for i, one in enumerate((*seeds, wide)):
        one.set_ceiling("H(Y)", 3.5 + i)
    before = [repr(one.state_dict()) for one in seeds]
    merged = History.merged({"narrow": seeds, "wide": wide})
    assert [repr(one.state_dict()) for one in seeds] == before
    merged.save(tmp_path / "all.json")
    for history in (merged, History.load(tmp_path / "all.json")):
        assert history.names == {0: "narrow", 1: "narrow", 2: "narrow", 3: "wide"}
        assert history.to_rows() == [
            row | {"run": run} for run, one in enumerate((*seeds, wide)) for row in one.to_rows()
        ]
        groups = history.groups()
        assert {name: len(runs) for name, runs in groups.items()} == {"narrow": 3, "wide": 1}
        assert [one.ceilings["H(Y)"].value for one in groups["narrow"]] == [3.5, 4.5, 5.5]


def test_a_merged_history_can_be_merged_and_added_to():
    first = a_history(1)
    first.begin_run()
    first.append(epoch=0, step=0, layer="output", quantity="target", estimate=estimate())
    merged = History.merged({"twice": first, "again": History.merged({"one": a_history(1)})})
    assert merged.names == {0: "twice", 1: "twice", 2: "again"}
    merged.begin_run()
    merged.append(epoch=0, step=0, layer="output", quantity="target", estimate=estimate())
    assert merged.runs == [0, 1, 2, 3]
    assert merged.names == {0: "twice", 1: "twice", 2: "again"}


def test_the_figure_shows_mean_and_spread_of_each_group():
    narrow, wide = ([a_history(2, seed=seed + start) for seed in range(3)] for start in (0, 10))
    figure = History.merged({"narrow": narrow, "wide": wide}).plot("runs")
    axes = figure.axes[0]
    means = [line for line in axes.lines if line.get_label() == "output"]
    assert len({line.get_linestyle() for line in means}) == 2
    for line, group in zip(means, (narrow, wide), strict=True):
        table = np.stack([run.series("target")["output"].mi for run in group])
        np.testing.assert_allclose(line.get_ydata(), table.mean(axis=0))
    assert legend_labels(figure) == [
        "net.1",
        "output",
        "narrow: mean ±1 sd of 3 runs",
        "wide: mean ±1 sd of 3 runs",
    ]


def test_what_cannot_be_compared_is_refused():
    nats = History()
    nats.append(epoch=0, step=0, layer="output", quantity="target", estimate=estimate(unit="nats"))
    other = a_history(layers=["encoder.0"])
    for histories, message in (
        ({}, "expected a dict of names to histories, got dict"),
        ([a_history()], "expected a dict of names to histories, got list"),
        ({"a": a_history(), "b": History()}, "expected at least one estimate under 'b', got none"),
        ({"a": [a_history(), 3]}, "expected a History, or a list of them, under 'a', got int"),
        ({"a": a_history(), "b": nats}, r"expected one unit, got \['bits', 'nats'\]"),
        ({"a": a_history(), "b": other}, "expected a layer that all of them have.*encoder.0.*one label"),
    ):
        with pytest.raises(ValueError, match=message):
            History.merged(histories)
