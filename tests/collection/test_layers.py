"""Names, globs and labels find the modules they should, and say what there is when they do not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mi_callback.collection import OUTPUT, CollectionError, select_layers
from tests.models import QUIET

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh())
        self.head = nn.Linear(4, 1)
        self.attention = nn.MultiheadAttention(4, 2)


def labels(model, layers):
    return [layer.label for layer in select_layers(model, layers)]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, ["encoder.1", "encoder.3", "output"]),
        (["head"], ["head", "output"]),
        ("head", ["head", "output"]),
        ("encoder.[13]", ["encoder.1", "encoder.3", "output"]),
        (["encoder.*"], ["encoder.0", "encoder.1", "encoder.2", "encoder.3", "output"]),
        (["head", "encoder.[13]"], ["encoder.1", "encoder.3", "head", "output"]),
        (["output"], ["output"]),
        ([], ["output"]),
        ({"head": "readout", "encoder.1": "first"}, ["first", "readout", "output"]),
        ({"output": "prediction"}, ["prediction"]),
        ({"encoder.[13]": "act"}, ["act.encoder.1", "act.encoder.3", "output"]),
    ],
)
def test_selects_in_the_models_order_with_the_output_last(layers, expected):
    assert labels(Model(), layers) == expected


class Parts(nn.Module):
    """A module of the given submodules."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class Residual(nn.Module):
    def __init__(self, *, act=False):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)
        if act:
            self.act = nn.ReLU()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"fc1": nn.Linear(2, 2), "drop": nn.Dropout(), "norm": nn.LayerNorm(2), "fc2": nn.Linear(2, 1)}, "fc1 fc2"),
        ({"inner": Parts(fc=nn.Linear(2, 2)), "attention": nn.MultiheadAttention(4, 2)}, "inner.fc attention"),
        ({"gru": nn.GRU(2, 2), "head": nn.Linear(2, 1)}, "gru"),
        (
            {"encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), 2, enable_nested_tensor=False)},
            "encoder.layers.0 encoder.layers.1",
        ),
        ({"stem": nn.Conv2d(1, 1, 1), "stage": nn.Sequential(Residual(), Residual())}, "stage.0 stage.1"),
        ({"stage": nn.Sequential(Residual(act=True), Residual(act=True))}, "stage.0.act stage.1.act"),
        ({"blocks": nn.ModuleList([Residual()]), "pool": nn.Sequential(nn.Linear(1, 1), nn.Tanh())}, "blocks.0 pool.1"),
        ({"lstm": nn.LSTM(2, 2), "head": nn.Sequential(nn.Linear(2, 2), nn.ReLU())}, "lstm head.1"),
        ({"fc": nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "loss": nn.MSELoss()}, "fc"),
    ],
)
def test_models_without_activation_modules_fall_back_to_their_blocks(parts, expected):
    assert labels(Parts(**parts), None) == [*expected.split(), "output"]


def test_an_unknown_name_lists_what_there_is_and_what_was_meant():
    with pytest.raises(CollectionError, match=r"no module 'heat'.*Did you mean 'head'.*encoder\.0.*'output'"):
        select_layers(Model(), ["heat"])
    with pytest.raises(CollectionError, match=r"no module 'decoder\.\*'"):
        select_layers(Model(), ["decoder.*"])


@pytest.mark.parametrize("layers", [3, [1], {"head": ""}])
def test_other_types_are_refused(layers):
    with pytest.raises(TypeError, match="layers"):
        select_layers(Model(), layers)


class Bert(nn.Module):
    """Blocks of several modules, as in transformers."""

    def __init__(self):
        super().__init__()
        parts = [nn.ModuleDict({"attention": nn.Linear(2, 2), "act": nn.ReLU()}) for _ in range(2)]
        self.layer = nn.ModuleList(nn.Sequential(part) for part in parts)


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("layer.*", ["layer.0", "layer.1"]),
        ("layer.**.act", ["layer.0.0.act", "layer.1.0.act"]),
        ("**.layer.1", ["layer.1"]),
        ("**act", ["layer.0.0.act", "layer.1.0.act"]),
        ("layer.?.*", ["layer.0.0", "layer.1.0"]),
        ("layer.[!0]", ["layer.1"]),
        ("l*", ["layer"]),
    ],
)
def test_a_star_stays_between_dots_and_two_cross_them(glob, expected):
    """On old code "layer.*" chose all that is in the blocks, too: 34 modules of a BERT of two blocks."""
    assert labels(Bert(), [glob]) == [*expected, "output"]


def test_a_glob_that_stops_at_a_dot_is_told_of_two_stars():
    with pytest.raises(CollectionError, match=r"no module 'l\*act'.*stays between two dots; did you mean 'l\*\*act'"):
        select_layers(Bert(), "l*act")


def test_labels_must_differ():
    with pytest.raises(CollectionError, match="one label a layer, got a more than once"):
        select_layers(Model(), {"head": "a", "encoder.0": "a"})


def test_a_module_under_two_names_is_taken_once():
    model = Model()
    model.alias = model.head
    assert labels(model, ["head", "alias"]) == ["head", "output"]
    assert labels(model, ["alias"]) == ["alias", "output"]


def test_a_submodule_named_output_makes_way_for_the_models_output():
    model = Model()
    model.output = nn.Linear(4, 1)
    selected = select_layers(model, ["*"])
    assert [layer.label for layer in selected][-2:] == ["output_module", OUTPUT]
    assert selected[-1].module is None


def test_compiled_modules_keep_their_names():
    model = Model()
    model.encoder = torch.compile(model.encoder)
    selected = {layer.label: layer.module for layer in select_layers(model, ["encoder.1", "encoder"])}
    assert list(selected) == ["encoder", "encoder.1", "output"]
    assert selected["encoder"] is model.encoder._orig_mod
