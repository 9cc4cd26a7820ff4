"""Structure of the figures: what is drawn, what it is called, and where; every figure is also rendered."""

import functools
import io
import math
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib import colormaps, rcParams
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from mi_callback.estimation.records import Flag
from mi_callback.reporting import (
    History,
    curves,
    depth_profile,
    draw_figures,
    heat_map,
    information_plane,
    overlay,
)
from mi_callback.reporting.figures.catalogue import FIGURES, Kind

from .records import DEEP, FAILED, a_history, estimate

SWEEP = ("input_noise_0.1", "input_noise_0.3")

DRAWINGS = {
    "plane": information_plane,
    "curves": curves,
    "heat_map": heat_map,
    "profile": depth_profile,
    "overlay": lambda history: overlay([history, history]),
}


def render(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def labels(axes):
    return [artist.get_label() for artist in axes.get_children()]


def texts(axes):
    return [t.get_text() for t in axes.texts] + [axes.get_title(loc="right")]


def legend_labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def scatter(axes, label):
    return next(c for c in axes.collections if c.get_label() == label)


# the information plane


def test_the_plane_has_a_labelled_axis_a_side_with_the_unit():
    axes = information_plane(a_history()).axes[0]
    assert axes.get_xlabel() == "$I(X;T)$ (bits)"
    assert axes.get_ylabel() == "$I(T;Y)$ (bits)"


def test_the_plane_says_nats_when_the_history_is_in_nats():
    history = History()
    for quantity in ("target", "input"):
        history.append(epoch=0, step=0, layer="a", quantity=quantity, estimate=estimate(unit="nats"))
    assert information_plane(history).axes[0].get_ylabel() == "$I(T;Y)$ (nats)"


def test_measurement_noise_stands_on_the_axis():
    history = History()
    history.append(epoch=0, step=0, layer="a", quantity="target", estimate=estimate())
    noisy = estimate(estimator="mixture", space="noise 0.3", noise_std=0.3)
    history.append(epoch=0, step=0, layer="a", quantity="input", estimate=noisy)
    assert information_plane(history).axes[0].get_xlabel() == r"$I(X;T+\sigma Z)$, $\sigma=0.3$ (bits)"


def test_a_count_that_equals_its_ceiling_is_not_beyond_it():
    history = History()
    history.append(epoch=0, step=0, layer="a", quantity="target", estimate=estimate())
    counted = estimate(12 + 1e-13, stderr=math.nan, estimator="counting", space="exact")
    history.append(epoch=0, step=0, layer="a", quantity="input", estimate=counted)
    history.set_ceiling("log n", 12.0)
    assert len(scatter(information_plane(history).axes[0], "_a hollow").get_offsets()) == 0


def test_the_plane_pairs_input_and_target_of_the_same_layer_and_epoch():
    history = a_history(2, range(0, 30, 10))
    drawn = scatter(information_plane(history).axes[0], "_net.1 solid").get_offsets()
    x, y = history.series("input")["net.1"].mi, history.series("target")["net.1"].mi
    np.testing.assert_array_equal(drawn, np.column_stack([x, y]))


def test_epochs_are_colours_with_a_colour_bar():
    history = a_history(2, range(0, 30, 10))
    axes, bar = information_plane(history).axes
    faces = scatter(axes, "_output solid").get_facecolors()
    np.testing.assert_allclose(faces, colormaps["viridis"]([0.0, 0.5, 1.0]))
    assert bar.get_ylabel() == "epoch"
    assert bar.get_ylim() == (0, 20)


def test_layers_are_told_by_marker_and_label():
    figure = information_plane(a_history(3))
    assert legend_labels(figure) == ["net.1", "net.3", "output"]
    outlines = {c.get_paths()[0].vertices.tobytes() for c in figure.axes[0].collections if "solid" in c.get_label()}
    assert len(outlines) == 3


def test_flagged_points_are_hollow_and_all_are_there():
    history = a_history(1, range(0, 30, 10))
    history.append(
        epoch=10, step=80, layer="output", quantity="input", estimate=estimate(4.0, flags=(Flag.DUPLICATES,))
    )
    figure = information_plane(history)
    solid, hollow = (scatter(figure.axes[0], f"_output {kind}") for kind in ("solid", "hollow"))
    assert len(solid.get_offsets()) == 2
    np.testing.assert_array_equal(hollow.get_offsets(), [[4.0, history.series("target")["output"].mi[1]]])
    np.testing.assert_array_equal(hollow.get_facecolors(), [to_rgba("white")])
    np.testing.assert_allclose(hollow.get_edgecolors(), [colormaps["viridis"](0.5)])
    assert legend_labels(figure)[-1] == "flagged"


def test_points_beyond_a_limit_by_two_standard_errors_are_hollow():
    history = History()
    for epoch, value in enumerate((2.9, 3.15, 3.5)):  # limit 3.0 + 2 * 0.1
        history.append(epoch=epoch, step=epoch, layer="a", quantity="target", estimate=estimate(value, stderr=0.1))
        history.append(epoch=epoch, step=epoch, layer="a", quantity="input", estimate=estimate(9.0))
    history.set_ceiling("I(X;Y)", 3.0)
    axes = information_plane(history).axes[0]
    np.testing.assert_array_equal(scatter(axes, "_a hollow").get_offsets(), [[9.0, 3.5]])
    low, high = axes.get_ylim()
    assert low < 2.9 < 3.5 < high


def test_ceilings_are_labelled_lines_and_far_ones_a_note():
    history = a_history()
    history.set_ceiling("I(X;Y)", 3.2, 0.1)
    history.set_ceiling("H(X)", 5.5)
    axes = information_plane(history).axes[0]
    lines = [line.get_xydata().tolist() for line in axes.lines if line.get_label() == "_ceiling"]
    assert lines == [[[0, 3.2], [1, 3.2]], [[5.5, 0], [5.5, 1]]]
    assert {"$I(X;Y)$ = 3.2", "$H(X)$ = 5.5"} <= set(texts(axes))
    far = a_history()
    far.set_ceiling("log n", 13.3)
    axes = information_plane(far).axes[0]
    assert "_ceiling" not in labels(axes)
    assert r"off the axis: $\log n$ = 13.3" in texts(axes)
    assert axes.get_xlim()[1] < 6


def test_the_band_around_a_ceiling_is_its_standard_error():
    history = a_history()
    history.set_ceiling("I(X;Y)", 3.2, 0.1)
    axes = curves(history, quantities=("target",)).axes[0]
    band = axes.patches[0].get_window_extent().transformed(axes.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((3.1, 3.3))


def test_error_bars_come_on_demand():
    history = a_history(1)
    without, with_bars = (information_plane(history, error_bars=on).axes[0] for on in (False, True))
    assert len(with_bars.collections) == len(without.collections) + 2
    bars = next(c for c in with_bars.collections if c not in without.collections and len(c.get_segments()) == 5)
    assert np.ptp(bars.get_segments()[0][:, 0]) == pytest.approx(0.2)  # one standard error of 0.1 either side


def test_failed_measurements_are_left_out_of_the_plane():
    history = a_history(1, range(0, 30, 10))
    history.append(epoch=10, step=80, layer="output", quantity="target", estimate=FAILED)
    assert len(scatter(information_plane(history).axes[0], "_output solid").get_offsets()) == 2


def test_a_deep_plane_joins_the_layers_of_some_epochs_and_names_some_layers():
    history = a_history(12, range(0, 100, 2))
    figure = information_plane(history)
    axes = figure.axes[0]
    assert labels(axes).count("_path") == 12
    snapshots = [line for line in axes.lines if line.get_label() == "_snapshot"]
    assert len(snapshots) == 6
    last = [[history.series(q)[layer].mi[-1] for layer in history.layers] for q in ("input", "target")]
    np.testing.assert_array_equal(snapshots[-1].get_xydata().T, last)
    assert {"net.1", "output"} <= set(texts(axes))
    assert figure.legends == []


# curves


def test_curves_have_a_panel_a_quantity_and_a_line_a_layer():
    history = a_history(3)
    figure = curves(history)
    assert [axes.get_ylabel() for axes in figure.axes] == ["$I(T;Y)$ (bits)", "$I(X;T)$ (bits)"]
    assert figure.axes[-1].get_xlabel() == "epoch"
    for axes, quantity in zip(figure.axes, history.quantities, strict=True):
        for line in (line for line in axes.lines if line.get_label() in history.layers):
            series = history.series(quantity)[line.get_label()]
            np.testing.assert_array_equal(line.get_xydata(), np.column_stack([series.epochs, series.mi]))
    assert legend_labels(figure) == ["net.1", "net.3", "output", "null ±2 sd"]


def test_layers_have_the_colours_of_okabe_and_ito():
    axes = curves(a_history(3)).axes[0]
    colors = [to_hex(line.get_color()).upper() for line in axes.lines if line.get_label() in ("net.1", "net.3")]
    assert colors == ["#0072B2", "#D55E00"]


def test_the_null_band_is_two_standard_deviations_of_the_widest_null():
    history = History()
    for layer, std in (("a", 0.05), ("b", 0.2), ("c", math.nan)):
        for epoch in (0, 1):
            history.append(epoch=epoch, step=0, layer=layer, quantity="target", estimate=estimate(null_std=std))
    axes = curves(history).axes[0]
    band = scatter(axes, "null ±2 sd").get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((-0.4, 0.4))
    low, high = axes.get_ylim()
    assert low < -0.4 < 1.0 < high


def test_standard_errors_are_a_band_of_the_layers_colour():
    history = a_history(1, range(0, 30, 10))
    series = history.series("target")["output"]
    axes = curves(history).axes[0]
    (band,) = (c for c in axes.collections if not c.get_label().startswith("null"))
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(((series.mi - 0.1).min(), (series.mi + 0.1).max()))
    assert to_hex(band.get_facecolor()[0]).upper() == "#0072B2"


def test_failed_measurements_leave_a_gap():
    history = a_history(1, range(0, 40, 10))
    history.append(epoch=10, step=80, layer="output", quantity="target", estimate=FAILED)
    line = next(line for line in curves(history).axes[0].lines if line.get_label() == "output")
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False, False])


