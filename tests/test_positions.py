"""Positions of layers and targets, through the real callback, on data whose information is known."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mi_callback import MutualInformationMonitor, mutual_information
from tests.models import QUIET, Dicts, Idle, one_epoch

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


class Tokens(Idle):
    """Gives back its tokens, and their sum over all, padding too."""

    def __init__(self):
        super().__init__(nn.Identity())

    def forward(self, x, attention_mask=None):
        return self.net(x).sum(dim=1)


def run(path, model, data, **options):
    """Rows of one epoch by layer and quantity, and the trainer."""
    defaults = {"n_permutations": 20, "quantities": ("target",), "space": "scores", "layers": "net"}
    return one_epoch(path, MutualInformationMonitor(**(defaults | options)), model, data)


def noise(n, seed):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def bits(noise_std):
    """I(S; S + noise) of a Gaussian S of unit variance."""
    return 0.5 * np.log2(1 + 1 / noise_std**2)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("choice", ["mean", "first", "last"])
def test_pooling_honours_the_attention_mask(tmp_path, choice, side):
    """Evidence: what is read is what the signal itself gives, near its closed form. Padding of any size is not read."""
    n, length, kept = 500, 6, 3
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(n, length, 1, generator=generator)
    mask = torch.zeros(n, length, dtype=torch.long)
    mask[:, slice(length - kept, None) if side == "left" else slice(kept)] = 1
    x[mask == 0] = 30 * x[mask == 0]
    tokens = x[mask == 1].reshape(n, kept)
    signal = {"mean": tokens.mean(dim=1) * kept**0.5, "first": tokens[:, 0], "last": tokens[:, -1]}[choice]
    y = signal + 0.5 * noise(n, 12)
    data = DataLoader(Dicts(x=x, attention_mask=mask, y=y), batch_size=100)
    rows, _ = run(tmp_path, Tokens(), data, positions=choice)
    row = rows["net", "target"]
    alone = mutual_information(signal.numpy(), y.numpy(), space="scores", n_permutations=20)
    assert row["mi"] == pytest.approx(alone.mi, abs=1e-4)
    assert row["mi"] == pytest.approx(bits(0.5), abs=3 * row["stderr"])
    assert choice in row["reduction"]
    assert row["space"].startswith(row["reduction"])
    assert rows["output", "target"]["mi"] < 0.2, "padding drowns the sum"


def test_maps_are_averaged_over_their_pixels_behind_a_convolution_and_its_activation(tmp_path):
    """Evidence: closed form. The mean over channels, the wrong axis, holds the sum of two independent maps."""
    n = 500
    x = torch.randn(n, 2, 4, 4, generator=torch.Generator().manual_seed(21))
    x = x + 3 * noise(2 * n, 22).reshape(n, 2, 1, 1)
    means = x.mean(dim=(2, 3))
    y = means[:, 0] / means[:, 0].std() + 0.5 * noise(n, 23)
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.LeakyReLU(1.0), nn.Flatten(), nn.Linear(32, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2)[:, :, None, None])
    rows, _ = run(
        tmp_path,
        Idle(net),
        DataLoader(TensorDataset(x, y), batch_size=100),
        layers="net.1",
        positions={"net.1": "mean", "output": "flatten"},
        space="auto",
    )
    assert rows["net.1", "target"]["mi"] == pytest.approx(bits(0.5), abs=0.2)
    assert rows["output", "target"]["reduction"] is None


def tagged(n=600, length=5, seed=31):
    """Tokens (n, l, 2), alike within a sequence, and a label of each, -100 for six in ten and for padding."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, length, 2, generator=generator) + 2 * torch.randn(n, 1, 2, generator=generator)
    right = torch.rand(n, length, generator=generator) > 0.1
    labels = torch.where(right, (x[..., 0] > 0).long(), (x[..., 0] <= 0).long())
    labels[torch.rand(n, length, generator=generator) < 0.6] = -100
    labels[:, -1] = -100
    x[:, -1] = 99.0
    return x, labels


