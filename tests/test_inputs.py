"""What batches hold and what X and Y are taken for, through the real callback as a newcomer would run it."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import torch
from scipy.special import comb
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mi_callback import MutualInformationMonitor
from mi_callback.collection.samples import Share, subset
from tests import models
from tests.ground_truth import information_of_rounded
from tests.models import QUIET, Dicts, Net, loader, one_epoch

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


def run(path, model, data, **options):
    """Rows of one epoch by layer and quantity."""
    monitor = MutualInformationMonitor(**({"n_permutations": 0, "quantities": ("target",)} | options))
    return one_epoch(path, monitor, model, data)[0]


class Idle(models.Idle):
    """Trains on nothing, and takes integers too."""

    def forward(self, x):
        return self.net(x.float())


class Masked(Idle):
    """Adds up the inputs that are not masked."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, mask=None):
        return self.net((x if mask is None else x * mask).sum(dim=1, keepdim=True))


def information_of_masked_sum(d: int, noise: float) -> float:
    """I(S; S + noise E) in bits, S the sum of those of d standard Gaussians that a fair mask lets through."""
    y = np.linspace(-25, 25, 200_001)
    variance = np.arange(d + 1) + noise**2
    p = (comb(d, np.arange(d + 1)) / 2**d / np.sqrt(2 * np.pi * variance)) @ np.exp(-(y**2) / 2 / variance[:, None])
    h = -(p * np.log(np.maximum(p, 1e-300))).sum() * (y[1] - y[0])
    return float((h - 0.5 * np.log(2 * np.pi * np.e * noise**2)) / np.log(2))


def test_a_mask_in_a_dict_batch_reaches_the_model(tmp_path):
    """Evidence: quadrature of the mixture of Gaussians. Without the mask less than half of it is read."""
    generator = torch.Generator().manual_seed(41)
    x = torch.randn(1000, 6, generator=generator)
    mask = torch.rand(1000, 6, generator=generator) < 0.5
    y = (x * mask).sum(dim=1) + 0.6 * torch.randn(1000, generator=generator)
    truth = information_of_masked_sum(6, 0.6)
    rows = run(tmp_path, Masked(), DataLoader(Dicts(x=x, mask=mask, y=y), batch_size=100))
    assert rows["output", "target"]["mi"] == pytest.approx(truth, abs=0.15)
    with pytest.warns(UserWarning, match="'weight' of the batch are left out.*batch_fn") as caught:
        rows = run(tmp_path, Masked(), DataLoader(Dicts(x=x, weight=mask, y=y), batch_size=100))
    assert sum("left out" in str(warning.message) for warning in caught) == 1
    assert rows["output", "target"]["mi"] < truth / 2


def ages(n, *, seed=43, least=None):
    """Inputs (n, 4) and an age that one direction of them tells in part."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    y = np.floor(12 * (x.sum(axis=1) / 2 + 0.4 * rng.standard_normal(n))).astype(int) + 40
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y if least is None else y - y.min() + least)


def test_an_integer_target_with_many_values_is_a_number(tmp_path, caplog):
    """Evidence: quadrature; half of it would be lost to classes, and a ridge reads next to all of it."""
    data = DataLoader(TensorDataset(*ages(600)), batch_size=100)
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        rows = run(tmp_path, Idle(nn.Sequential(nn.Linear(4, 4), nn.Identity())), data, layers="net.0")
    truth = information_of_rounded(12, 0.4)
    assert rows["net.0", "target"]["mi"] == pytest.approx(truth, abs=0.25)
    assert rows["net.0", "usable"]["mi"] > truth - 0.3
    told = [r.getMessage() for r in caplog.records if "takes the targets as numbers" in r.getMessage()]
    assert len(told) == 1
    assert "discrete_target=True" in told[0]
    rows = run(tmp_path, Idle(nn.Linear(4, 4)), data, layers="net", discrete_target=True)
    assert rows["net", "target"]["estimator"] == "ross"


def test_integers_that_might_be_classes_are_warned_of_once(tmp_path):
    x, _ = ages(300)
    y = torch.randint(0, 40, (300,), generator=torch.Generator().manual_seed(7))
    y[:60] = 3
    with pytest.warns(UserWarning, match=r"takes the targets as numbers.*discrete_target=True") as caught:
        run(tmp_path, Idle(nn.Linear(4, 4)), DataLoader(TensorDataset(x, y), batch_size=50), space="scores")
    assert sum("takes the targets" in str(warning.message) for warning in caught) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_labels_are_classes_whatever_their_type(tmp_path, dtype):
    y = torch.arange(120) % 2
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(1)) + y[:, None]
    data = DataLoader(TensorDataset(x, y.to(dtype)), batch_size=50)
    rows = run(tmp_path, Idle(nn.Linear(4, 4)), data, space="scores")
    assert rows["output", "target"]["estimator"] == "ross"
    assert rows["output", "usable"]["estimator"] == "logistic"


class First(nn.Module):
    """The first four inputs, through a layer that can be trained."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return torch.tanh(self.scale * x[:, :4])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float32, torch.bool])