def with_losses(history):
    for epoch in history.epochs:
        history.set_metric("train_loss", epoch, 2.0 / (1 + epoch**1.5))
        history.set_metric("val_loss", epoch, 2.5 / (1 + epoch**1.5))
        history.set_metric("accuracy", epoch, 0.5)
    return history


@pytest.mark.parametrize("n_layers", [3, 12])
def test_losses_have_a_panel_of_their_own(n_layers):
    """Evidence: labels of axes and lines; on old code they shared the panel of I(T;Y)."""
    figure = curves(with_losses(a_history(n_layers)))
    panels = figure.axes[:3]
    assert [axes.get_ylabel() for axes in panels] == ["$I(T;Y)$ (bits)", "$I(X;T)$ (bits)", "loss"]
    assert [line.get_label() for line in panels[2].lines] == ["train_loss", "val_loss"]
    assert len({line.get_linestyle() for line in panels[2].lines}) == 2
    assert panels[2].get_yscale() == "log"
    assert [text.get_text() for text in panels[2].get_legend().get_texts()] == ["train_loss", "val_loss"]
    assert "loss" not in " ".join(legend_labels(figure))
    without = curves(with_losses(a_history(n_layers)), losses=False)
    assert "loss" not in [axes.get_ylabel() for axes in without.axes]


