"""The loops of the examples, as a user runs them: all four measure the same network alike, and checkpoints later."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback import History
from tests.examples.test_verdicts import load
from tests.models import QUIET

pytestmark = [pytest.mark.filterwarnings(line) for line in (*QUIET, "ignore:.*takes .* of the time:RuntimeWarning")]


@pytest.mark.slow
def test_the_loops_measure_alike(tmp_path, monkeypatch, capsys):
    """Evidence: the untrained networks are the same; so the histories start alike, and all learn from there.

    The plain loop, Fabric and accelerate even draw the same batches, so that all of their epochs are the same.
    """
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    example, found = load("loops"), {}
    for name in example.LOOPS:
        history = example.main(["--loop", name, "--epochs", "7", "--every", "3"])
        assert history.data == ["train", "val"]
        assert history.epochs == [0, 3, 6]
        output = history.series("target", data="train")["output"].mi
        assert output[-1] > output[0]
        found[name] = np.array([row["mi"] for row in history.to_rows()])
    np.testing.assert_allclose(found["fabric"], found["plain"], atol=1e-5)
    assert "I(T;Y) in bits" in capsys.readouterr().out


@pytest.mark.slow
def test_checkpoints_are_compared_in_one_history(tmp_path, capsys):
    """What is written is read back; the network comes to know the digits, and more of those that it trained on."""
    pytest.importorskip("sklearn")
    example = load("checkpoints")
    example.EPOCHS[:] = [0, 20]
    example.main(["--folder", str(tmp_path), "--permutations", "2", "--space", "scores"])
    history = History.load(tmp_path / "history.json")
    assert history.epochs == [0, 20]
    assert {row["n_samples"] for row in history.to_rows()} == {900, 897}
    train, test = (history.series("usable", data=name)["output"].mi for name in ("train", "test"))
    assert train[-1] > train[0] + 0.3
    assert train[-1] > test[-1]
    assert (tmp_path / "gap.png").stat().st_size > 10_000
    assert "usable bits" in capsys.readouterr().out
