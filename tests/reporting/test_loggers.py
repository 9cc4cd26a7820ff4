"""Every logger for real, offline: a model trains, and scalars and figures are read back in the logger's format."""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from PIL import Image

from mi_callback import MutualInformationMonitor
from mi_callback.reporting import log_figures
from tests.models import QUIET, Net, loader, trainer

from .records import a_history

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]

EPOCHS, STEPS = 2, [3, 7]  # four batches an epoch
TAGS = ("mi/curves", "mi/depth", "mi/information_plane")


def fit(path, *loggers):
    monitor = MutualInformationMonitor(layers=["net.1"], n_permutations=4, space="scores")
    trainer(path, monitor, max_epochs=EPOCHS, logger=list(loggers)).fit(Net(), loader())
    return monitor


def values(monitor, layer="output", quantity="target"):
    return [r["mi"] for r in monitor.history.to_rows() if (r["layer"], r["quantity"]) == (layer, quantity)]


def assert_is_figure(data: bytes | Path) -> None:
    """Whether it is a picture of a figure's size with something on it."""
    with Image.open(BytesIO(data) if isinstance(data, bytes) else data) as image:
        assert image.format == "PNG"
        assert min(image.size) > 350
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 10


def installed(name: str):
    """The logger's package, with the warnings that its import raises left aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    logger = TensorBoardLogger(tmp_path, name="run")
    monitor = fit(tmp_path, logger)
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    scalars = events.Scalars("mi_target/output")
    assert [e.value for e in scalars] == pytest.approx(values(monitor), rel=1e-6)
    assert [e.step for e in scalars] == STEPS
    for tag in TAGS:
        assert [image.step for image in events.Images(tag)] == STEPS
        assert_is_figure(events.Images(tag)[-1].encoded_image_string)
    (written,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["mutual information", "significance"]
    assert [list(chart.multiline.tag) for chart in layout.category[0].chart] == [
        ["mi_target/.*"],
        ["mi_usable/.*"],
        ["mi_input/.*"],
    ]
    assert [chart.title for chart in layout.category[1].chart] == ["mi_target p-value", "mi_input p-value"]


def test_csv(tmp_path):
    logger = CSVLogger(tmp_path, name="run")
    monitor = fit(tmp_path, logger)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["mi_target/output"]]
    assert [float(row["mi_target/output"]) for row in rows] == pytest.approx(values(monitor))
    assert [int(row["step"]) for row in rows] == STEPS
    found = sorted(path.name for path in (Path(logger.log_dir) / "figures").iterdir())
    assert found == [f"{tag.replace('/', '_')}_step_{step:08d}.png" for tag in TAGS for step in STEPS]
    for name in found:
        assert_is_figure(Path(logger.log_dir) / "figures" / name)


@pytest.mark.slow
def test_wandb(tmp_path, monkeypatch):
    wandb = installed("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    try:
        monitor = fit(tmp_path, logger)
    finally:
        wandb.finish()
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    pictures = list((run / "files" / "media" / "images" / "mi").iterdir())
    assert len(pictures) == 6
    for picture in pictures:
        assert_is_figure(picture)
    logged = wandb_history(next(run.glob("*.wandb")))
    assert [r["mi_target/output"] for r in logged if "mi_target/output" in r] == pytest.approx(values(monitor))
    for tag in TAGS:
        assert [r[f"{tag}/_type"] for r in logged if f"{tag}/_type" in r] == ["images/separated"] * EPOCHS


def wandb_history(path):
    """What a run logged, step by step, from its transaction log."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for data in records(path):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            found.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
    return found


