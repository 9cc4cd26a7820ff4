from dataclasses import replace

import numpy as np
import pytest
import torch

from mi_callback import mutual_information
from mi_callback.estimation.spaces.linear import informative_directions
from mi_callback.estimation.spaces.network import SliceNetwork, code_coordinates, code_labels, fit_network, refine


def problem(seed=0, n=2_000, d=6):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    y = (x[:, :1] ** 2 + 0.3 * rng.standard_normal((n, 1))).astype(np.float32)
    return x, code_coordinates(y)


def test_gradients_equal_those_of_torch():
    """Evidence: torch's automatic differentiation of the same likelihood."""
    x, coded = problem(n=64, d=3)
    y = code_coordinates(np.concatenate([x[:, :1], x[:, 1:2] ** 2], axis=1))
    for target in (coded, y):
        network = fit_network(x, target, 48, np.eye(3, 2, dtype=np.float32))
        weights, biases = (
            [torch.tensor(p, requires_grad=True) for p in ps] for ps in (network.weights, network.biases)
        )
        values = torch.from_numpy(x) @ weights[0]
        for weight, bias in zip(weights[1:-1], biases[:-1], strict=True):
            values = torch.relu(values @ weight + bias)
        outputs = (values @ weights[-1] + biases[-1]).reshape(len(x), target.n_groups, -1)
        likely = torch.log_softmax(outputs, dim=2).reshape(len(x), -1) * torch.from_numpy(target.indicators)
        loss = -likely.sum() / len(x)
        loss.backward()
        expected = np.concatenate([p.grad.numpy().ravel() for p in (*weights, *biases)])
        assert np.abs(expected).max() > 0.01
        slope = replace(network, parameters=np.empty_like(network.parameters))
        network.write_gradient(x, target.indicators, slope)
        np.testing.assert_allclose(slope.parameters, expected, atol=1e-6)
        assert network.loss(x, target.indicators) == pytest.approx(loss.item(), rel=1e-5)


def test_it_learns_and_prunes_to_the_one_direction_that_matters():
    """Evidence: the problem's one direction. On 500 held-out samples a second one helps by chance now and then."""
    x, coded = problem()
    widths = []
    for seed in range(5):
        network = fit_network(x, coded, 1_500, np.eye(6, 3, dtype=np.float32), seed=seed)
        pruned = network.pruned(x, coded.indicators, 1_500)
        assert network.loss(x[1_500:], coded.indicators[1_500:]) < np.log(16) - 0.5
        assert abs(pruned.weights[0][1:, 0]).max() < 0.15 * abs(pruned.weights[0][0, 0])
        widths.append(pruned.weights[0].shape[1])
        assert pruned.directions(x).shape == (6, widths[-1])
        refined = refine(pruned, x, coded)
        assert refined.loss(x, coded.indicators) < pruned.loss(x, coded.indicators)
    assert np.median(widths) == 1


def test_log_odds_follow_the_order_of_slices():
    x, coded = problem()
    odds = fit_network(x, coded, 1_500, np.eye(6, 1, dtype=np.float32)).log_odds(x)
    assert odds.shape == (len(x), 15)
    assert (np.diff(odds, axis=1) >= -1e-5).all()  # below a higher boundary is likelier
    assert np.corrcoef(odds[:, 7], x[:, 0] ** 2)[0, 1] < -0.8


def test_labels_have_log_probabilities():
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=1_000)
    x = (rng.standard_normal((1_000, 4)) + 2 * np.eye(3, 4)[labels]).astype(np.float32)
    network = fit_network(x, code_labels(labels, 3), 800, np.eye(4, 3, dtype=np.float32))
    assert (network.log_odds(x).argmax(axis=1) == labels).mean() > 0.8


def test_probabilities_of_each_group_add_up_to_one_even_for_huge_outputs():
    parameters = np.array([1, 1e4, -1e4, 5, 5, 0, 0, 0, 0], np.float32)
    network = SliceNetwork(parameters, (1, 1, 4), n_groups=2, ordered=True)
    p = network.probabilities(np.ones((1, 1), np.float32))
    np.testing.assert_allclose(p, [[[1, 0], [0.5, 0.5]]], atol=1e-6)
    assert np.isfinite(network.loss(np.ones((1, 1), np.float32), np.array([[0, 1, 1, 0]], np.float32)))


def test_what_is_unexplained_points_at_what_the_network_does_not_see():
    x, coded = problem()
    indicators = coded.indicators[:1_500]
    for known, hidden in ((0, []), (1, [0])):
        network = fit_network(x, coded, 1_500, np.eye(6, dtype=np.float32)[:, [known]])
        functions = network.unexplained(x[:1_500], indicators, network.directions(x[:1_500])[:, 0])
        assert functions.shape == (1_500, 3)
        np.testing.assert_allclose(functions.mean(axis=0), 0, atol=1e-5)
        others = x[:1_500].copy()
        others[:, known] = 0
        directions = informative_directions(others, functions, np.random.default_rng(0), 3, 1.4)
        assert list(np.argmax(abs(directions[:, :1]), axis=0)) == hidden  # the strongest


def test_directions_that_stronger_ones_hide_are_found_in_a_second_round():
    """y = sin(2 u) + v: correlation sees a mixture of u and v, second moments nothing; the truth is 1.44 nats."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4_000, 30))
    y = np.sin(2 * x[:, 0]) + x[:, 1] + 0.3 * rng.standard_normal(4_000)
    result = mutual_information(x, y, unit="nats", n_permutations=0)
    assert 1.2 < result.mi < 1.5
    assert "index" in result.space


def test_slices_share_the_samples_out_evenly():
    coded = code_coordinates(np.random.default_rng(4).standard_normal((800, 2)).astype(np.float32))
    assert coded.n_groups == 2
    assert coded.indicators.shape == (800, 16)
    assert (coded.indicators.sum(axis=0) == 100).all()
    assert code_coordinates(np.zeros((60, 1), np.float32)).indicators.shape == (60, 2)
