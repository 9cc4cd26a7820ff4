"""Models of Hugging Face's transformers, tiny and untrained, as a newcomer would measure them."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mi_callback import MutualInformationMonitor
from tests.models import QUIET, trainer

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]

VOCABULARY = 8


class Wrapped(lightning.LightningModule):
    """A model of transformers as their own examples wrap it: the batch by name, the loss made inside."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, **batch):
        return self.model(**batch)

    def training_step(self, batch, batch_idx):
        return self(**batch).loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


def measured(path, model, data, **options):
    """Rows of one epoch by layer and quantity."""
    defaults = {"n_permutations": 10, "space": "scores", "quantities": ("target",)}
    monitor = MutualInformationMonitor(**(defaults | options))
    lightning.seed_everything(3, verbose=False)
    trainer(path, monitor).fit(Wrapped(model), data)
    return {(row["layer"], row["quantity"]): row for row in monitor.history.to_rows()}


def padded(samples):
    """Sequences padded to the longest of their batch, as tokenizers' collators do."""
    ids, labels = zip(*samples, strict=True)
    length = max(map(len, ids))
    by_token = torch.is_tensor(labels[0]) and labels[0].ndim > 0
    return {
        "input_ids": torch.stack([torch.nn.functional.pad(one, (0, length - len(one))) for one in ids]),
        "attention_mask": torch.stack([(torch.arange(length) < len(one)).long() for one in ids]),
        "labels": torch.stack([torch.nn.functional.pad(one, (0, length - len(one)), value=-100) for one in labels])
        if by_token
        else torch.tensor(labels),
    }


def sentences(n=400, seed=5):
    """Token ids 1 to 7 of sentences of 3 to 8 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 9, (n,), generator=generator).tolist()
    return [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in lengths]


def bert(kind):
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    return kind(config)


BLOCKS = ["model.bert.encoder.layer.0", "model.bert.encoder.layer.1"]


@pytest.mark.parametrize("positions", ["mean", "first"])
def test_bert_classifies_sentences_without_batch_fn(tmp_path, positions):
    """Evidence: Y is the first token, H(Y) = log2(7). The first position holds it, the mean a part of it."""
    data = [(ids, int(ids[0])) for ids in sentences(700)]
    model = bert(transformers.BertForSequenceClassification)
    model.config.num_labels = model.num_labels = VOCABULARY
    model.classifier = torch.nn.Linear(16, VOCABULARY)
    rows = measured(
        tmp_path,
        model,
        DataLoader(data, batch_size=50, collate_fn=padded),
        layers="model.bert.encoder.layer.*",
        positions=positions,
    )
    assert list(dict.fromkeys(layer for layer, _ in rows)) == [*BLOCKS, "output"]
    for layer in BLOCKS:
        row = rows[layer, "target"]
        assert row["n_samples"] == 700
        assert positions in row["space"]
        assert row["mi"] <= np.log2(7) + 0.05
        assert row["mi"] > (0.9 * np.log2(7) if positions == "first" else 0.05)


def test_bert_tags_tokens(tmp_path):
    """Evidence: the tag is whether a token is above 4, H(3/7) = .985 bits, which a block's residual stream holds."""
    data = [(ids, (ids > 4).long()) for ids in sentences()]
    rows = measured(
        tmp_path,
        bert(transformers.BertForTokenClassification),
        DataLoader(data, batch_size=50, collate_fn=padded),
        layers="model.bert.encoder.layer.*",
        positions="each",
        quantities=("target", "input"),
    )
    for layer in [*BLOCKS, "output"]:
        assert rows[layer, "target"]["n_samples"] == 400
        assert rows[layer, "target"]["mi"] == pytest.approx(0.985, abs=0.12)
    assert 1.5 < rows[BLOCKS[0], "input"]["mi"] <= np.log2(7) + 0.05, "which token it is"


def test_gpt2_predicts_the_next_token(tmp_path):
    """Evidence: a chain that goes to the next of 8 tokens nine times in ten: log2(8) - H = 2.25 bits.

    The labels that such models take are the inputs themselves, of which a layer knows H = 3 bits: that is told.
    """
    generator = torch.Generator().manual_seed(7)
    tokens = [torch.randint(0, VOCABULARY, (600, 1), generator=generator)]
    for _ in range(9):
        other = torch.randint(0, VOCABULARY, (600, 1), generator=generator)
        goes_on = torch.rand(600, 1, generator=generator) < 0.9
        tokens.append(torch.where(goes_on, (tokens[-1] + 1) % VOCABULARY, other))
    ids = torch.cat(tokens, dim=1)
    data = DataLoader([{"input_ids": one, "labels": one} for one in ids], batch_size=100)
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    options = {"layers": "model.transformer.h.*", "positions": "each"}

    def shifted(batch):
        labels = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
        return {"input_ids": batch["input_ids"]}, labels

    p = np.array([0.9 + 0.1 / 8] + 7 * [0.1 / 8])
    truth = 3 + (p * np.log2(p)).sum()
    rows = measured(tmp_path, model, data, batch_fn=shifted, **options)
    assert rows["model.transformer.h.0", "target"]["mi"] == pytest.approx(truth, abs=0.25)
    with pytest.warns(UserWarning, match="targets that repeat the inputs.*next tokens"):
        rows = measured(tmp_path, model, data, **options)
    assert rows["model.transformer.h.0", "target"]["mi"] == pytest.approx(3, abs=0.15)


def images(n=300, seed=9):
    """Images (3, 8, 8) whose brightness tells one of two classes with an error in ten."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    flips = torch.rand(n, generator=generator) < 0.1
    x = 0.5 * torch.randn(n, 3, 8, 8, generator=generator) + (2 * (y ^ flips) - 1)[:, None, None, None]
    return [{"pixel_values": a, "labels": b} for a, b in zip(x, y, strict=True)]


def vit():
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_labels=2,
    )
    return transformers.ViTForImageClassification(config)


def resnet():
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=2
    )
    return transformers.ResNetForImageClassification(config)


@pytest.mark.parametrize("make", [vit, resnet])
def test_vit_and_resnet_are_measured_block_by_block(tmp_path, make):
    """Evidence: the brightness holds 1 - H(.1) = .53 bits of the class, and a mean of positions keeps most of it."""
    torch.manual_seed(0)
    model = make()
    layers = "model.vit.**.[0-9]" if make is vit else "model.resnet.encoder.stages.*"
    rows = measured(tmp_path, model, DataLoader(images(), batch_size=50), layers=layers, positions="mean")
    blocks = list(dict.fromkeys(layer for layer, _ in rows))
    assert len(blocks) == 3
    for layer in blocks:
        assert 0.3 < rows[layer, "target"]["mi"] < 0.6
        assert rows[layer, "target"]["reduction"] == (None if layer == "output" else "mean of positions")