def records(path: Path):
    """Records of a log in LevelDB's format behind a header of seven bytes, as wandb and swanlab write it."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:  # too little for a header: the rest of a block is left empty
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


@pytest.mark.slow
def test_mlflow(tmp_path, monkeypatch):
    installed("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    logger = MLFlowLogger("test", tracking_uri=uri)
    monitor = fit(tmp_path, logger)
    client = MlflowClient(uri)
    logged = client.get_metric_history(logger.run_id, "mi_target/output")
    assert [m.value for m in logged] == pytest.approx(values(monitor))
    assert [m.step for m in logged] == STEPS
    for tag in TAGS:
        files = [file.path for file in client.list_artifacts(logger.run_id, tag)]
        assert files == [f"{tag}/step_{step:08d}.png" for step in STEPS]
        assert_is_figure(Path(client.download_artifacts(logger.run_id, files[-1], str(tmp_path))))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # comet leaves a socket open
def test_comet(tmp_path, monkeypatch):
    monkeypatch.setenv("COMET_START_ONLINE", "0")
    monkeypatch.setenv("COMET_OFFLINE_DIRECTORY", str(tmp_path / "comet"))
    monkeypatch.setenv("COMET_LOGGING_CONSOLE", "CRITICAL")
    installed("comet_ml")
    from lightning.pytorch.loggers import CometLogger

    logger = CometLogger(api_key="offline", project="test", offline_directory=str(tmp_path / "comet"))
    monitor = fit(tmp_path, logger)
    logger.experiment.end()
    (archive,) = (tmp_path / "comet").glob("*.zip")
    with zipfile.ZipFile(archive) as file:
        messages = [json.loads(line) for line in file.read("messages.json").splitlines()]
        metrics = [m["payload"]["metric"] for m in messages if m["type"] == "metric_msg"]
        logged = [(m["metricValue"], m["step"]) for m in metrics if m["metricName"] == "mi_target/output"]
        assert [float(value) for value, _ in logged] == pytest.approx(values(monitor))
        assert [step for _, step in logged] == STEPS
        uploads = [m["payload"] for m in messages if m["type"] == "file_upload"]
        figures = [u for u in uploads if u["upload_type"] == "visualization"]
        told = {(u["additional_params"]["figName"], u["additional_params"]["step"]) for u in figures}
        assert told == {(tag, step) for tag in TAGS for step in STEPS}
        for figure in figures:
            assert b"<svg" in file.read(figure["file_path"])[:1000]


@pytest.mark.slow
def test_dvclive(tmp_path, monkeypatch):
    installed("dvclive")
    from dvclive.lightning import DVCLiveLogger

    monkeypatch.chdir(tmp_path)
    logger = DVCLiveLogger(dir=str(tmp_path / "live"), save_dvc_exp=False, dvcyaml=None)
    monitor = fit(tmp_path, logger)
    (table,) = (tmp_path / "live" / "plots" / "metrics").rglob("mi_target/output.tsv")
    with table.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [float(row["output"]) for row in rows] == pytest.approx(values(monitor))
    assert [int(row["step"]) for row in rows] == STEPS
    pictures = list((tmp_path / "live" / "plots" / "images").iterdir())
    assert len(pictures) == 6
    for picture in pictures:
        assert_is_figure(picture)


@pytest.mark.slow
def test_swanlab(tmp_path, monkeypatch):
    swanlab = installed("swanlab")
    from swanlab.integration.pytorch_lightning import SwanLabLogger
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record

    monkeypatch.chdir(tmp_path)
    logger = SwanLabLogger(project="test", mode="offline", log_dir=str(tmp_path / "swan"))
    try:
        monitor = fit(tmp_path, logger)
    finally:
        swanlab.finish()
    (run,) = (tmp_path / "swan").glob("run-*")
    found = [Record.FromString(data) for data in records(next(run.glob("*.swanlab")))]
    scalars = [r.scalar for r in found if r.WhichOneof("record_type") == "scalar"]
    logged = [(r.value.number, r.step) for r in scalars if r.key == "mi_target/output"]
    assert [value for value, _ in logged] == pytest.approx(values(monitor))
    assert [step for _, step in logged] == STEPS
    media = [r.media for r in found if r.WhichOneof("record_type") == "media"]
    assert {(r.key, r.step) for r in media} == {(tag, step) for tag in TAGS for step in STEPS}
    for record in media:
        assert_is_figure(run / "media" / "image" / record.value.items[0].filename)


class Kept(Logger):
    """A logger of somebody's own, which knows scalars only."""

    def __init__(self, save_dir=None):
        super().__init__()
        self.folder, self.metrics = save_dir, []

    name, version = "kept", 0

    @property
    def save_dir(self):
        return self.folder

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, dict(metrics)))

    def log_hyperparams(self, params, *args, **kwargs):
        pass


