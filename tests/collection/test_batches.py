"""Batches in all usual forms are understood; others are refused with what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mi_callback.collection import CollectionError
from mi_callback.collection.batches import call_model, first_tensor, rows_of, split_batch

X, Y = torch.zeros(4, 3), torch.ones(4)


@pytest.mark.parametrize(
    "batch",
    [
        (X, Y),
        [X, Y],
        {"x": X, "y": Y},
        {"inputs": X, "labels": Y},
        {"image": X, "target": Y, "id": [1, 2, 3, 4]},
        {"pixel_values": X, "label": Y},
    ],
)
def test_pairs_and_dicts(batch):
    split = split_batch(batch, None)
    assert split.inputs is X
    assert split.measured is X
    assert split.targets is Y
    assert split.size == 4


@pytest.mark.parametrize("batch", [X, (X,), {"x": X}])
def test_without_targets(batch):
    split = split_batch(batch, None)
    assert split.inputs is X
    assert split.targets is None


@pytest.mark.parametrize("batch", [(X, Y, Y), {"a": X, "b": Y}, "text", {"x": X, "image": X, "y": Y}, ({"x": 3}, Y)])
def test_a_batch_that_is_not_understood_says_what_it_is(batch):
    with pytest.raises(CollectionError, match=r"got .*batch_fn"):
        split_batch(batch, None)


def test_batch_fn_decides():
    split = split_batch((X, X + 1, Y), lambda batch: ((batch[0], batch[1]), batch[2]))
    assert split.inputs[1] is not X
    assert split.targets is Y
    split = split_batch((X, Y), lambda batch: (batch[0], None, batch[0] + 2))
    assert torch.equal(split.measured, X + 2)
    assert split.targets is None
    with pytest.raises(CollectionError, match=r"batch_fn: expected it to return \(inputs, targets\)"):
        split_batch((X, Y), lambda batch: batch[0])


def test_lengths_must_agree():
    with pytest.raises(CollectionError, match="targets as long as the inputs, got 3 and 4"):
        split_batch((X, Y[:3]), None)


class Two(nn.Module):
    def forward(self, a, b=None):
        return "two", a, b


class One(nn.Module):
    def forward(self, batch):
        return "one", batch


def test_inputs_are_passed_as_forward_takes_them():
    assert call_model(Two(), X) == ("two", X, None)
    assert call_model(Two(), (X, Y)) == ("two", X, Y)
    assert call_model(Two(), {"b": Y, "a": X}) == ("two", X, Y)
    assert call_model(One(), (X, Y)) == ("one", (X, Y))
    assert call_model(One(), {"a": X}) == ("one", {"a": X})


def test_the_tensor_that_an_output_stands_for():
    assert first_tensor(nn.LSTM(3, 5)(torch.zeros(2, 4, 3))).shape == (2, 4, 5)
    assert first_tensor({"loss": Y, "logits": X}) is X
    assert first_tensor({"hidden": (None, X)}) is X
    assert first_tensor(None) is None
    assert first_tensor({"a": "b"}) is None


def test_rows():
    assert rows_of(torch.zeros(4, 2, 3), 4).shape == (4, 6)
    assert rows_of(torch.zeros(4), 4).shape == (4, 1)
    assert rows_of((torch.zeros(4, 2), torch.zeros(4, 3, 2)), 4).shape == (4, 8)
    assert rows_of({"a": torch.zeros(4, 2)}, 4).shape == (4, 2)
    assert rows_of(["a", "b", "a", "c"], 4).tolist() == [["a"], ["b"], ["a"], ["c"]]
    assert rows_of(np.zeros((4, 2)), 4).shape == (4, 2)
    assert rows_of(torch.zeros(4, dtype=torch.complex64), 4).shape == (4, 2)
    sequence = torch.arange(24).reshape(2, 4, 3)
    assert torch.equal(rows_of(sequence, 4, batch_dim=1)[1], sequence[:, 1].reshape(-1))
    with pytest.raises(CollectionError, match="4 samples along dimension 0, got shape"):
        rows_of(torch.zeros(8, 2), 4)