def test_inputs_that_are_all_listed_are_counted(tmp_path, dtype):
    """Evidence: exact. A one-to-one map of four fair bits holds H(T) = 4 bits of the eight of X."""
    x = torch.tensor(list(itertools.product([0, 1], repeat=8)), dtype=dtype)
    data = DataLoader(TensorDataset(x, x.sum(dim=1) % 2), batch_size=50)
    rows = run(tmp_path, Idle(First()), data, quantities=("target", "input"))
    assert rows["output", "input"]["estimator"] == "counting"
    assert rows["output", "input"]["mi"] == pytest.approx(4, abs=1e-12)


def test_the_integer_columns_of_a_table_are_numbers(tmp_path, caplog):
    """Evidence: they are measured as the same values in floats are."""
    rng = np.random.default_rng(11)
    x = torch.tensor(np.column_stack([rng.integers(18, 90, 200), rng.integers(0, 2000, 200)]))
    measured, model = {}, Idle(nn.Linear(2, 2))
    for dtype in (torch.int64, torch.float64):
        data = DataLoader(TensorDataset(x.to(dtype), x[:, :1].float()), batch_size=50)
        with caplog.at_level(logging.INFO, "lightning.pytorch"):
            rows = run(tmp_path, model, data, quantities=("target", "input"), space="scores")
        measured[dtype] = rows["output", "input"]["mi"]
    assert measured[torch.int64] == measured[torch.float64]
    assert sum("takes the inputs as numbers" in r.getMessage() for r in caplog.records) == 1


class Recurrent(Net):
    def __init__(self):
        super().__init__(nn.GRU(2, 5, batch_first=True))
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        return self.head(self.net(x[:, None])[0][:, -1])


class Functional(Net):
    def __init__(self):
        super().__init__(nn.Linear(2, 5))
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        return self.head(torch.relu(self.net(x)))


@pytest.mark.parametrize(("model", "layers"), [(Recurrent, ["net", "output"]), (Functional, ["net", "head", "output"])])
def test_models_without_activation_modules_are_measured_at_their_layers(tmp_path, caplog, model, layers):
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        rows = run(tmp_path, model(), loader(), space="scores")
    assert list(dict.fromkeys(layer for layer, _ in rows)) == layers
    told = [r.getMessage() for r in caplog.records if "is measured at" in r.getMessage()]
    assert len(told) == 1
    assert f"{', '.join(layers)}. layers=" in told[0]


def test_the_subset_is_not_drawn_from_the_users_own_stream():
    """Data that somebody made or sorted by ``default_rng(seed)`` must not meet the same numbers again."""
    chosen = subset(np.arange(100), Share(30, 0, 0, 1))
    assert not np.array_equal(chosen, np.sort(np.random.default_rng(0).choice(100, 30, replace=False)))


