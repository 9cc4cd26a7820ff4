"""Batches in all usual forms are understood; others are refused with what they are."""

from __future__ import annotations

from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn

from mi_callback.collection import CollectionError
from mi_callback.collection.batches import Split, call_model, first_tensor, rows_of, split_batch

X, Y = torch.zeros(4, 3), torch.ones(4)
M, LABELS = torch.full((4, 3), 2.0), torch.full((4,), 3.0)


@pytest.mark.parametrize(
    "batch",
    [
        (X, Y),
        [X, Y],
        {"x": X, "y": Y},
        {"inputs": X, "labels": Y},
        {"image": X, "target": Y, "id": [1, 2, 3, 4]},
        {"pixel_values": X, "label": Y},
        {"inputs_embeds": X, "labels": Y},
        {"input_values": X, "labels": Y},
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
    with pytest.raises(CollectionError, match=r"^batch.*(batch_fn.*got |got .*batch_fn)"):
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


def test_labels_in_a_whole_batch_are_no_part_of_x():
    """Evidence: X by identity. With the labels in it, I(X;Y) would be H(Y) and I(X;T) tell of them."""
    batch = {"x": X, "mask": M, "y": Y}
    for given, whole in (
        (batch, lambda batch: (batch, batch["y"])),
        (batch, lambda batch: ({"batch": batch}, batch["y"])),
    ):
        split = split_batch(given, whole)
        assert (split.inputs if "x" in split.inputs else split.inputs["batch"]) is batch, "the model gets all of it"
        measured = split.measured.get("batch", split.measured)
        assert measured.keys() == {"x", "mask"}
    autoencoder = split_batch(batch, lambda batch: ({"x": batch["x"], "mask": batch["mask"]}, batch["x"]))
    assert autoencoder.measured.keys() == {"x", "mask"}


def test_a_batch_fn_that_fails_is_named():
    """On old code the bare error was warned of, and training went on without any measurement."""
    with pytest.raises(CollectionError, match=r"^batch_fn: KeyError: 'z'. It was called with \{'x': Tensor"):
        split_batch({"x": X}, lambda batch: (batch["z"], None))


def test_a_dict_of_several_keys_is_told_how_to_keep_its_mask():
    with pytest.raises(CollectionError, match="such as a mask, the inputs are a dict of them"):
        split_batch({"a": X, "mask": M, "b": Y}, None)


def test_lengths_must_agree():
    with pytest.raises(CollectionError, match="targets as long as the inputs, got 3 and 4"):
        split_batch((X, Y[:3]), None)


class Two(nn.Module):
    def forward(self, a, b=None):
        return "two", a, b


class One(nn.Module):
    def forward(self, batch):
        return "one", batch


def called(model, inputs):
    return call_model(model, Split(inputs, inputs, None, 4))


def test_inputs_are_passed_as_forward_takes_them():
    assert called(Two(), X) == ("two", X, None)
    assert called(Two(), (X, Y)) == ("two", X, Y)
    assert called(Two(), {"b": Y, "a": X}) == ("two", X, Y)
    assert called(One(), (X, Y)) == ("one", (X, Y))
    assert called(One(), {"a": X}) == ("one", {"a": X})


class Masked(nn.Module):
    def forward(self, x, mask=None, labels=None):
        return x, mask, labels


class Renamed(nn.Module):
    def forward(self, mask, picture):
        return picture, mask, None


class HuggingFace(nn.Module):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        return input_ids, attention_mask, labels


class Wrapper(nn.Module):
    def forward(self, *args, **kwargs):
        return HuggingFace()(*args, **kwargs)


class Further(nn.Module):
    def forward(self, x, **kwargs):
        return x, kwargs.get("mask"), kwargs.get("labels")


class ByName(nn.Module):
    def forward(self, **kwargs):
        return Masked()(**kwargs)


@pytest.mark.parametrize(
    ("model", "inputs", "mask"),
    [
        (Masked, "x", "mask"),
        (Masked, "image", "mask"),
        (Renamed, "image", "mask"),
        (HuggingFace, "input_ids", "attention_mask"),
        (Wrapper, "input_ids", "attention_mask"),
        (Further, "features", "mask"),
        (ByName, "x", "mask"),
    ],
)
@pytest.mark.parametrize("batch_type", [dict, UserDict])
def test_a_dict_batch_reaches_forward_whole_but_for_the_target(model, inputs, mask, batch_type):
    """Evidence: forward hands back what it got. ``UserDict`` is what the batches of tokenizers are made of."""
    model = model()
    split = split_batch(batch_type({inputs: X, mask: M, "labels": LABELS}), None, model)
    got = call_model(model, split)
    assert (got[0] is X, got[1] is M, got[2]) == (True, True, None)
    assert split.targets is LABELS
    assert split.measured[0] is X, "X is all that the model gets: with the mask"
    assert split.measured[1] is M
    assert split.left_out == ()


def test_keys_that_forward_does_not_take_are_named():
    split = split_batch({"x": X, "y": Y, "id": [1, 2, 3, 4], "mask": M}, None, Masked())
    assert split.left_out == ("id",)
    assert split.keywords.keys() == {"mask"}
    split = split_batch({"x": X, "y": Y, "mask": M}, None, One())
    assert split.left_out == ("mask",)
    assert call_model(One(), split)[1] is X


def test_ids_beside_their_mask_stay_integers():
    ids, mask = torch.arange(8).reshape(4, 2), torch.ones(4, 2, dtype=torch.bool)
    assert rows_of((ids, mask), 4).dtype == torch.int64
    assert rows_of((ids, mask.float()), 4).dtype == torch.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [(["a", None, "b", None], "got None for 2 of 4"), ([object()] * 4, "got .*object"), ("text", "got str")],
)
def test_rows_that_are_neither_numbers_nor_labels_are_named(value, message):
    with pytest.raises(CollectionError, match=message):
        rows_of(value, 4)


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
