"""Hugging Face's Trainer: values and figures where report_to says, and training as it was to the last bit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

transformers = pytest.importorskip("transformers")

from mi_callback import History, MutualInformationMonitor, measure  # noqa: E402
from mi_callback.collection import CollectionError  # noqa: E402
from mi_callback.integrations.transformers import MutualInformationCallback  # noqa: E402
from tests.models import pairs  # noqa: E402

PLAIN = {"n_permutations": 3, "space": "scores"}


class Rows(Dataset):
    """Samples as Trainer takes them."""

    def __init__(self, n=64, seed=0):
        self.x, self.y = pairs(n, seed=seed)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": self.y[i]}


class Regression(nn.Module):
    """What Trainer asks of a model: a dict with the loss, if labels are given. Dropout and batch norm leave traces."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
        )

    def forward(self, x, labels=None):
        logits = self.net(x)
        loss = {} if labels is None else {"loss": nn.functional.mse_loss(logits, labels)}
        return {**loss, "logits": logits}


def trainer(path, *callbacks, model=None, eval_dataset=None, **options):
    defaults = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "epoch",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
    }
    args = transformers.TrainingArguments(str(path), **(defaults | options))
    torch.manual_seed(0)
    return transformers.Trainer(
        model or Regression(), args, train_dataset=Rows(), eval_dataset=eval_dataset, callbacks=list(callbacks)
    )


def callback(**options):
    return MutualInformationCallback(**(PLAIN | options))


@pytest.mark.slow
def test_training_is_the_same_to_the_last_bit(tmp_path):
    """Evidence: weights, optimiser, random numbers and what Trainer has logged, with and without the callback."""

    def train(path, *callbacks):
        run = trainer(path, *callbacks, eval_dataset=Rows(24, seed=1), eval_strategy="epoch", num_train_epochs=3)
        run.train()
        slow = ("runtime", "per_second")
        logged = [
            {k: v for k, v in line.items() if not any(s in k for s in slow)}
            for line in run.state.log_history
            if not any("mi_" in key for key in line)
        ]
        return run, logged, torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002

    watched = callback(data=("train", "val"), on_error="raise")
    (one, logged, *states), (other, without, *alone) = train(tmp_path / "a", watched), train(tmp_path / "b")
    assert watched.history.data == ["train", "val"]
    assert watched.history.epochs == [0, 1, 2]
    for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for key, state in one.optimizer.state_dict()["state"].items():
        assert all(
            torch.equal(value, other.optimizer.state_dict()["state"][key][name]) for name, value in state.items()
        )
    assert logged == without
    assert torch.equal(states[0], alone[0])
    assert states[1] == alone[1]
    assert np.array_equal(states[2][1], alone[2][1])
    assert watched.history.metrics.keys() == {"loss", "eval_loss"}


@pytest.mark.slow
def test_values_and_figures_go_to_tensorboard(tmp_path, monkeypatch):
    """Evidence: TensorBoard's own reader, on the one event file that Trainer writes; the model measured by itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    watched = callback(data=("train", "val"), name="mine")
    run = trainer(tmp_path, watched, report_to="tensorboard", eval_dataset={"near": Rows(24, 1), "far": Rows(20, 2)})
    run.train()
    assert len(list((tmp_path / "logs").glob("events*"))) == 1
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    rows = {(r["data"], r["epoch"], r["layer"], r["quantity"]): r["mi"] for r in watched.history.to_rows()}
    for data, part in (("train", ""), ("val_near", "_val_near"), ("val_far", "_val_far")):
        logged = events.Scalars(f"train/mine/mi_target{part}/net.5")
        assert [e.step for e in logged] == [4, 8]
        np.testing.assert_allclose([e.value for e in logged], [rows[data, e, "net.5", "target"] for e in (0, 1)], 1e-5)
    assert [image.step for image in events.Images("mine/mi/curves")] == [4, 8]
    assert len(events.Scalars("train/loss")) == 2
    alone = measure(run.model, DataLoader(Rows(), batch_size=16), **PLAIN)
    for row in alone.to_rows():
        assert rows["train", 1, row["layer"], row["quantity"]] == pytest.approx(row["mi"], abs=1e-5)
    assert any("mine/mi_target/output" in line for line in run.state.log_history)


def test_a_language_model_of_transformers(tmp_path):
    """Token ids have no distances; the classes' information is measured in every block, and the mask is passed on."""

    class Texts(Dataset):
        def __init__(self):
            source = torch.Generator().manual_seed(0)
            self.ids = torch.randint(5, 30, (60, 6), generator=source)

        def __len__(self):
            return 60

        def __getitem__(self, i):
            ids = self.ids[i]
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[0] % 2}

    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=2
    )
    torch.manual_seed(0)
    watched = callback(quantities=("target",))
    run = trainer(tmp_path, watched, model=transformers.BertForSequenceClassification(config), num_train_epochs=1)
    run.train_dataset = Texts()
    run.train()
    assert watched.history.layers[-1] == "output"
    assert len(watched.history.layers) > 1
    assert all(np.isfinite(row["mi"]) for row in watched.history.to_rows())