@pytest.mark.parametrize("n_layers", [2, 9])
def test_usable_information_has_a_panel_of_its_own_in_the_scale_of_the_total(n_layers):
    """Evidence: the panels; on old code up to seven layers had it dashed in the panel of I(T;Y)."""
    history = a_history(n_layers, quantities=("target", "usable"))
    target, usable = curves(history).axes[:2]
    assert target.get_ylabel() == "$I(T;Y)$ (bits)"
    assert usable.get_ylabel() == "usable $I(T;Y)$\n(bits)"
    assert target.get_ylim() == usable.get_ylim()
    for axes, quantity in ((target, "target"), (usable, "usable")):
        drawn = [line.get_ydata().tolist() for line in axes.lines if line.get_label() in history.layers]
        assert drawn == [series.mi.tolist() for series in history.series(quantity).values()]


def test_a_ceiling_within_the_shared_scale_is_drawn_in_both_panels():
    """On old code the panel of usable information called it off the axis that it stood on."""
    history = a_history(2, range(1), quantities=("target", "usable"))  # before training nothing is usable
    ceiling = max(one.mi.max() for one in history.series("target").values())
    history.set_ceiling("I(X;Y)", ceiling)
    for axes in curves(history).axes[:2]:
        assert axes.get_title(loc="right") == ""
        assert [line.get_ydata()[0] for line in axes.lines if line.get_label() == "_ceiling"] == [ceiling]