def test_each_token_goes_with_its_own_target(tmp_path):
    """Evidence: a binary symmetric channel, 1 - H(.1) bits. Sequences without any label are left out."""
    x, labels = tagged()
    rows, run_ = run(tmp_path, Tokens(), DataLoader(TensorDataset(x, labels), batch_size=100), positions="each")
    row = rows["net", "target"]
    assert row["mi"] == pytest.approx(0.531, abs=0.1)
    assert row["n_samples"] == (labels != -100).any(dim=1).sum() < 600
    assert row["estimator"] == "ross"
    assert row["reduction"] == "one position each"
    assert rows["net", "usable"]["mi"] == pytest.approx(0.531, abs=0.15)
    assert run_.callback_metrics["mi_target/net"] == pytest.approx(row["mi"])


def test_each_pixel_goes_with_its_own_target_at_every_resolution(tmp_path):
    """Evidence: a binary symmetric channel; the coarser layer holds the same, since labels come in blocks of pixels."""
    generator = torch.Generator().manual_seed(41)
    coarse = torch.randn(500, 1, 4, 4, generator=generator)
    x = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    right = torch.rand(500, 8, 8, generator=generator) > 0.1
    labels = torch.where(right, (x[:, 0] > 0).long(), (x[:, 0] <= 0).long())
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    rows, _ = run(
        tmp_path,
        Idle(net),
        DataLoader(TensorDataset(x, labels), batch_size=100),
        layers=["net.0", "net.1", "net.2"],
        positions="each",
    )
    for layer in ("net.0", "net.1", "net.2"):
        assert rows[layer, "target"]["mi"] == pytest.approx(0.531, abs=0.1)
        assert rows[layer, "target"]["n_samples"] == 500


def test_the_null_of_each_is_exact_where_neighbours_are_alike(tmp_path):
    """Evidence: independence. All tokens as samples would find a third of a bit and more between the two."""
    n, length = 100, 10
    generator = torch.Generator().manual_seed(51)
    x = torch.randn(n, 1, 2, generator=generator) + 0.1 * torch.randn(n, length, 2, generator=generator)
    p_values = []
    for seed in range(12):
        y = torch.randn(n, 1, generator=torch.Generator().manual_seed(100 + seed)).expand(n, length).contiguous()
        data = DataLoader(TensorDataset(x, y), batch_size=50)
        rows, _ = run(tmp_path, Tokens(), data, positions="each", seed=seed)
        assert rows["net", "target"]["n_samples"] == n
        p_values.append(rows["net", "target"]["p_value"])
    assert sum(p <= 1 / 21 for p in p_values) <= 2, "one in twelve is expected at a level of .05"
    assert np.mean(p_values) > 0.3
    free = mutual_information(
        x.reshape(-1, 2).numpy(), y.reshape(-1).numpy(), space="scores", n_permutations=20, discrete=False
    )
    assert free.mi > 0.3
    assert free.p_value == pytest.approx(1 / 21)


def test_token_ids_are_measured_against_the_layer_at_the_same_token(tmp_path):
    """Evidence: exact. An embedding tells its token, H(X) = 2 bits; one that merges two of four leaves 1.5."""
    ids = torch.randint(0, 4, (800, 7), generator=torch.Generator().manual_seed(61))

    class Embedded(Idle):
        def __init__(self):
            super().__init__(nn.Embedding(4, 3))
            self.merged = nn.Embedding(4, 3)
            with torch.no_grad():
                self.merged.weight[1] = self.merged.weight[0]

        def forward(self, x):
            return self.net(x), self.merged(x)

    rows, _ = run(
        tmp_path,
        Embedded(),
        DataLoader(TensorDataset(ids, ids.sum(dim=1)), batch_size=100),
        layers=["net", "merged"],
        quantities=("target", "input"),
        positions="each",
    )
    assert rows["net", "input"]["mi"] == pytest.approx(2.0, abs=0.05)
    assert rows["merged", "input"]["mi"] == pytest.approx(1.5, abs=0.1)
    assert rows["net", "input"]["estimator"] == "ross"
    assert not {"deterministic", "below_target", "data_processing"} & set(rows["net", "input"]["flags"])


