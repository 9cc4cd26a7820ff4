import csv
import json
import math
from dataclasses import replace

import pytest
import torch

from mi_callback.estimation.records import Flag
from mi_callback.reporting import History
from mi_callback.reporting.series import ROW_KEYS

from .records import FAILED, a_history, estimate


@pytest.fixture
def history():
    """One with everything that a file has to carry: flags, failures, no p-value, ceilings, metrics, odd names."""
    made = a_history()
    made.append(
        epoch=50,
        step=400,
        layer='a,"b"\n',
        quantity="target",
        estimate=estimate(-0.1, p_value=None, flags=(Flag.DUPLICATES, Flag.WITHIN_NULL), n_points=200),
    )
    made.append(epoch=50, step=400, layer="output", quantity="input", estimate=FAILED)
    noisy = estimate(2.0, estimator="mixture", space="a, noise 0.1", noise_std=0.1, reduction="a")
    made.append(epoch=50, step=400, layer="wide", quantity="input", estimate=noisy)
    made.set_ceiling("I(X;Y)", 3.4, 0.1)
    made.set_ceiling("log n", 8.5)
    made.set_metric("train_loss", 50, 0.25)
    made.set_metric("val_loss", 50, math.nan)
    return made


def assert_same_rows(one, other):
    assert repr(one.to_rows()) == repr(other.to_rows())  # NaN is not equal to itself


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_a_file_gives_back_the_rows(history, tmp_path, ending):
    path = tmp_path / f"run.{ending}"
    history.save(path)
    assert_same_rows(History.load(path), history)


def test_json_holds_ceilings_and_metrics_and_is_valid_json(history, tmp_path):
    path = tmp_path / "run.json"
    history.save(str(path))
    loaded = History.load(str(path))
    assert repr(loaded.ceilings) == repr(history.ceilings)
    assert repr(loaded.metrics) == repr(history.metrics)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_a_file_holds_all_runs(history, tmp_path, ending):
    history.begin_run()
    history.append(epoch=0, step=8, layer="output", quantity="target", estimate=estimate(0.5))
    history.set_ceiling("H(Y)", 1.5)
    history.set_metric("train_loss", 0, 2.5)
    path = tmp_path / f"run.{ending}"
    history.save(path)
    loaded = History.load(path)
    assert_same_rows(loaded, history)
    assert loaded.runs == [0, 1]
    assert loaded.epochs == [0]
    if ending == "json":
        for run in (0, 1):
            assert repr(loaded.of_run(run).ceilings) == repr(history.of_run(run).ceilings)
            assert repr(loaded.of_run(run).metrics) == repr(history.of_run(run).metrics)
        assert loaded.metrics == {"train_loss": {0: 2.5}}


def test_files_from_before_there_were_runs_are_run_0(history, tmp_path):
    state = history.state_dict()
    del state["columns"]["run"], state["earlier"]
    loaded = History()
    loaded.load_state_dict(state)
    assert_same_rows(loaded, history)
    torch.save({"callbacks": {"Monitor": {"history": state}}}, tmp_path / "old.ckpt")
    assert_same_rows(History.load(tmp_path / "old.ckpt"), history)
    history.save(tmp_path / "new.csv")
    with (tmp_path / "new.csv").open(newline="", encoding="utf-8") as file:
        rows = [row[1:] for row in csv.reader(file)]
    with (tmp_path / "old.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    assert_same_rows(History.load(tmp_path / "old.csv"), history)


def test_files_from_before_there_were_points_do_not_say_how_many(history, tmp_path):
    """Evidence: the rows themselves, in a state and in a table without that column."""
    rows = [row | {"n_points": None} for row in history.to_rows()]
    state = history.state_dict()
    del state["columns"]["n_points"]
    loaded = History()
    loaded.load_state_dict(state)
    assert repr(loaded.to_rows()) == repr(rows)
    history.save(tmp_path / "new.csv")
    with (tmp_path / "new.csv").open(newline="", encoding="utf-8") as file:
        table = [[cell for i, cell in enumerate(row) if i != ROW_KEYS.index("n_points")] for row in csv.reader(file)]
    with (tmp_path / "old.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    assert repr(History.load(tmp_path / "old.csv").to_rows()) == repr(rows)


def test_csv_is_a_plain_table(history, tmp_path):
    path = tmp_path / "run.csv"
    history.save(path)
    head = path.read_text(encoding="utf-8").splitlines()[0]
    assert head == (
        "run,epoch,step,data,layer,quantity,mi,low,high,raw,null_mean,null_std,p_value,stderr,unit,estimator,space,"
        "intrinsic_dim,noise_std,reduction,n_samples,n_points,flags"
    )


def test_an_empty_history_survives_a_file(tmp_path):
    for ending in ("json", "csv"):
        path = tmp_path / f"run.{ending}"
        History().save(path)
        assert len(History.load(path)) == 0


def test_a_checkpoint_gives_back_everything(history, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"epoch": 3, "callbacks": {"Monitor{'k': 3}": {"history": history.state_dict()}}}, path)
    loaded = History.load(path)
    assert_same_rows(loaded, history)
    assert repr(loaded.ceilings) == repr(history.ceilings)


def test_one_of_several_monitors_is_chosen_by_its_key(history, tmp_path):
    path = tmp_path / "last.ckpt"
    states = {"Monitor{'k': 3}": history.state_dict(), "Monitor{'k': 5}": a_history().state_dict()}
    torch.save({"callbacks": {key: {"history": state} for key, state in states.items()}}, path)
    assert_same_rows(History.load(path, monitor="'k': 3"), history)
    with pytest.raises(ValueError, match=r"expected one history in 'last.ckpt', got 2.*Choose one by monitor="):
        History.load(path)
    with pytest.raises(ValueError, match=r"under a key with 'x' in 'last.ckpt', got 0"):
        History.load(path, monitor="x")


def test_a_checkpoint_without_history_is_told(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"callbacks": {}}, path)
    with pytest.raises(ValueError, match="Was it trained with a MutualInformationMonitor"):
        History.load(path)