def test_many_layers_are_told_by_a_bar_of_names():
    figure = curves(a_history(12))
    bar = figure.axes[-1]
    names = [tick.get_text() for tick in bar.get_yticklabels()]
    assert names[0] == "net.1"
    assert names[-1] == "output"
    assert len(names) == 6
    assert legend_labels(figure) == ["null ±2 sd"]


def test_every_figure_names_layers_by_what_differs():
    """Evidence: the texts that are drawn; on old code each name was cut to both ends, the same for all layers."""
    history = a_history(layers=DEEP)
    pattern = "model.encoder.layer.*.intermediate.act"
    for draw in (information_plane, curves, DRAWINGS["overlay"]):
        figure = draw(history)
        assert legend_labels(figure)[:3] == ["0", "1", "output"]
        assert figure.legends[0].get_title().get_text() == pattern
    for axis in (heat_map(history).axes[0].yaxis, depth_profile(history).axes[1].xaxis):
        assert [tick.get_text() for tick in axis.get_ticklabels()] == ["0", "1", "output"]
        assert axis.get_label_text().replace("\n", "") == pattern
    deep = a_history(layers=[*(f"model.encoder.layer.{i}.intermediate.act" for i in range(9)), "output"])
    bar = curves(deep).axes[-1]
    assert {"0", "output"} <= {tick.get_text() for tick in bar.get_yticklabels()}
    assert {"0", "output"} <= set(texts(information_plane(deep).axes[0]))


# room for every text

LONG = [f"model.encoder.layer.{i}.{kind}" for i in range(5) for kind in ("intermediate.act_fn", "output.act_fn")]


def written(figure):
    """Every text but the labels of ticks, with its box in pixels as rendered."""
    figure.canvas.draw()
    texts = [text for legend in figure.legends for text in (legend.get_title(), *legend.get_texts())]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label, *axes.texts]
        texts += [text for text in axes.get_children() if isinstance(text, Text) and text not in axes.texts]
    drawn = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return {text: text.get_window_extent(figure.canvas.get_renderer()) for text in drawn}


@pytest.mark.parametrize("layers", [["net.1", "net.3", "output"], DEEP, [*LONG, "output"]], ids=["few", "deep", "many"])
@pytest.mark.parametrize(
    "quantities",
    [
        pytest.param(("target", "usable", "input"), id="all"),
        pytest.param(("target", "input", *SWEEP), id="sweep", marks=pytest.mark.slow),
    ],
)
def test_every_text_is_on_the_page_and_covers_no_other(layers, quantities):
    """Evidence: boxes of texts as rendered. On old code ceilings ran off the page, and labels of noise overlapped."""
    history = with_losses(a_history(layers=layers, quantities=quantities))
    for name, value in (("I(X;Y)", 3.2), ("log n", 13.3), ("psi(n) - psi(k)", 12.1), ("H(X)", 14.1)):
        history.set_ceiling(name, value)
    for tag, figure in draw_figures(history).items():
        boxes = written(figure)
        page = figure.bbox.padded(1)
        for text, box in boxes.items():
            inside = page.x0 <= box.x0 and page.y0 <= box.y0 and box.x1 <= page.x1 and box.y1 <= page.y1
            assert inside, f"{tag}: {text.get_text()!r} runs off the page"
        for (one, a), (other, b) in combinations(boxes.items(), 2):
            apart = a.x1 <= b.x0 + 2 or b.x1 <= a.x0 + 2 or a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
            assert apart, f"{tag}: {one.get_text()!r} covers {other.get_text()!r}"