class Contrastive(Idle):
    """Takes one view."""

    def __init__(self):
        super().__init__(nn.Linear(4, 4))


def views(n=300):
    """Two views of inputs and a label of them."""
    generator = torch.Generator().manual_seed(71)
    x = torch.randn(n, 4, generator=generator)
    other = x + 0.1 * torch.randn(n, 4, generator=generator)
    return x, other, (x[:, 0] > 0).long()


class Paired(Dataset):
    """((view, view), label) a sample."""

    def __len__(self):
        return 300

    def __getitem__(self, i):
        x, other, y = views()
        return (x[i], other[i]), y[i]


def test_a_second_view_is_not_taken_as_the_target_without_a_word(tmp_path):
    x, other, _ = views()
    with pytest.warns(
        UserWarning, match=r"second of two tensors of shape \(100, 4\) as the target Y.*batch_fn"
    ) as caught:
        rows = run(tmp_path, Contrastive(), DataLoader(TensorDataset(x, other), batch_size=100), space="scores")
    assert sum("second of two" in str(w.message) for w in caught) == 1
    data = DataLoader(TensorDataset(x, other), batch_size=100)
    only_x = {"batch_fn": lambda batch: (batch[0], None), "quantities": ("input",)}
    rows = run(tmp_path, Contrastive(), data, space="scores", **only_x)
    assert {quantity for _, quantity in rows} == {"input"}


def test_of_two_views_and_a_label_the_first_view_is_x(tmp_path):
    """Evidence: the label is a bit of x, exactly, and a classifier of the first view reads all of it."""
    data = DataLoader(Paired(), batch_size=100)
    with pytest.warns(UserWarning, match="first of 2 tensors of one shape as the input X, since forward takes one"):
        rows = run(tmp_path, Contrastive(), data, quantities=("target", "input"))
    assert rows["output", "target"]["estimator"] in ("ross", "logistic")  # not "ksg": classes, whichever reads more
    assert rows["output", "usable"]["mi"] > 0.7


class Siamese(Idle):
    def __init__(self):
        super().__init__(nn.Linear(4, 4))

    def forward(self, a, b):
        return self.net(a) - self.net(b)


def test_as_many_parts_as_forward_requires_are_inputs(tmp_path):
    """Evidence: the difference of the two inputs tells the target up to noise: 1.16 bits a closed form."""
    generator = torch.Generator().manual_seed(73)
    a, b = torch.randn(2, 500, 4, generator=generator)
    model = Siamese()
    with torch.no_grad():
        y = (a - b)[:, 0] / 2**0.5 + 0.5 * torch.randn(500, generator=generator)
        model.net.weight.copy_(torch.eye(4))
    with pytest.warns(UserWarning, match="first 2 parts of the batch as inputs.*and the last as the target"):
        rows = run(tmp_path, model, DataLoader(TensorDataset(a, b, y), batch_size=100))
    assert rows["output", "target"]["mi"] == pytest.approx(0.5 * np.log2(5), abs=0.25)
    with pytest.warns(UserWarning, match="all 2 parts of the batch as inputs.*no target"):
        rows = run(
            tmp_path, model, DataLoader(TensorDataset(a, b), batch_size=100), quantities=("input",), space="scores"
        )
    assert {quantity for _, quantity in rows} == {"input"}


class Noisy(Idle):
    """Forty inputs of which one matters, and a layer of that one."""

    def __init__(self):
        super().__init__(nn.Linear(40, 1, bias=False))
        with torch.no_grad():
            self.net.weight.zero_()[0, 0] = 1