class Ragged(Dataset):
    """Sequences whose length differs between batches of twenty, 4 and 6."""

    def __init__(self, n=200, seed=71):
        generator = torch.Generator().manual_seed(seed)
        self.x = [torch.randn(4 + 2 * (i // 20 % 2), 2, generator=generator) for i in range(n)]
        self.y = [x[:, 0].mean() * len(x) ** 0.5 + 0.5 * torch.randn((), generator=generator) for x in self.x]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Scaled(Idle):
    """The tokens, and their scaled mean."""

    def __init__(self):
        super().__init__(nn.Identity())

    def forward(self, x):
        return self.net(x).mean(dim=1) * x.shape[1] ** 0.5


def test_a_layer_of_varying_width_fails_alone_and_so_does_x(tmp_path):
    """Evidence: closed form for the output; on old code the whole measurement failed, and named no argument."""
    data = DataLoader(Ragged(), batch_size=20)
    with pytest.warns(RuntimeWarning) as caught:
        rows, _ = run(tmp_path, Scaled(), data, quantities=("target", "input"))
    assert rows["output", "target"]["mi"] == pytest.approx(bits(0.5), abs=0.25)
    assert np.isnan([rows["net", "target"]["mi"], rows["output", "input"]["mi"]]).all()
    told = [str(w.message) for w in caught if "failed in part" in str(w.message)]
    assert len(told) == 2
    assert any(
        "layer net): " in t and "expected 8 values" in t and "got 12" in t and "positions='mean'" in t for t in told
    )
    assert any("inputs: the width varies" in t and "quantities=('target',)" in t for t in told)
    rows, _ = run(tmp_path, Scaled(), data, positions="mean")
    assert np.isfinite(rows["net", "target"]["mi"])


def test_targets_of_varying_length_are_measured_token_by_token(tmp_path):
    """Evidence: a binary symmetric channel; flattened they cannot be kept, and the message says what to do."""

    class Labelled(Ragged):
        def __getitem__(self, i):
            flips = torch.rand(len(self.x[i]), generator=torch.Generator().manual_seed(int(i))) < 0.1
            return self.x[i], ((self.x[i][:, 0] > 0) ^ flips).long()

    data = DataLoader(Labelled(600), batch_size=20)
    rows, _ = run(tmp_path, Tokens(), data, positions="each")
    assert rows["net", "target"]["mi"] == pytest.approx(0.531, abs=0.12)
    with pytest.warns(RuntimeWarning, match=r"targets: the width varies.*positions='each'"):
        rows, _ = run(tmp_path, Scaled(), data, positions="mean")
    assert np.isnan(rows["net", "target"]["mi"])


def test_pooled_layers_do_not_bound_later_ones(tmp_path):
    """Evidence: by construction. The first token alone knows nothing of y, the sum of all nearly everything."""
    generator = torch.Generator().manual_seed(81)
    x = torch.randn(400, 5, 1, generator=generator)
    y = x[:, 1:].sum(dim=(1, 2)) + 0.2 * torch.randn(400, generator=generator)
    data = DataLoader(TensorDataset(x, y), batch_size=100)
    rows, _ = run(tmp_path, Tokens(), data, positions="first")
    assert rows["net", "target"]["mi"] < 0.15 < 0.5 < rows["output", "target"]["mi"]
    assert "data_processing" not in rows["output", "target"]["flags"]


@pytest.mark.parametrize("positions", ["max", {}, {"net": "max"}, {"net": {"a": "mean"}}, 3, None])
def test_unknown_choices_are_refused(positions):
    with pytest.raises(lightning.fabric.utilities.exceptions.MisconfigurationException, match=r"positions=.*'each'"):
        MutualInformationMonitor(positions=positions)
