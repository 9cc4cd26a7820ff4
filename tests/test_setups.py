"""The other ways of starting a training: LightningCLI, YAML, flags, and a trainer of pytorch_lightning."""

from __future__ import annotations

import pytest
import torch

from mi_callback import MutualInformationMonitor
from tests.models import QUIET, Net, loader

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]

TRAINER = """
trainer:
  accelerator: cpu
  max_epochs: 2
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: mi_callback.MutualInformationMonitor
      init_args:
"""

SETTINGS = {
    "list": ("layers: ['net.*']\nquantities: [target]\nspace: scores\nn_permutations: 2", ["net.0", "net.1", "net.2"]),
    "dict": ("layers: {net.1: hidden}\nevery_n_epochs: 2\nspace: scores\nn_permutations: 2", ["hidden", "output"]),
    "function": (
        "batch_fn: tests.test_setups.take\nnoise_std: [0.1, 0.2]\nspace: scores\nn_permutations: 2",
        ["net.1", "net.3", "output"],
    ),
}


class Configured(Net):
    """A model that makes its own loader."""

    def train_dataloader(self):
        return loader()


def take(batch):
    """A batch_fn that a configuration can name."""
    return batch


def run_cli(path, monkeypatch, arguments):
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.chdir(path)
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    return LightningCLI(Configured, save_config_callback=None, seed_everything_default=0)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_yaml(tmp_path, monkeypatch, name):
    text, layers = SETTINGS[name]
    config = tmp_path / "config.yaml"
    config.write_text(TRAINER + "".join(f"        {line}\n" for line in text.splitlines()))
    cli = run_cli(tmp_path, monkeypatch, ["fit", "--config", str(config)])
    (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, MutualInformationMonitor)]
    rows = callback.history.to_rows()
    assert list(dict.fromkeys(r["layer"] for r in rows))[: len(layers)] == layers


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_flags(tmp_path, monkeypatch):
    arguments = [
        "fit",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.callbacks+=mi_callback.MutualInformationMonitor",
        "--trainer.callbacks.layers=[net.1]",
        "--trainer.callbacks.n_permutations=2",
        "--trainer.callbacks.max_samples=30",
        "--trainer.callbacks.unit=nats",
        "--trainer.callbacks.discrete_target=false",
        "--trainer.callbacks.space=scores",
    ]
    cli = run_cli(tmp_path, monkeypatch, arguments)
    (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, MutualInformationMonitor)]
    rows = callback.history.to_rows()
    assert {r["unit"] for r in rows} == {"nats"}
    assert {r["n_samples"] for r in rows} == {30}


def test_a_trainer_of_pytorch_lightning(tmp_path):
    """A model of pytorch_lightning in its own trainer, with the callback from here; scalars can be monitored."""
    other = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.callbacks import EarlyStopping
    from pytorch_lightning.loggers import CSVLogger

    class Other(other.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net().net

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.mse_loss(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-2)

    callback = MutualInformationMonitor(n_permutations=2, space="scores")
    stop = EarlyStopping("mi_target/output", mode="max", patience=1, min_delta=100.0, check_on_train_epoch_end=True)
    run = other.Trainer(
        max_epochs=5,
        accelerator="cpu",
        callbacks=[callback, stop],
        logger=CSVLogger(tmp_path, "run"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    run.fit(Other(), loader())
    assert {r["epoch"] for r in callback.history.to_rows()} == {0, 1}
    assert {r["layer"] for r in callback.history.to_rows()} == {"net.1", "net.3", "output"}
    assert list(tmp_path.rglob("*.png"))
    assert "mi_target/net.1" in next(tmp_path.rglob("metrics.csv")).read_text()