def test_files_that_are_not_histories_are_told(history, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .json or .csv, got 'run.txt'"):
        history.save(tmp_path / "run.txt")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"path: expected a file that History.save\(\) wrote, got 'other.json'"):
        History.load(tmp_path / "other.json")
    (tmp_path / "other.csv").write_text("epoch,mi\n0,1.0\n")
    with pytest.raises(ValueError, match=r"'step', 'layer'.*are missing"):
        History.load(tmp_path / "other.csv")


def test_a_frame_has_the_rows(history):
    pandas = pytest.importorskip("pandas")
    frame = history.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.shape == (len(history), len(ROW_KEYS))
    assert frame.query("layer == 'output' and quantity == 'target'").mi.tolist() == [
        row["mi"] for row in history.to_rows() if (row["layer"], row["quantity"]) == ("output", "target")
    ]
    assert History().to_frame().shape == (0, len(ROW_KEYS))


@pytest.mark.parametrize("kind", ["curves", "plane", "heat_map", "profile"])
def test_a_loaded_history_plots_without_training(history, tmp_path, kind):
    history.save(tmp_path / "run.json")
    figure = History.load(tmp_path / "run.json").plot(kind)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_unknown_plot_is_told(history):
    with pytest.raises(
        ValueError, match=r"kind: expected one of \['curves', .*'profile', 'heat_map', 'gap', 'runs'\], got 'pie'"
    ):
        history.plot("pie")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "expected a file that History.save.. wrote, got 'a.json'"),
        ("a.json", b"[1, 2]", "expected a file that History.save.. wrote, got 'a.json'"),
        ("a.json", b'{"format": "mi_callback.history/2", "columns": {"mi": 3}}', "which is none, or broken"),
        ("a.csv", b"epoch,loss\n0,1.5\n", "which is none, or broken.*are missing"),
        ("a.csv", b"\xff\xfe\x00", "which is none, or broken"),
        ("a.txt", b"hello", "expected a checkpoint, or a file that ends in .json or .csv, got 'a.txt'"),
        ("a.ckpt", b"PK\x03\x04", "expected a checkpoint"),
    ],
)
def test_a_foreign_file_is_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        History.load(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected a folder with a checkpoint or a \.json file that holds a history"):
        History.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        History.load(tmp_path / "nothing.json")


def test_a_file_is_written_whole_or_not_at_all(history, tmp_path, monkeypatch):
    """A full disk leaves the file that was there, and no part of another."""
    path = tmp_path / "run.json"
    history.save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        history.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_history_of_training_data_alone_is_as_versions_before_wrote_it(tmp_path):
    """A file without the column ``data`` is of training data."""
    state = a_history(2).state_dict()
    del state["columns"]["data"], state["ceilings_of_data"]
    old = History()
    old.load_state_dict(state)
    assert old.to_rows() == a_history(2).to_rows()
    assert {row["data"] for row in old.to_rows()} == {"train"}


def test_an_open_interval_stays_open(tmp_path):
    """Neither JSON nor a missing value has infinity: evidence is what comes back, and null for what is not known."""
    history = History()
    history.append(
        epoch=0, step=0, layer="a", quantity="target", estimate=replace(estimate(), interval=(0.5, math.inf))
    )
    history.append(
        epoch=1, step=1, layer="a", quantity="target", estimate=replace(FAILED, interval=(math.nan, math.nan))
    )
    for ending in ("json", "csv"):
        history.save(tmp_path / f"run.{ending}")
        first, second = History.load(tmp_path / f"run.{ending}").to_rows()
        assert (first["low"], first["high"]) == (0.5, math.inf)
        assert math.isnan(second["high"])
