import io
import math

import numpy as np
import pytest
import torch

from mi_callback.estimation.records import Flag
from mi_callback.reporting import History
from mi_callback.reporting.series import ROW_KEYS

from .records import FAILED, a_history, estimate


def add(history, epoch, layer="a", quantity="target", **fields):
    history.append(epoch=epoch, step=10 * epoch, layer=layer, quantity=quantity, estimate=estimate(**fields))


def test_a_row_has_the_documented_keys_in_order_and_plain_values():
    history = History()
    history.append(
        epoch=np.int64(3),
        step=np.int64(30),
        layer="net.1",
        quantity="target",
        estimate=estimate(np.float64(1.5), flags=(Flag.CONSTANT, Flag.DUPLICATES), n_points=np.int64(200)),
    )
    (row,) = history.to_rows()
    assert (
        tuple(row)
        == ROW_KEYS
        == (
            "run",
            "epoch",
            "step",
            "data",
            "layer",
            "quantity",
            "mi",
            "low",
            "high",
            "raw",
            "null_mean",
            "null_std",
            "p_value",
            "stderr",
            "unit",
            "estimator",
            "space",
            "intrinsic_dim",
            "noise_std",
            "reduction",
            "n_samples",
            "n_points",
            "flags",
        )
    )
    assert row["flags"] == ["constant", "duplicates"]
    assert [type(value) for value in row.values()] == [
        int,
        int,
        int,
        str,
        str,
        str,
        float,
        float,
        float,
        float,
        float,
        float,
        float,
        float,
        str,
        str,
        str,
        float,
        type(None),
        type(None),
        int,
        int,
        list,
    ]


def test_rows_come_in_the_order_of_measurement():
    history = History()
    for epoch in (0, 5):
        for layer in ("b", "a"):
            for quantity in ("target", "input"):
                add(history, epoch, layer, quantity)
    found = [(r["epoch"], r["layer"], r["quantity"]) for r in history.to_rows()]
    assert found == [(e, layer, q) for e in (0, 5) for layer in "ba" for q in ("target", "input")]
    assert history.layers == ["b", "a"]
    assert history.quantities == ["target", "input"]
    assert len(history) == 8


def test_changing_a_row_does_not_change_the_history():
    history = a_history()
    history.to_rows()[0]["flags"].append("mine")
    history.to_rows()[0]["mi"] = 0.0
    assert history.to_rows()[0]["flags"] == []
    assert history.to_rows()[0]["mi"] != 0.0


def test_an_epoch_measured_again_replaces_the_earlier_row():
    history = History()
    for epoch, value in ((0, 1.0), (1, 2.0), (2, 3.0), (1, 9.0)):
        add(history, epoch, mi=value)
    assert len(history) == 3
    np.testing.assert_array_equal(history.series("target")["a"].epochs, [0, 1, 2])
    np.testing.assert_array_equal(history.series("target")["a"].mi, [1.0, 9.0, 3.0])


def test_runs_are_kept_apart_and_the_last_is_shown():
    history = History()
    history.begin_run()  # nothing to keep apart yet
    for run, layers in enumerate(("ab", "b")):
        for layer in layers:
            add(history, 0, layer, mi=float(run))
        history.set_ceiling("H(Y)", float(run))
        history.set_metric("loss", 0, float(run))
        if run == 0:
            history.begin_run()
    assert [(r["run"], r["layer"], r["mi"]) for r in history.to_rows()] == [(0, "a", 0.0), (0, "b", 0.0), (1, "b", 1.0)]
    assert (len(history), history.runs, history.layers) == (3, [0, 1], ["b"])
    assert history.series("target")["b"].mi.tolist() == [1.0]
    assert history.series("target", run=0)["b"].mi.tolist() == [0.0]
    assert (history.ceilings["H(Y)"].value, history.metrics) == (1.0, {"loss": {0: 1.0}})
    first = history.of_run(0)
    assert (first.layers, first.ceilings["H(Y)"].value, first.metrics) == (["a", "b"], 0.0, {"loss": {0: 0.0}})
    add(first, 1)
    assert len(history) == 3, "a copy"
    with pytest.raises(ValueError, match=r"run: expected one of \[0, 1\], got 2"):
        history.of_run(2)


