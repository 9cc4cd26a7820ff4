"""What becomes of a layer's positions: which axis holds features, which padding counts, which position is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mi_callback.collection import CollectionError, select_layers
from mi_callback.collection.positions import Draw, FeatureAxis, attention_mask, feature_axis_of, pooled


class ConvNeXtBlock(nn.Module):
    """Channels first outside, last inside."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 6, 1), nn.Linear(6, 6)

    def forward(self, x):
        return self.linear(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Patches(nn.Module):
    """Maps to sequences."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 2, 2)

    def forward(self, x):
        return self.conv(x).flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("model", "shape", "features", "axis"),
    [
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.ReLU()), (2, 3, 4, 4), 5, 1),
        (nn.Sequential(nn.Conv1d(3, 5, 1), nn.GELU(), nn.MaxPool1d(2), nn.Dropout()), (2, 3, 8), 5, 1),
        (nn.Sequential(nn.Linear(3, 5), nn.ReLU()), (2, 7, 3), 5, -1),
        (nn.Sequential(nn.Linear(3, 5), nn.ReLU()), (2, 7, 7, 3), 5, -1),
        (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (2, 7, 4), 4, -1),
        (ConvNeXtBlock(), (2, 3, 4, 4), 6, 1),
        (Patches(), (2, 3, 4, 4), 8, -1),
        (nn.Sequential(nn.Tanh()), (2, 3, 4, 4), 3, 1),
        (nn.Sequential(nn.Tanh()), (2, 7, 3), 3, -1),
    ],
)
def test_which_axis_holds_features(model, shape, features, axis):
    follow = FeatureAxis()
    with follow.attached(model):
        out = model(torch.zeros(shape))
    assert follow.of(out) == axis
    assert out.shape[axis] == features
    assert pooled(out, "mean", axis)[0].shape == (2, features)


def test_masks_count_from_either_side():
    """Evidence: by hand."""
    value = torch.arange(8.0).reshape(2, 4, 1)
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0]]) != 0
    for choice, expected in (("mean", [2.0, 4.5]), ("first", [1.0, 4.0]), ("last", [3.0, 5.0])):
        rows, name = pooled(value, choice, -1, mask=mask)
        assert rows[:, 0].tolist() == expected
        assert name.startswith(choice)
    value[~mask] = torch.nan
    assert pooled(value, "mean", -1, mask=mask)[0][:, 0].tolist() == [2.0, 4.5]
    assert pooled(value, "mean", -1, mask=torch.ones(2, 3, dtype=torch.bool))[0].isnan().all(), "another length"


def test_masks_are_found_by_their_names():
    keep = torch.tensor([[1, 1, 0]])
    for inputs, keywords, parameters in (
        (torch.zeros(1, 3), {"attention_mask": keep}, ["x", "attention_mask"]),
        ({"x": torch.zeros(1, 3), "padding_mask": keep == 0}, {}, []),
        ((torch.zeros(1, 3), keep), {}, ["x", "attention_mask"]),
    ):
        assert attention_mask(inputs, keywords, parameters).tolist() == [[True, True, False]]
    assert attention_mask((torch.zeros(1, 3), keep), {}, ["x", "mask"]) is None, "nobody knows what it marks"


def test_drawn_positions_have_a_target_and_are_not_masked():
    labels = torch.full((50, 6), -100)
    labels[:, 2:5] = 1
    mask = torch.arange(6).expand(50, 6) < 4
    places = Draw(50, seed=0, start=0, mask=mask, labels=[(labels, 0)]).at((6,))
    assert set(places.tolist()) == {2, 3}
    assert Draw(50, seed=0, start=0, mask=mask, labels=[(labels, 0)]).at((6,)).tolist() == places.tolist()
    assert Draw(50, seed=0, start=50, mask=mask, labels=[(labels, 0)]).at((6,)).tolist() != places.tolist()


def test_drawn_positions_are_the_same_place_in_coarser_and_finer_maps():
    """Evidence: the cell of the fine map lies in that of the coarse one."""
    labels = torch.zeros(200, 8, 12)
    draw = Draw(200, seed=1, start=0, labels=[(labels, 0)])
    fine, coarse = draw.at((8, 12)), draw.at((4, 6))
    np.testing.assert_array_equal(fine // 12 // 2 * 6 + fine % 12 // 2, coarse)
    np.testing.assert_array_equal(draw.at((96,)), fine, err_msg="the same map, counted through")
    assert len(set(fine.tolist())) > 60
    with pytest.raises(CollectionError, match=r"positions='each': expected 8 x 12 positions.*got 65.*-100"):
        draw.at((65,))


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 8), 0), ((3, 8, 2), -1), ((3, 2, 8), 1), ((3, 4, 4), 0), ((3, 2, 4, 4), 1), ((3, 2), None), ((3,), None)],
)
def test_how_targets_line_up(shape, axis):
    assert feature_axis_of(shape, {(8,), (4, 4)}) == axis


def test_a_function_must_give_rows():
    value = torch.zeros(4, 5, 3)
    rows, name = pooled(value, lambda t: t.amax(dim=1), -1)
    assert rows.shape == (4, 3)
    assert "lambda" in name
    with pytest.raises(CollectionError, match=r"positions: expected the function to make a tensor of shape \(4, d\)"):
        pooled(value, lambda t: t, -1)
    with pytest.raises(CollectionError, match=r"positions: the function failed.*IndexError"):
        pooled(value, lambda t: t.sum(dim=7), -1)


def test_layers_get_the_choice_of_their_name_label_or_glob():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), "b": nn.Linear(1, 1)})
    choices = {"a.*": "mean", "a.1": "first", "head": "each"}
    layers = select_layers(model, {"a.*": "a.*", "b": "head"}, choices)
    assert {layer.label: layer.positions for layer in layers} == {
        "a.0": "mean",
        "a.1": "first",
        "head": "each",
        "output": "flatten",
    }
    assert {layer.positions for layer in select_layers(model, None, "last")} == {"last"}
    with pytest.raises(CollectionError, match=r"positions: no measured layer is 'c'"):
        select_layers(model, ["b"], {"c": "mean", "b": "mean"})
