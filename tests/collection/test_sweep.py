"""One pass gives X, Y and every layer aligned, and leaves the model as it was."""

from __future__ import annotations

from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mi_callback.collection import CollectionError, LightningHost, select_layers, sweep
from mi_callback.collection.reduction import SparseProjection
from tests.models import QUIET, Net, loader, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


class Probe(lightning.Callback):
    """Sweeps at the end of each epoch with the given options."""

    def __init__(self, layers=None, **options):
        self.layers, self.options, self.seen = layers, options, []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(
            sweep(LightningHost(trainer, pl_module), select_layers(pl_module, self.layers), **self.options)
        )


def collect(tmp_path, model, data, layers=None, options=None, **trainer_options):
    probe = Probe(layers, **(options or {}))
    trainer(tmp_path, probe, **trainer_options).fit(model, data)
    return probe.seen[-1]


class Plain(Net):
    """A network of one input whose training step copes with any batch."""

    def training_step(self, batch: Any, batch_idx: int):
        x = batch[0] if isinstance(batch, tuple | list) else batch
        return sum(p.sum() for p in self.parameters()) * 0 + x.float().sum() * 0


def test_rows_belong_together(tmp_path):
    """Evidence: each activation row is recomputed from its input row; the loader shuffles and drops its last batch."""
    model = Net()
    seen = collect(tmp_path, model, loader(drop_last=True), ["net.*"])
    x, y = pairs()
    np.testing.assert_array_equal(seen.inputs, x)
    np.testing.assert_array_equal(seen.targets[""], y)
    assert seen.n_samples == 60
    values = x
    with torch.no_grad():
        for i, module in enumerate(model.net):
            values = module(values)
            np.testing.assert_allclose(seen.layers[f"net.{i}"], values, atol=1e-6)
    np.testing.assert_array_equal(seen.layers["output"], seen.layers["net.4"])


def test_in_place_activations_do_not_overwrite_the_layer_before(tmp_path):
    model = Net(nn.Sequential(nn.Linear(2, 8), nn.ReLU(inplace=True), nn.Linear(8, 1)))
    seen = collect(tmp_path, model, loader(), ["net.*"])
    assert (seen.layers["net.0"] < 0).any()
    np.testing.assert_array_equal(np.maximum(seen.layers["net.0"], 0), seen.layers["net.1"])


class Shared(Plain):
    """One activation after two layers."""

    def __init__(self):
        super().__init__(nn.ModuleList([nn.Linear(2, 4), nn.Linear(4, 4)]))
        self.act = nn.Tanh()
        self.unused = nn.Sequential(nn.ReLU())

    def forward(self, x):
        return self.act(self.net[1](self.act(self.net[0](x))))


def test_a_module_that_fires_twice_gives_one_layer_a_call(tmp_path):
    model = Shared()
    seen = collect(tmp_path, model, loader())
    assert list(seen.layers) == ["act.call1", "act.call2", "output"]
    np.testing.assert_allclose(seen.layers["act.call1"], torch.tanh(model.net[0](pairs()[0])).detach(), atol=1e-6)
    np.testing.assert_array_equal(seen.layers["act.call2"], seen.layers["output"])
    assert seen.failures == {}, "an activation that the user did not name may stay silent"


def test_a_named_layer_that_never_fires_fails_by_itself(tmp_path):
    seen = collect(tmp_path, Shared(), loader(), ["unused.0", "act"])
    assert list(seen.failures) == ["unused.0"]
    assert "never fired" in str(seen.failures["unused.0"])
    assert list(seen.layers) == ["act.call1", "act.call2", "output"]
    seen = collect(tmp_path, Shared(), loader(), ["*"])
    assert seen.failures == {}, "a glob needs one of its modules to fire"


class Loop(Plain):
    """A cell that fires once a time step, more often for longer batches."""

    def __init__(self):
        super().__init__(nn.Linear(2, 2))

    def forward(self, x):
        for _ in range(1 + len(x) % 3 if len(x) < 16 else 1):
            x = self.net(x)
        return x


def test_a_module_that_fires_more_often_in_some_batches_fails(tmp_path):
    seen = collect(tmp_path, Loop(), DataLoader(TensorDataset(*pairs(21)), batch_size=16), ["net"])
    assert "fired" in str(seen.failures["net"])
    assert seen.layers["output"].shape == (21, 2)