# depth


def test_the_heat_map_has_layers_downwards_and_epochs_across():
    history = a_history(4, range(0, 30, 10))
    history.append(epoch=10, step=80, layer="output", quantity="target", estimate=FAILED)
    axes, bar = heat_map(history).axes
    values = axes.collections[0].get_array().reshape(4, 3)
    for row, layer in zip(values, history.layers, strict=True):
        np.testing.assert_array_equal(row.filled(np.nan), history.series("target")[layer].mi)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["net.1", "net.3", "net.5", "output"]
    assert axes.get_ylim() == (3.5, -0.5)
    assert axes.get_xlim() == (-5, 25)
    assert bar.get_ylabel() == "$I(T;Y)$ (bits)"


def test_flagged_cells_of_the_heat_map_have_a_ring():
    history = a_history(2, range(0, 30, 10))
    history.append(epoch=20, step=80, layer="output", quantity="target", estimate=estimate(flags=(Flag.DUPLICATES,)))
    rings = next(line for line in heat_map(history).axes[0].lines if line.get_label() == "_hollow")
    assert rings.get_xydata().tolist() == [[20, 1]]


def test_the_profile_shows_the_last_epoch_over_the_layers_in_order():
    history = a_history(4)
    figure = depth_profile(history)
    axes = figure.axes[0]
    last = next(line for line in axes.lines if line.get_label() == "_epoch 40")
    np.testing.assert_array_equal(last.get_ydata(), [s.mi[-1] for s in history.series("target").values()])
    assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == history.layers
    assert figure.axes[-1].get_ylabel() == "epoch"


# several runs


def test_the_overlay_draws_mean_spread_and_every_run():
    runs = [a_history(2, seed=seed) for seed in range(4)]
    figure = overlay(runs)
    axes = figure.axes[0]
    table = np.stack([run.series("target")["output"].mi for run in runs])
    mean = next(line for line in axes.lines if line.get_label() == "output")
    np.testing.assert_allclose(mean.get_ydata(), table.mean(axis=0))
    assert labels(axes).count("_run") == 8
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((table.mean(0) + table.std(0, ddof=1)).max())
    assert legend_labels(figure) == ["net.1", "output", "±1 sd of 4 runs"]


def test_the_overlay_averages_only_epochs_that_all_runs_measured():
    long, short = a_history(1, range(0, 60, 10)), a_history(1, range(0, 30, 10))
    short.append(epoch=10, step=0, layer="output", quantity="target", estimate=FAILED)
    axes = overlay([long, short]).axes[0]
    mean = next(line for line in axes.lines if line.get_label() == "output")
    assert mean.get_xdata().tolist() == [0, 20]


def test_the_overlay_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="histories: expected at least one"):
        overlay([])
    with pytest.raises(ValueError, match=r"layers: expected layers that every run has, \['output'\], got \['net.1'\]"):
        overlay([a_history(2), a_history(1)], layers=["net.1"])
    nats = History()
    nats.append(epoch=0, step=0, layer="output", quantity="target", estimate=estimate(unit="nats"))
    with pytest.raises(ValueError, match=r"histories: expected one unit, got \['bits', 'nats'\]"):
        overlay([a_history(1), nats])