def test_a_failed_measurement_is_an_ordinary_row():
    history = History()
    add(history, 0)
    history.append(epoch=1, step=1, layer="a", quantity="target", estimate=FAILED)
    row = history.to_rows()[1]
    assert math.isnan(row["mi"])
    assert row["p_value"] is None
    np.testing.assert_array_equal(np.isnan(history.series("target")["a"].mi), [False, True])


def test_series_follow_the_epochs_even_if_measured_out_of_order():
    history = History()
    for epoch in (4, 0, 2):
        add(history, epoch, mi=float(epoch), flags=(Flag.DUPLICATES,) if epoch == 2 else ())
    series = history.series("target")["a"]
    np.testing.assert_array_equal(series.epochs, [0, 2, 4])
    np.testing.assert_array_equal(series.mi, [0.0, 2.0, 4.0])
    np.testing.assert_array_equal(series.flagged, [False, True, False])
    assert history.series("input") == {}


def test_a_remark_does_not_make_an_estimate_doubtful():
    history = History()
    for epoch, flags in enumerate(((), (Flag.WITHIN_NULL,), (Flag.WITHIN_NULL, Flag.DUPLICATES))):
        add(history, epoch, flags=flags)
    np.testing.assert_array_equal(history.series("target")["a"].flagged, [False, False, True])


def test_state_survives_a_checkpoint_loaded_with_weights_only():
    history = a_history()
    history.append(epoch=50, step=400, layer="net.1", quantity="target", estimate=estimate(flags=(Flag.SINGLETONS,)))
    add(history, 60, p_value=None)
    history.set_ceiling("I(X;Y)", np.float64(3.4), 0.05)
    history.set_ceiling("log n", 8.45)
    history.set_metric("train_loss", 0, np.float32(0.5))
    file = io.BytesIO()
    torch.save(history.state_dict(), file)
    file.seek(0)
    loaded = History()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert loaded.to_rows() == history.to_rows()
    assert loaded.metrics == history.metrics == {"train_loss": {0: 0.5}}
    assert repr(loaded.ceilings) == repr(history.ceilings)  # NaN is not equal to itself
    add(loaded, 70)
    assert len(loaded) == len(history) + 1


def test_loading_something_else_is_an_error_that_says_what_was_expected():
    with pytest.raises(ValueError, match=r"state: expected what History.state_dict\(\) returns.*got \['rows'\]"):
        History().load_state_dict({"rows": []})


def test_units_do_not_mix():
    history = History()
    assert history.unit is None
    add(history, 0)
    assert history.unit == "bits"
    with pytest.raises(ValueError, match=r"estimate: expected unit 'bits'.*got 'nats'"):
        add(history, 1, unit="nats")


@pytest.mark.parametrize(
    ("name", "target", "input_"),
    [
        ("I(X;Y)", True, False),
        ("H(Y)", True, False),
        ("H(X)", False, True),
        ("log n", True, True),
        ("mine", True, True),
    ],
)
def test_a_ceiling_knows_what_it_bounds(name, target, input_):
    history = History()
    history.set_ceiling(name, 2.0)
    assert (name in history.ceilings_of("target"), name in history.ceilings_of("input")) == (target, input_)


def test_a_ceiling_can_be_told_what_it_bounds_and_replaced():
    history = History()
    history.set_ceiling("H(T)", 2.0)
    history.set_ceiling("H(T)", 3.0, 0.1, quantities=("input",))
    assert history.ceilings["H(T)"].value == 3.0
    assert list(history.ceilings_of("input")) == ["H(T)"]
    assert history.ceilings_of("target") == {}


