"""What layers are called: short, and never the same for two."""

import random

import pytest

from mi_callback.reporting.labels import fold, layer_labels


@pytest.mark.parametrize(
    ("layers", "short", "pattern"),
    [
        (["net.1", "net.3", "output"], ["net.1", "net.3", "output"], ""),
        (
            ["encoder.layer.0.intermediate.act", "encoder.layer.1.intermediate.act", "output"],
            ["0", "1", "output"],
            "encoder.layer.*.intermediate.act",
        ),
        (
            ["net.resnet.layer1.0.activation", "net.resnet.layer1.1.activation", "net.resnet.layer2.0.activation"],
            ["layer1.0", "layer1.1", "layer2.0"],
            "net.resnet.*.activation",
        ),
        (["a_long_one_of_a_kind.act", "output"], ["a_long_one_of_a_kind.act", "output"], ""),
        (["network.features.act", "network.act"], ["features.act", "act"], "network.*"),
        (["network.input_layer", "network.output", "output"], ["network.input_layer", "network.output", "output"], ""),
        (
            ["model.encoder.layers.11.attention.output.activation", "model.decoder.blocks.0.mlp.activation"],
            ["encoder…attention.output", "decoder.blocks.0.mlp"],
            "model.*.activation",
        ),
    ],
)
def test_layers_are_named_by_what_differs(layers, short, pattern):
    """Evidence: names of well-known models, and what they come to by hand."""
    labels = layer_labels(layers)
    assert labels.short == dict(zip(layers, short, strict=True))
    assert labels.pattern == pattern


def test_no_two_layers_share_a_name():
    """Evidence: 300 random trees of modules with few different words, which make clashes likely."""
    source = random.Random(0)
    words = ("model", "encoder", "layer", "attention", "output", "intermediate_activation", "0", "1", "2")
    for _ in range(300):
        names = {".".join(source.choices(words, k=source.randint(1, 7))) for _ in range(source.randint(1, 12))}
        layers = sorted({*names, "output"})
        short = layer_labels(layers).short
        assert list(short) == layers
        assert len(set(short.values())) == len(layers), short
        assert short["output"] == "output"


def test_a_line_ends_between_pieces_and_counts_what_is_drawn():
    assert fold([r"$I(X;T+\sigma Z)$, ", r"$\sigma=0.3$ ", "(bits)"], 14) == "$I(X;T+\\sigma Z)$,\n$\\sigma=0.3$ (bits)"