def test_what_a_layer_holds_on_the_input_is_flagged_where_it_lies_below_what_it_holds_on_the_target(tmp_path):
    """Evidence: T is the first input and Y nearly the same, so I(X;T) is infinite and above I(T;Y) = 3.3 bits."""
    generator = torch.Generator().manual_seed(79)
    x = torch.randn(500, 40, generator=generator)
    y = x[:, 0] + 0.1 * torch.randn(500, generator=generator)
    data = DataLoader(TensorDataset(x, y), batch_size=100)
    options = {"quantities": ("target", "input"), "layers": "net", "n_permutations": 20}
    rows = run(tmp_path, Noisy(), data, **options)
    assert rows["net", "target"]["mi"] > rows["net", "input"]["mi"] + 1
    assert "below_target" in rows["net", "input"]["flags"]
    data = DataLoader(TensorDataset(x, y), batch_size=100)
    rows = run(tmp_path, Noisy(), data, batch_fn=lambda batch: (batch[0], batch[1], batch[0][:, :1]), **options)
    assert "below_target" not in rows["net", "input"]["flags"]


class Embedded(Idle):
    """Token ids beside a mask."""

    def __init__(self):
        super().__init__(nn.Embedding(50, 4))

    def forward(self, input_ids, attention_mask):
        return (self.net(input_ids) * attention_mask[..., None]).mean(dim=1)


@pytest.mark.parametrize(
    "batch_fn",
    [
        None,
        lambda batch: ({"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}, batch["y"]),
        lambda batch: ((batch["input_ids"], batch["attention_mask"]), batch["y"]),
    ],
)
def test_token_ids_beside_a_mask_have_no_metric(tmp_path, batch_fn):
    generator = torch.Generator().manual_seed(83)
    ids = torch.randint(0, 50, (200, 6), generator=generator)
    mask = (torch.rand(200, 6, generator=generator) < 0.7).long()
    data = DataLoader(Dicts(input_ids=ids, attention_mask=mask, y=(ids[:, 0] < 25).long()), batch_size=50)
    with pytest.warns(UserWarning, match=r"I\(X;T\) is not measured.*embedding") as caught:
        rows = run(tmp_path, Embedded(), data, quantities=("target", "input"), space="scores", batch_fn=batch_fn)
    assert sum("is not measured" in str(w.message) for w in caught) == 1
    assert {quantity for _, quantity in rows} == {"target", "usable"}


def test_graphs_are_measured_node_by_node_and_graph_by_graph(tmp_path):
    """Evidence: a binary symmetric channel for the nodes; for graphs, the sum of their nodes tells a class exactly."""
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader as GraphLoader
    from torch_geometric.nn import GCNConv, global_add_pool

    generator = torch.Generator().manual_seed(89)

    def graph():
        x = torch.randn(5, 2, generator=generator)
        flips = torch.rand(5, generator=generator) < 0.1
        edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
        label = (x[:, 0].sum() > 0).long()[None]
        return Data(x=x, edge_index=edges, nodes=((x[:, 0] > 0) ^ flips).long(), label=label)

    class Graphs(Idle):
        def __init__(self):
            super().__init__(nn.Identity())
            self.conv = GCNConv(2, 2)

        def forward(self, x, edge_index, batch):
            return global_add_pool(self.net(x) + 0 * self.conv(x, edge_index), batch)

    data = GraphLoader([graph() for _ in range(160)], batch_size=20)

    def inputs(batch):
        return {"x": batch.x, "edge_index": batch.edge_index, "batch": batch.batch}

    def by_node(batch):
        return inputs(batch), batch.nodes, batch.x

    rows = run(tmp_path, Graphs(), data, layers="net", batch_fn=by_node, quantities=("target", "input"))
    assert rows["net", "target"]["n_samples"] == 800
    assert rows["net", "target"]["mi"] == pytest.approx(0.531, abs=0.1)
    assert np.isfinite(rows["net", "input"]["mi"])
    assert not any(layer == "output" for layer, _ in rows), "it has a row a graph"
    rows = run(tmp_path, Graphs(), data, layers="net", batch_fn=by_node, space="scores", max_samples=150)
    assert rows["net", "target"]["n_samples"] == 150
    rows = run(tmp_path, Graphs(), data, layers=[], batch_fn=lambda batch: (inputs(batch), batch.label, None))
    assert rows["output", "target"]["n_samples"] == 160
    assert rows["output", "usable"]["mi"] > 0.7
