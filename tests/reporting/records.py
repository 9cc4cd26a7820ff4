"""Estimates and histories for the tests, made without estimating anything."""

from __future__ import annotations

import math

import numpy as np

from mi_callback.estimation.records import Flag, MutualInformation, Unit
from mi_callback.reporting import History


def estimate(
    mi: float = 1.0,
    *,
    raw: float | None = None,
    null_std: float = 0.05,
    p_value: float | None = 0.01,
    stderr: float = 0.1,
    unit: Unit = "bits",
    flags: tuple[Flag, ...] = (),
    estimator: str = "ksg",
    space: str = "scores",
    noise_std: float | None = None,
    reduction: str | None = None,
    n_points: int | None = None,
) -> MutualInformation:
    return MutualInformation(
        mi=mi,
        raw=mi + 0.02 if raw is None else raw,
        null=np.array([0.0, 0.04]),
        null_mean=0.02,
        null_std=null_std,
        p_value=p_value,
        stderr=stderr,
        unit=unit,
        k=3,
        n_samples=350,
        estimator=estimator,
        space=space,
        intrinsic_dim=1.5,
        flags=flags,
        noise_std=noise_std,
        reduction=reduction,
        n_points=n_points,
        interval=(mi - 2 * stderr, mi + 3 * stderr),
    )


FAILED = estimate(math.nan, raw=math.nan, null_std=math.nan, p_value=math.nan, stderr=math.nan, estimator="none")

DEEP = [*(f"model.encoder.layer.{i}.intermediate.act" for i in range(2)), "output"]  # names that do not fit


def a_history(
    n_layers: int = 3,
    epochs: range = range(0, 50, 10),
    quantities: tuple[str, ...] = ("target", "input"),
    seed: int = 0,
    layers: list[str] | None = None,
) -> History:
    """A history of smooth curves: on the target they rise to 3 bits, on the input they rise and fall.

    With quantities such as "input_noise_0.3" the input is measured with noise, of sigma 0.05 for "input" itself.
    """
    rng = np.random.default_rng(seed)
    history = History()
    names = layers or [f"net.{2 * i + 1}" for i in range(n_layers - 1)] + ["output"]
    n_layers = len(names)
    sweep = {q: float(q.rsplit("_", 1)[1]) for q in quantities if q.startswith("input_noise_")}
    noise = {"input": 0.05, **sweep} if sweep else {}
    for epoch in epochs:
        t = epoch / max(epochs.stop - 1, 1)
        for i, layer in enumerate(names):
            depth = (i + 1) / n_layers
            values = {
                "target": 3.0 - depth * math.exp(-4 * t),
                "input": 5.0 - 2 * depth + depth * (1 - math.exp(-12 * t)) - depth * t,
                "usable": 3.0 * (1 - math.exp(-4 * t)) * depth,
            }
            for quantity in quantities:
                known = values["input"] * (1 - noise[quantity] / 2) if quantity in noise else values[quantity]
                measured = estimate(
                    known + 0.02 * rng.standard_normal(),
                    estimator="mixture" if quantity in noise else "ksg",
                    space=f"noise {noise[quantity]:g}" if quantity in noise else "scores",
                    noise_std=noise.get(quantity),
                )
                history.append(epoch=epoch, step=8 * epoch, layer=layer, quantity=quantity, estimate=measured)
    return history