def test_training_resumes_with_its_history(tmp_path):
    whole = callback()
    trainer(tmp_path, whole, save_strategy="epoch").train()
    assert json.loads((tmp_path / "checkpoint-4" / "mi_history.json").read_text())["columns"]["epoch"] == [0] * 9
    second = callback()
    trainer(tmp_path, second).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert repr(second.history.to_rows()) == repr(whole.history.to_rows())
    assert History.load(tmp_path / "checkpoint-8" / "mi_history.json").epochs == [0, 1]


def test_faults_are_errors_before_training(tmp_path):
    wrong = DataLoader(TensorDataset(torch.randn(20, 7), torch.randn(20, 1)), batch_size=10)
    for options, message in (
        ({"data": "val"}, "this Trainer has no eval_dataset"),
        ({"layers": ["nothing"]}, "no module 'nothing'"),
        ({"data": {"test": wrong}}, "data 'test': the model could not be run"),
    ):
        run = trainer(tmp_path, callback(**options))
        with pytest.raises(CollectionError, match=message):
            run.train()
        assert run.state.global_step == 0
    with pytest.raises(ValueError, match="k: expected"):
        callback(k=0)
    with pytest.raises(ValueError, match="data='test'"):
        callback(data="test")
    with pytest.raises(CollectionError, match=r"expected to be called by a transformers.Trainer.*measure"):
        callback().on_train_begin(None, transformers.TrainerState(), None)


def test_the_arguments_are_those_of_the_monitor():
    import inspect

    ours, theirs = (inspect.signature(one).parameters for one in (MutualInformationCallback, MutualInformationMonitor))
    assert list(ours.values()) == list(theirs.values())


SCRIPT = """
import json, sys
from pathlib import Path
from tests.integrations.test_transformers import Rows, callback, trainer
path = Path(sys.argv[1])
watched = callback(data=("train", "val"), on_error="raise")
run = trainer(path, watched, eval_dataset=Rows(25, seed=1), num_train_epochs=1, learning_rate=0.0)
run.train()
(path / f"{run.args.process_index}.json").write_text(json.dumps([run.args.world_size, watched.history.to_rows()]))
"""


@pytest.mark.slow
def test_two_processes_share_the_samples(tmp_path):
    """64 and 25 samples, uneven shards: each once, and the same values on both processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    given = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        runs = []
        for rank in ("0", "1"):
            said = stack.enter_context((tmp_path / f"{rank}.txt").open("w"))
            own = {"RANK": rank, "LOCAL_RANK": rank}
            command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
            runs.append(subprocess.Popen(command, env=os.environ | given | own, stdout=said, stderr=said))
            stack.callback(runs[-1].kill)
        for rank, run in enumerate(runs):
            assert run.wait(timeout=200) == 0, (tmp_path / f"{rank}.txt").read_text()[-2000:]
    (worlds, first), (_, second) = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert worlds == 2
    assert repr(first) == repr(second)
    assert {(r["data"], r["n_samples"]) for r in first} == {("train", 64), ("val", 25)}
    assert all(np.isfinite(r["mi"]) for r in first)