class Recurrent(Plain):
    def __init__(self, batch_first):
        super().__init__(nn.LSTM(3, 5, batch_first=batch_first))
        self.batch_first = batch_first

    def forward(self, x):
        out, _ = self.net(x if self.batch_first else x.transpose(0, 1))
        return {"logits": out[:, -1] if self.batch_first else out[-1], "other": 3}


@pytest.mark.parametrize("batch_first", [True, False])
def test_tuple_and_dict_outputs_and_time_first_modules(tmp_path, batch_first):
    data = DataLoader(TensorDataset(torch.randn(20, 7, 3), torch.zeros(20, 5)), batch_size=7)
    seen = collect(tmp_path, Recurrent(batch_first), data, ["net"])
    assert seen.layers["net"].shape == (20, 35)
    assert seen.inputs.shape == (20, 21)
    np.testing.assert_array_equal(seen.layers["net"][:, -5:], seen.layers["output"])


class Folded(Plain):
    """Merges samples and positions before its layer."""

    def __init__(self):
        super().__init__(nn.Linear(3, 2))

    def forward(self, x):
        return self.net(x.reshape(-1, 3)).reshape(len(x), -1)


def test_a_layer_without_one_row_a_sample_fails_by_itself(tmp_path):
    data = DataLoader(TensorDataset(torch.randn(20, 7, 3), torch.zeros(20)), batch_size=7)
    seen = collect(tmp_path, Folded(), data, ["net"])
    assert "7 samples along dimension 0, got shape (49, 2)" in str(seen.failures["net"])
    assert seen.layers["output"].shape == (20, 14)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (torch.zeros(9, 2, dtype=torch.bfloat16), np.float32),
        (torch.zeros(9, 2, dtype=torch.float64), np.float64),
        (torch.zeros(9, 2, dtype=torch.uint8), np.uint8),
        (torch.zeros(9, dtype=torch.int32), np.int64),
        (torch.zeros(9, dtype=torch.bool), np.bool_),
    ],
)
def test_types(tmp_path, values, kept):
    data = DataLoader(TensorDataset(torch.randn(9, 2), values), batch_size=4)
    assert collect(tmp_path, Plain(), data).targets[""].dtype == kept


class Words(Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, i):
        return torch.randn(2), "a" * (1 + i)


def test_string_targets(tmp_path):
    seen = collect(tmp_path, Plain(), DataLoader(Words(), batch_size=2))
    assert seen.targets[""][:, 0].tolist() == ["a" * (1 + i) for i in range(9)]


def test_a_forward_that_takes_something_else_is_explained(tmp_path):
    data = DataLoader(TensorDataset(torch.randn(9, 2), torch.zeros(9, 1)), batch_size=4)
    with pytest.raises(
        CollectionError, match=r"^batch: .*batch_fn.*Plain.forward could not be called with .*'z': Tensor"
    ):
        collect(tmp_path, Plain(), data, options={"batch_fn": lambda batch: ({"z": batch[0]}, batch[1])})


class TakesAll(Plain):
    def forward(self, batch):
        return super().forward(batch["x"])

    def training_step(self, batch, batch_idx):
        return self(batch).sum()


def test_a_forward_that_takes_the_whole_batch(tmp_path):
    """On old code the advice named only tuples and keys."""
    x, y = torch.randn(9, 2), torch.zeros(9, 1)
    data = DataLoader([{"x": a, "y": b} for a, b in zip(x, y, strict=True)], batch_size=4)
    with pytest.raises(CollectionError, match=r"One that takes the whole batch: \(batch, batch\['y'\]\)"):
        collect(tmp_path, TakesAll(), data)
    seen = collect(tmp_path, TakesAll(), data, options={"batch_fn": lambda batch: (batch, batch["y"])})
    assert np.array_equal(seen.inputs, x.numpy())


