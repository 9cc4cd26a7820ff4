import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation.spaces.directions import informative_directions
from mi_callback.estimation.spaces.network import code_coordinates, code_labels, fit_network, refine


def problem(seed=0, n=2_000, d=6):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    y = (x[:, :1] ** 2 + 0.3 * rng.standard_normal((n, 1))).astype(np.float32)
    return x, code_coordinates(y)


def fitted(x, coded, n_fit=1_500, **options):
    held_out = x[n_fit:], coded.indicators[n_fit:]
    return fit_network(
        x[:n_fit], coded.indicators[:n_fit], held_out, coded.n_groups, ordered=coded.ordered, hidden=(16, 16), **options
    )


@pytest.mark.parametrize("projects", [True, False])
def test_gradients_equal_differences_of_the_loss(projects):
    x, coded = problem(n=64, d=3)
    start = np.eye(3, 2, dtype=np.float32) if projects else None
    network = fitted(x, coded, n_fit=48, directions=start)
    slope = network.gradient(x, coded.indicators)
    parts = [*network.weights, *network.biases]
    ends = np.cumsum([part.size for part in parts])
    for part, start in zip(parts, ends - [part.size for part in parts], strict=True):
        at = start + np.argmax(abs(slope[start : start + part.size]))
        before, step = network.parameters[at], np.float32(2e-3)
        network.parameters[at] = before + step
        above = network.loss(x, coded.indicators)
        network.parameters[at] = before - step
        below = network.loss(x, coded.indicators)
        network.parameters[at] = before
        assert slope[at] == pytest.approx((above - below) / (2 * step), rel=0.1, abs=2e-3)


def test_it_learns_and_prunes_to_the_one_direction_that_matters():
    x, coded = problem()
    network = fitted(x, coded, directions=np.eye(6, 3, dtype=np.float32))
    pruned = network.pruned(x[:1_500], x[1_500:], coded.indicators[1_500:])
    assert network.loss(x[1_500:], coded.indicators[1_500:]) < np.log(16) - 0.5
    assert pruned.weights[0].shape[1] == 1
    assert abs(pruned.weights[0][1:]).max() < 0.15 * abs(pruned.weights[0][0, 0])
    assert pruned.directions(x).shape == (6, 1)
    refined = refine(pruned, x, coded.indicators)
    assert refined.loss(x, coded.indicators) < pruned.loss(x, coded.indicators)


def test_log_odds_follow_the_order_of_slices():
    x, coded = problem()
    odds = fitted(x, coded, directions=np.eye(6, 1, dtype=np.float32)).log_odds(x)
    assert odds.shape == (len(x), 15)
    assert (np.diff(odds, axis=1) >= -1e-5).all()  # below a higher boundary is likelier
    assert np.corrcoef(odds[:, 7], x[:, 0] ** 2)[0, 1] < -0.8


def test_labels_have_log_probabilities():
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=1_000)
    x = (rng.standard_normal((1_000, 4)) + 2 * np.eye(3, 4)[labels]).astype(np.float32)
    network = fitted(x, code_labels(labels, 3), n_fit=800)
    assert (network.log_odds(x).argmax(axis=1) == labels).mean() > 0.8


def test_softmax_of_each_group_adds_up_to_one_even_for_huge_outputs():
    p = np.array([[1e4, -1e4, 0, 5, 5]], np.float32)
    kernels.softmax(p, np.array([0, 2, 5]))
    np.testing.assert_allclose(p, [[1, 0, 0.0033, 0.4983, 0.4983]], atol=1e-3)


def test_a_network_behind_its_rival_is_given_up():
    x, coded = problem()
    patient, hurried = (fitted(x, coded, rival=rival) for rival in (np.inf, -np.inf))
    assert hurried.loss(x, coded.indicators) >= patient.loss(x, coded.indicators)


def test_what_is_unexplained_points_at_what_the_network_does_not_see():
    x, coded = problem()
    indicators = coded.indicators[:1_500]
    for known, hidden in ((0, []), (1, [0])):
        network = fitted(x, coded, directions=np.eye(6, dtype=np.float32)[:, [known]])
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
