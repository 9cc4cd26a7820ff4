"""The examples that hold their verdict against truth, as a user runs them, shortened."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models import QUIET

IGNORED = (*QUIET, "ignore:.*takes .* of the time:RuntimeWarning")
pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(line) for line in IGNORED)]


def load(name: str):
    path = Path(__file__).parents[2] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_example", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def values(monitor, layer, quantity):
    return [r["mi"] for r in monitor.history.to_rows() if (r["layer"], r["quantity"]) == (layer, quantity)]


def flags(monitor, layer, quantity):
    return [set(r["flags"]) for r in monitor.history.to_rows() if (r["layer"], r["quantity"]) == (layer, quantity)]


def test_noisy_neuron_is_a_true_compression(tmp_path, capsys):
    """Evidence: quadrature, within .06 bits at every step, and the known values at steps 50, 100, 500."""
    monitor, truth = load("noisy_neuron").main(["--steps", "500", "--log-dir", str(tmp_path)])
    np.testing.assert_allclose(truth[2:4], [1.564, 1.488], atol=2e-3)
    assert truth[5] == pytest.approx(1.181, abs=2e-3)
    np.testing.assert_allclose(values(monitor, "output", "input"), truth, atol=0.06)
    assert monitor.verdicts()["output"].kind == "falls"
    assert not any(flags(monitor, "output", "input"))
    assert "verdict: I(X;T) falls, by all of" in capsys.readouterr().out


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_twelve_bits(tmp_path, capsys, activation):
    """Evidence: counting. The tanh layers lose nothing, the bins do."""
    example = load("information_bottleneck_12bit")
    x, y = example.samples()
    assert (x.shape, y.sum()) == ((4096, 12), 2118)
    monitor, by_hand = example.main(
        ["--activation", activation, "--epochs", "20", "--measure-every", "10", "--log-dir", str(tmp_path)]
    )
    assert monitor.history.ceilings["H(Y)"].value == pytest.approx(0.99915712, abs=1e-7)
    assert monitor.history.ceilings["I(X;Y)"].value == pytest.approx(0.99915712, abs=1e-7)
    for layer in ("net.1", "net.9"):
        exact = [row[2] for row in by_hand.rows if row[1] == layer]
        bins = [row[3] for row in by_hand.rows if row[1] == layer]
        np.testing.assert_allclose(values(monitor, layer, "input"), exact, atol=1e-9)
        if activation == "tanh":
            assert min(exact) > 11.9
        if layer == "net.9":
            assert bins[-1] < exact[-1] - 3
    usable = values(monitor, "net.9", "usable")
    assert usable[0] < 0.4 < usable[-1] < 1
    assert "verdict on net.9" in capsys.readouterr().out


def test_gaussian_chain_is_a_false_compression(tmp_path, capsys):
    """Evidence: log-determinants. By epoch 30 every doubt is raised, and no verdict of compression is given."""
    monitor, model = load("gaussian_chain").main(
        ["--epochs", "30", "--measure-every", "10", "--log-dir", str(tmp_path)]
    )
    exact = [model.exact[epoch][0] for epoch in (0, 10, 20, 30)]
    assert exact == sorted(exact)
    measured = values(monitor, "net.0", "input")
    assert max(measured) < 0.6 * exact[-1]
    assert {"below_usable", "dimension"} <= flags(monitor, "net.0", "input")[-1]
    decoder = monitor.evidence.curves("net.0")["linear decoder"]
    np.testing.assert_allclose(decoder.values, exact, atol=0.4)
    assert (decoder.values < np.array(exact) + 2 * decoder.stderr).all()
    assert monitor.verdicts()["net.0"].kind != "falls"
    assert "truth:   it rises" in capsys.readouterr().out


def test_digits(tmp_path, capsys):
    """Evidence: H(Y) above, a held-out decoder below."""
    pytest.importorskip("sklearn")
    monitor = load("digits").main(["--epochs", "6", "--measure-every", "3", "--log-dir", str(tmp_path)])
    assert monitor.history.ceilings["H(Y)"].value == pytest.approx(np.log2(10), abs=0.01)
    usable = values(monitor, "output", "usable")
    assert usable[-1] > usable[0]
    printed = capsys.readouterr().out
    assert "every value keeps to it, or is flagged" in printed
    assert "deterministic" not in printed  # measured through noise