def test_an_unknown_ceiling_bounds_nothing():
    history = History()
    history.set_ceiling("I(X;Y)", math.nan)
    assert history.ceilings_of("target") == {}


def test_the_limit_of_neighbour_estimates_bounds_no_other_estimator():
    history = History()
    history.set_ceiling("psi(n) - psi(k)", 7.0)
    history.set_ceiling("log n", 8.5)
    add(history, 0, quantity="target")
    add(history, 0, quantity="input", estimator="mixture", space="noise 0.3")
    assert set(history.ceilings_of("target")) == {"psi(n) - psi(k)", "log n"}
    assert set(history.ceilings_of("input")) == {"log n"}


def test_measurement_noise_is_told():
    history = History()
    space = "sparse random projection 20000 -> 1024, noise 0.3"
    add(history, 0, quantity="input", estimator="mixture", space=space, noise_std=0.3, reduction=space[:-11])
    history.append(epoch=1, step=1, layer="a", quantity="input", estimate=FAILED)
    add(history, 0, quantity="target")
    assert history.noise("input") == 0.3
    assert history.noise("target") is None
    loaded = History()
    loaded.load_state_dict(history.state_dict())
    assert loaded.noise("input") == 0.3
    assert loaded.to_rows()[0]["reduction"] == "sparse random projection 20000 -> 1024"


def test_a_state_of_the_first_format_still_loads():
    """Evidence: a state as version 0.1.0 wrote it, where noise and reduction stood in the name of the space only."""
    history = a_history(1, range(1))
    reduction = "sparse random projection 20000 -> 1024"
    add(history, 0, "wide", quantity="input", estimator="mixture", space=f"{reduction}, noise 0.3")
    add(history, 0, "wide", space=f"{reduction}, scores")
    add(history, 1, "b", quantity="input", estimator="mixture", space="noise 0.5")
    state = history.state_dict()
    state["format"] = "mi_callback.history/1"
    del state["columns"]["noise_std"], state["columns"]["reduction"]
    loaded = History()
    loaded.load_state_dict(state)
    found = [(r["noise_std"], r["reduction"]) for r in loaded.to_rows()]
    assert found == [(None, None)] * 2 + [(0.3, reduction), (None, reduction), (0.5, None)]
    assert [r["mi"] for r in loaded.to_rows()] == [r["mi"] for r in history.to_rows()]


def test_usable_information_above_an_estimated_ceiling_withdraws_it():
    """I(X;Y) read as 1.1 where a decoder attains 3.2: the ceiling goes, and with it what layers were accused of."""
    history = History()
    history.set_ceiling("I(X;Y)", 1.1, 0.05)
    history.set_ceiling("log n", 8.0)
    add(history, 0, mi=2.0, flags=(Flag.ABOVE_CEILING, Flag.DRIFT))
    add(history, 0, quantity="usable", mi=1.15)
    assert "I(X;Y)" in history.ceilings_of("target")
    add(history, 1, quantity="usable", mi=3.2)
    assert list(history.ceilings) == ["log n"]
    assert history.to_rows()[0]["flags"] == ["drift"]
    history.set_ceiling("I(X;Y)", 1.1, 0.05)
    assert list(history.ceilings) == ["log n"], "it stays withdrawn, whoever sets it again"
    history.set_ceiling("I(X;Y)", 1.1)
    assert "I(X;Y)" in history.ceilings, "what has no standard error is no estimate"


def test_flags_against_another_ceiling_stay():
    history = History()
    history.set_ceiling("I(X;Y)", 1.1, 0.05)
    history.set_ceiling("H(Y)", 2.0)
    add(history, 0, mi=2.5, flags=(Flag.ABOVE_CEILING,))
    add(history, 0, quantity="usable", mi=1.9)
    assert list(history.ceilings) == ["H(Y)"]
    assert history.to_rows()[0]["flags"] == ["above_ceiling"]
