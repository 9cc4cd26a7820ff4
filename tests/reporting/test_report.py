"""The HTML report: what is in the figure and on the page."""

import re
import sys

import pytest

from mi_callback.estimation.records import Flag
from mi_callback.reporting import History, write_report

from .records import DEEP, FAILED, a_history, estimate

pytest.importorskip("plotly")


def interactive(history):
    from mi_callback.reporting.report_figure import interactive_figure

    return interactive_figure(history)


def test_every_layer_is_one_group_that_the_legend_switches():
    figure = interactive(a_history(3))
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == ["net.1", "net.3", "output"]
    assert {trace.legendgroup for trace in figure.data} == set(named)


def test_the_report_names_layers_by_what_differs():
    """Evidence: the names of the traces and the title; on old code names stood in full, or cut in the table."""
    history = History()
    for layer in DEEP:
        history.append(epoch=0, step=0, layer=layer, quantity="target", estimate=estimate())
    figure = interactive(history)
    assert [trace.name for trace in figure.data if trace.showlegend] == ["0", "1", "output"]
    assert figure.layout.legend.title.text == "layers model.encoder.layer.*.intermediate.act: click to switch"
    assert [trace.hovertemplate.split("<br>")[0] for trace in figure.data if trace.showlegend] == DEEP


def test_curves_and_plane_hold_the_estimates():
    history = a_history(2)
    plane, *_ = (t for t in interactive(history).data if t.legendgroup == "output")
    assert list(plane.x) == history.series("input")["output"].mi.tolist()
    assert list(plane.y) == history.series("target")["output"].mi.tolist()
    curves = [t for t in interactive(history).data if t.legendgroup == "output" and t.text is not None]
    assert [list(t.y) for t in curves] == [history.series(q)["output"].mi.tolist() for q in ("target", "input")]


def test_the_slider_has_a_step_an_epoch_and_moves_the_marked_points():
    history = a_history(2, range(0, 30, 10))
    figure = interactive(history)
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0", "10", "20"]
    assert slider.active == 2
    for i, frame in enumerate(figure.frames):
        moved = [figure.data[at].legendgroup for at in frame.traces]
        assert moved == ["net.1", "output"] * 3  # plane, and two panels of curves
        assert frame.data[1].x[0] == history.series("input")["output"].mi[i]
        assert frame.data[3].x[0] == history.epochs[i]
        assert frame.data[3].y[0] == history.series("target")["output"].mi[i]


def test_doubtful_points_are_open():
    history = a_history(1, range(0, 20, 10))
    history.append(epoch=10, step=1, layer="output", quantity="input", estimate=estimate(flags=(Flag.DUPLICATES,)))
    plane = interactive(history).data[0]
    assert list(plane.marker.symbol) == ["circle", "circle-open"]


def test_long_runs_are_thinned_evenly():
    figure = interactive(a_history(1, range(1000)))
    assert {len(t.x) for t in figure.data} == {300, 1}
    assert len(figure.frames) == 150
    assert (figure.frames[0].name, figure.frames[-1].name) == ("0", "999")


def test_the_page_is_one_file_that_names_values_ceilings_and_flags(tmp_path):
    history = a_history(2)
    history.set_ceiling("I(X;Y)", 3.2)
    history.append(epoch=40, step=1, layer="<b>", quantity="target", estimate=estimate(flags=(Flag.DUPLICATES,)))
    page = write_report(history, tmp_path / "report.html", title="A & B").read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in page
    assert "<td>&lt;b&gt;</td>" in page
    assert f"<dt>duplicates (1 of {len(history)} estimates)</dt><dd>{Flag.DUPLICATES.value}</dd>" in page
    assert "I(X;Y) = 3.2" in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)=["\']?http', page)
    assert '"showSendToCloud": false' in page


def test_a_report_can_be_made_of_little(tmp_path):
    only_target = a_history(1, range(1), quantities=("target",))
    failed = History()
    for quantity in ("target", "input"):
        failed.append(epoch=0, step=0, layer="a", quantity=quantity, estimate=FAILED)
    for history in (only_target, failed, a_history(9, range(2))):
        write_report(history, tmp_path / "report.html")
    with pytest.raises(ValueError, match="history: expected estimates to report on"):
        write_report(History(), tmp_path / "none.html")


def test_without_plotly_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ImportError, match=r'pip install "mi-callback\[report\]"'):
        write_report(a_history(), tmp_path / "report.html")


def test_the_page_says_at_how_many_samples_estimates_were_taken(tmp_path):
    history = History()
    for layer, n_points in (("a", 350), ("b", 200), ("c", 100)):
        history.append(epoch=0, step=0, layer=layer, quantity="target", estimate=estimate(n_points=n_points))
    assert "350 samples, estimates at 100 to 200 of them," in write_report(history, tmp_path / "a.html").read_text()
    assert "350 samples, values in bits" in write_report(a_history(), tmp_path / "b.html").read_text()