class Formless(lightning.LightningModule):
    """Everything in the training step."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def test_a_model_without_forward_is_explained(tmp_path):
    with pytest.raises(CollectionError, match="Formless defines no forward"):
        collect(tmp_path, Formless(), loader())


class Growing(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return torch.zeros(2 + i // 2), torch.zeros(1)


class Mean(Plain):
    def forward(self, x):
        return x.mean(1, keepdim=True)


def test_inputs_of_varying_length_fail_by_themselves(tmp_path):
    seen = collect(tmp_path, Mean(), DataLoader(Growing(), batch_size=2), ["net"])
    assert str(seen.inputs_failure).startswith("inputs: the width varies: expected 2 values a sample")
    assert seen.inputs is None
    assert seen.layers["output"].shape == seen.targets[""].shape == (6, 1)


def test_max_samples_and_progress(tmp_path):
    calls = []
    options = {"max_samples": 25, "on_batch": lambda n, total: calls.append((n, total))}
    seen = collect(tmp_path, Net(), loader(), options=options)
    assert seen.n_samples == 25
    assert calls == [(16, 25), (25, 25)]
    assert len(seen.layers["net.1"]) == 25


def test_the_trainers_own_loader_and_hooks_are_not_used(tmp_path):
    """Hooks are there during the sweep only, and the loader of training is never iterated."""
    data = loader()
    model = Net()

    class Count(lightning.Callback):
        hooks, iterated = -1, 0

        def on_train_epoch_end(self, trainer, pl_module):
            iterate = type(data).__iter__
            type(data).__iter__ = lambda self: (
                setattr(Count, "iterated", Count.iterated + (self is data)) or iterate(self)
            )
            try:
                sweep(LightningHost(trainer, pl_module), select_layers(pl_module, None))
            finally:
                type(data).__iter__ = iterate
            Count.hooks = sum(len(module._forward_hooks) for module in pl_module.modules())

    trainer(tmp_path, Count()).fit(model, data)
    assert (Count.hooks, Count.iterated) == (0, 0)


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_x_and_y_are_not_rounded(tmp_path, precision):
    """Half precisions round what the model gets; X and Y are measured as the data set has them."""
    seen = collect(tmp_path, Net(), loader(), precision=precision)
    x, y = pairs()
    np.testing.assert_array_equal(seen.inputs, x)
    np.testing.assert_array_equal(seen.targets[""], y)


class Doubling(Net):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [2 * batch[0], batch[1]]


def test_what_a_hook_made_is_measured_as_it_is(tmp_path):
    seen = collect(tmp_path, Doubling(), loader(), precision="bf16-true")
    np.testing.assert_array_equal(seen.inputs, 2 * pairs()[0].bfloat16().float())
    np.testing.assert_array_equal(seen.targets[""], pairs()[1])


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8, "numpy"])
def test_inputs_too_wide_to_keep_are_reduced_as_layers_are(tmp_path, kind):
    """Evidence: the projection itself, and a layer that hands its input on."""

    class Wide(Plain):
        def forward(self, x):
            return self.net(x.flatten(1).float())

    x = torch.randint(0, 200, (20, 3, 40, 40), generator=torch.Generator().manual_seed(0))
    x = x if kind == "numpy" else x.to(kind)
    options = {} if kind != "numpy" else {"batch_fn": lambda b: (b[0], b[1], b[0].flatten(1).numpy())}
    model = Wide(nn.Sequential(nn.Identity(), nn.Linear(4_800, 1)))
    data = DataLoader(TensorDataset(x, torch.zeros(20, 1)), batch_size=8)
    seen = collect(tmp_path, model, data, ["net.0"], options)
    assert seen.inputs_reduction == seen.reductions["net.0"] == "sparse random projection 4800 -> 1024"
    np.testing.assert_allclose(seen.inputs, SparseProjection(4_800)(x.flatten(1)), rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(seen.inputs, seen.layers["net.0"])


def test_ids_and_inputs_that_can_be_kept_stay_as_they_are(tmp_path):
    """A sum of names means nothing: long texts are kept as ids, whose equal rows can be counted."""

    class Embedded(Plain):
        def forward(self, x):
            return self.net(x).mean(dim=(1, 2))[:, None]

    ids = torch.randint(0, 9, (6, 4_500), generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(ids, torch.zeros(6, 1)), batch_size=4)
    seen = collect(tmp_path, Embedded(nn.Embedding(9, 2)), data, ["net"])
    np.testing.assert_array_equal(seen.inputs, ids)
    assert seen.inputs_reduction is None
    assert collect(tmp_path, Net(), loader()).inputs_reduction is None
