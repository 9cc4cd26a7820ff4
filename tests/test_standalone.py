"""A model measured by itself: the numbers of the plain function, and not a trace of it in model, loader or chance."""

from __future__ import annotations

import copy
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import History, MutualInformationMonitor, measure, mutual_information
from mi_callback.collection import CollectionError
from tests.models import loader, pairs

PLAIN = {"n_permutations": 4, "space": "scores"}


def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    return nn.Sequential(*layers)


def test_the_numbers_are_those_of_the_plain_function():
    model, (x, y) = network(), pairs()
    history = measure(model, loader(), epoch=3, layers=["2"], **PLAIN)
    model.eval()
    with torch.no_grad():
        hidden = model[:3](x)
        values = {"2": hidden, "output": model[3:](hidden)}
    rows = {(r["layer"], r["quantity"]): r for r in history.to_rows()}
    for layer, t in values.items():
        for quantity, partner in (("target", y), ("input", x)):
            known = mutual_information(t.numpy(), partner.numpy(), **PLAIN).mi
            assert rows[layer, quantity]["mi"] == pytest.approx(known, abs=1e-5)
    assert {(r["epoch"], r["data"], r["n_samples"]) for r in rows.values()} == {(3, "data", 60)}


def test_a_training_loop_goes_on_as_if_nothing_had_been_measured():
    """Evidence: two loops from one seed, compared to the last bit; dropout, frozen norm and a shuffling loader."""

    def train(measures: bool):
        model = network()
        model[1].eval()
        model[0].bias.requires_grad_(False)
        data = loader(generator=torch.Generator().manual_seed(5))
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
        torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
        history = None
        for epoch in range(3):
            for x, y in data:
                optimizer.zero_grad()
                nn.functional.mse_loss(model(x), y).backward()
                optimizer.step()
            if measures:
                history = measure(model, data, epoch=epoch, history=history, **PLAIN)
        left = {
            **model.state_dict(),
            "gradient": model[0].weight.grad,
            "torch": torch.get_rng_state(),
            "loader": data.generator.get_state(),
        }
        others = (
            [m.training for m in model.modules()],
            [p.requires_grad for p in model.parameters()],
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            [len(m._forward_hooks) for m in model.modules()],
            torch.is_grad_enabled(),
        )
        return left, others, history

    (left, others, history), (alone, without, _) = train(True), train(False)
    assert left.keys() == alone.keys()
    assert all(torch.equal(left[key], alone[key]) for key in left)
    assert others == without
    assert history.epochs == [0, 1, 2]


def test_neither_lightning_nor_figures_are_needed():
    """Evidence: the modules of a fresh interpreter; the name is there before torch is."""
    script = (
        "import sys, mi_callback; print('torch' in sys.modules); import torch;"
        "batches = [(torch.arange(40.).reshape(20, 2).sin(), torch.arange(20.).cos())];"
        "print(len(mi_callback.measure(torch.nn.Linear(2, 1), batches, n_permutations=0, space='scores')));"
        "print(*[m for m in ('lightning', 'matplotlib', 'tensorboard') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["False", "3"], run.stderr


def test_faults_are_told_and_nothing_is_half_written():
    model, data = network(), loader()
    history = measure(model, data, n_permutations=0, space="scores")
    before = repr(history.state_dict())
    gone = copy.deepcopy(model).to("meta")
    wide = DataLoader(TensorDataset(torch.randn(20, 5), torch.randn(20, 1)), batch_size=10)
    late = [(torch.randn(10, 2), torch.randn(10, 1)), (torch.randn(10, 3), torch.randn(10, 1))]
    one_good = {"good": data, "wide": wide}
    for arguments, error, message in (
        ((model, data.dataset), ValueError, "loader: expected a DataLoader.*got TensorDataset"),
        ((model, wide), CollectionError, r"data 'data': the model could not be run.*\(10x5 and 2x8\)"),
        ((model, one_good), CollectionError, "data 'wide'"),
        ((model, late), RuntimeError, "10x3"),
        ((gone, data), CollectionError, "meta device.*Load the weights"),
        ((lambda x: x, data), ValueError, "model: expected a torch.nn.Module, got function"),
        ((nn.Linear(2, 1), data), ValueError, r"history: it holds the layers \['2', 'output'\].*\['output'\]"),
    ):
        with pytest.raises(error, match=message):
            measure(*arguments, history=history, **PLAIN)
    for options, message in (
        ({"unit": "nats"}, "history: it holds values in bits.*unit='bits'"),
        ({"history": history.to_rows()}, "history: expected a History or None, got list"),
        ({"epoch": 0.5}, "epoch: expected an int, got 0.5"),
        ({"active_dropout": "x"}, r"`measure\(active_dropout='x'\)` is not valid. Expected True"),
        ({"layers": ["nothing"]}, "no module 'nothing'"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, data, **({"history": history} | PLAIN | options))
    assert repr(history.state_dict()) == before


def test_the_faces_take_the_same_arguments():
    """Evidence: the signatures. What is about when to measure, where to log and for how long is a callback's alone."""
    import inspect

    names = dict(inspect.signature(MutualInformationMonitor).parameters)
    for own in ("every_n_epochs", "budget", "data", "name"):
        names.pop(own)
    ours = dict(inspect.signature(measure).parameters)
    for own in ("model", "loader", "epoch", "history"):
        ours.pop(own)
    assert list(ours) == list(names)
    assert all(ours[name].default == names[name].default for name in names)
    assert all(ours[name].annotation == names[name].annotation for name in names)


def test_epochs_of_one_history_are_replaced_and_saved(tmp_path):
    model, data = network(), loader()
    history = measure(model, data, epoch=1, **PLAIN)
    assert measure(model, data, epoch=1, history=history, **PLAIN) is history
    measure(model, data, epoch=2, history=history, **PLAIN)
    assert len(history) == 2 * 6
    history.save(tmp_path / "run.json")
    assert repr(History.load(tmp_path / "run.json").to_rows()) == repr(history.to_rows())