@pytest.mark.slow
def test_any_other_logger_gets_scalars_and_png_files(tmp_path):
    for logger, folder in ((Kept(str(tmp_path / "own")), tmp_path / "own"), (Kept(), tmp_path)):
        monitor = fit(tmp_path, logger)
        logged = [(step, m["mi_target/output"]) for step, m in logger.metrics if "mi_target/output" in m]
        assert logged == [(step, pytest.approx(value)) for step, value in zip(STEPS, values(monitor), strict=True)]
        assert len(list((folder / "figures").iterdir())) == 6
        assert_is_figure(folder / "figures" / "mi_curves_step_00000007.png")


@pytest.mark.slow
def test_several_loggers_each_get_everything(tmp_path):
    loggers = [TensorBoardLogger(tmp_path, name="tb"), CSVLogger(tmp_path, name="csv"), Kept(str(tmp_path / "own"))]
    fit(tmp_path, *loggers)
    assert list(Path(loggers[0].log_dir).glob("events.*"))
    for folder in (Path(loggers[1].log_dir), tmp_path / "own"):
        assert len(list((folder / "figures").iterdir())) == 6


def test_without_a_logger_a_table_is_printed(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        monitor = fit(tmp_path)
    (table,) = (r.message for r in caplog.records if r.message.startswith("Mutual information in bits"))
    assert f"{values(monitor)[-1]:.3f}" in table
    assert "ceiling I(X;Y) = " in table
    assert not (tmp_path / "figures").exists()


@pytest.mark.slow
def test_losses_are_kept_with_the_history(tmp_path):
    monitor = fit(tmp_path, CSVLogger(tmp_path))
    losses = monitor.history.metrics["train_loss"]
    assert list(losses) == [0, 1]
    assert all(0 < loss < 10 for loss in losses.values())


class Failing(Kept):
    """Its figures cannot be written."""

    @property
    def log_dir(self):
        raise OSError("disk full")


@pytest.mark.slow
def test_a_failing_logger_is_told_and_the_others_go_on(tmp_path, caplog):
    good = Kept(str(tmp_path / "good"))
    with pytest.warns(RuntimeWarning, match="OSError while giving mi/.* to Failing: disk full"):
        fit(tmp_path, Failing(), good)
    assert len(list((tmp_path / "good" / "figures").iterdir())) == 6
    log_figures([Failing(), good], {"mi/curves": a_history().plot()}, 9, None)
    assert "Failing could not log the figure 'mi/curves' at step 9: OSError('disk full')" in caplog.messages
    assert (tmp_path / "good" / "figures" / "mi_curves_step_00000009.png").exists()


class TensorBoardLogger_(TensorBoardLogger):
    """A subclass is found by the name of its base."""


def test_a_subclass_is_known_by_its_base(tmp_path):
    logger = TensorBoardLogger_(tmp_path, name="run")
    log_figures([logger], {"mi/curves": a_history().plot()}, 5, None)
    logger.experiment.flush()
    assert not (Path(logger.log_dir) / "figures").exists()


def test_the_dummy_logger_of_fast_dev_run_gets_nothing(tmp_path):
    from lightning.pytorch.loggers.logger import DummyLogger

    log_figures([DummyLogger()], {"mi/curves": a_history().plot()}, 5, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_logger_is_imported_that_the_trainer_does_not_have():
    code = (
        "import sys, mi_callback.callback, mi_callback.reporting as r; from tests.reporting.records import a_history;"
        "r.draw_figures(a_history()); r.log_figures([], {}, 0, None); r.log_layout([], {'mi_target': True});"
        "print(set(sys.modules) & {'wandb', 'mlflow', 'comet_ml', 'dvclive', 'swanlab', 'plotly', 'pandas',"
        "'torch.utils.tensorboard'})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
