"""The examples of a transformer and a ResNet as a user runs them: what they must show, where the truth is exact."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.models import QUIET

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]
pytestmark += [pytest.mark.filterwarnings("ignore:.*number of training batches:UserWarning"), pytest.mark.slow]


def example(name):
    path = Path(__file__).parents[2] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def last(monitor):
    """Rows of the last epoch by layer and quantity."""
    rows = monitor.history.to_rows()
    return {(r["layer"], r["quantity"]): r for r in rows if r["epoch"] == max(row["epoch"] for row in rows)}


def test_transformer(tmp_path, capsys):
    """Evidence: exact truths, 2.33 bits on the next letter, none of them in the embedding, and 2 bits on the key."""
    module = example("transformer")
    letters, keys = module.main(
        ["--epochs", "6", "--measure-every", "6", "--log-dir", str(tmp_path), "--images", str(tmp_path / "images")]
    )
    assert module.truth() == pytest.approx(2.33, abs=0.005)
    rows = last(letters)
    assert abs(rows["embedding", "target"]["mi"]) < 0.15
    assert rows["blocks.2", "target"]["mi"] == pytest.approx(module.truth(), abs=0.25)
    assert rows["blocks.0", "target"]["mi"] < rows["blocks.1", "target"]["mi"] < rows["blocks.2", "target"]["mi"]
    assert rows["blocks.2", "input"]["mi"] == pytest.approx(4, abs=0.1)
    assert rows["output", "input"]["mi"] < 1.5
    assert last(keys)["blocks.0", "target"]["mi"] == pytest.approx(2, abs=0.05)
    assert "There is" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "transformer_letters_depth.png",
        "transformer_keys_depth.png",
    }


def test_resnet(tmp_path, capsys):
    """Evidence: exact truths, 1 bit on each of three features, none on the place in a mean over the stem's pixels."""
    monitor = example("resnet").main(["--epochs", "6", "--measure-every", "6", "--log-dir", str(tmp_path)])
    rows = last(monitor)
    for layer in ("blocks.2", "output"):
        for task in ("texture", "place"):
            assert rows[layer, f"target_{task}"]["mi"] == pytest.approx(1, abs=0.05)
    assert rows["stem", "target_texture"]["mi"] > 0.9
    assert rows["stem", "target_place"]["mi"] < 0.15
    assert rows["stem", "target_shape"]["mi"] < rows["blocks.2", "target_shape"]["mi"] - 0.2
    assert {row["reduction"] for (layer, _), row in rows.items() if layer != "output"} == {"mean of positions"}
    assert "Accuracy" in capsys.readouterr().out