# all of them


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_can_be_drawn_of_little(name):
    for history in (a_history(1, range(1)), a_history(2, quantities=("input",)), History()):
        assert render(DRAWINGS[name](history)).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_can_be_drawn_of_failures_only(name):
    history = History()
    for quantity in ("target", "input"):
        history.append(epoch=0, step=0, layer="a", quantity=quantity, estimate=FAILED)
    render(DRAWINGS[name](history))


@pytest.mark.parametrize(
    "draw", [information_plane, curves, heat_map, depth_profile, lambda history, ax: overlay([history], ax=ax)]
)
def test_a_figure_can_be_drawn_on_axes_that_are_given(draw):
    figure = Figure()
    axes = figure.subplots(1, 2)
    drawn = draw(a_history(), ax=axes[0])
    assert drawn
    assert all(artist.get_figure() is figure for artist in drawn)
    assert not axes[1].has_data()


def test_curves_can_be_drawn_on_several_axes():
    axes = Figure().subplots(2, 1)
    curves(a_history(), ax=axes)
    assert [a.get_ylabel() for a in axes] == ["$I(T;Y)$ (bits)", "$I(X;T)$ (bits)"]
    with pytest.raises(ValueError, match=r"ax: expected one axes for each of \['target'\], got 2"):
        curves(a_history(), quantities=("target",), ax=axes)


def test_a_logger_gets_the_figures_that_the_history_allows():
    assert draw_figures(History()) == {}
    assert set(draw_figures(a_history(1, quantities=("target",)))) == {"mi/curves"}
    assert set(draw_figures(a_history(quantities=("target",)))) == {"mi/curves", "mi/depth"}
    assert set(draw_figures(a_history())) == {"mi/curves", "mi/information_plane", "mi/depth"}
    deep = {"mi/curves", "mi/information_plane", "mi/depth", "mi/heat_map_target", "mi/heat_map_input"}
    assert set(draw_figures(a_history(8))) == deep
    sweep = draw_figures(a_history(quantities=("target", "input", *SWEEP)))
    assert set(sweep) == {"mi/curves", "mi/information_plane", "mi/depth", "mi/noise_sweep"}
    assert len(sweep["mi/depth"].axes) == 3  # target, input and the bar: the further sigmas have their own figure


def test_a_new_figure_is_a_function_and_a_line_in_the_list(monkeypatch):
    """Evidence: a figure that is in the list only; ``History.plot`` and the loggers' figures have it."""

    def dots(history, *, ax=None, color="red"):
        figure = Figure()
        figure.subplots().plot(history.epochs, color=color, marker="o")
        return figure

    monkeypatch.setitem(FIGURES, "dots", Kind(dots, lambda history: {"mi/dots": {"color": "blue"}}))
    assert a_history().plot("dots").axes[0].lines[0].get_color() == "red"
    assert draw_figures(a_history())["mi/dots"].axes[0].lines[0].get_color() == "blue"


def test_a_notebook_shows_a_figure_by_itself():
    assert curves(a_history())._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_drawing_changes_no_setting_and_does_not_import_pyplot():
    before = dict(rcParams)
    for draw in DRAWINGS.values():
        render(draw(a_history()))
    assert dict(rcParams) == before
    code = (
        "import sys; from tests.reporting.records import a_history; history = a_history(8); history.to_rows();"
        "assert 'matplotlib' not in sys.modules;"
        "from mi_callback.reporting import draw_figures; draw_figures(history);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@functools.cache
def forty_layers(n_epochs):
    """Drawing changes nothing in it, and making one takes longer than drawing it."""
    return a_history(40, range(n_epochs), quantities=("target", "usable", "input"))


@pytest.mark.parametrize("name", DRAWINGS)
def test_forty_layers_and_a_thousand_epochs_stay_drawable(name):
    """Evidence: the number of artists, which is what drawing costs. ``benchmarks/figures.py`` takes the time."""
    long, short = (forty_layers(n) for n in (1000, 10))
    figure = DRAWINGS[name](long)
    assert len(figure.findobj()) < 1.2 * len(DRAWINGS[name](short).findobj())
    assert render(figure)
