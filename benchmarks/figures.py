"""Seconds to draw and render each figure of a deep and long run: 40 layers, 1,000 epochs.

Run ``python -m benchmarks.figures``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from benchmarks.timing import machine, median_seconds
from mi_callback.estimation import MutualInformation
from mi_callback.reporting import History, curves, depth_profile, heat_map, information_plane, overlay

LAYERS, EPOCHS = 40, 1_000

FIGURES: dict[str, Callable[[History], Figure]] = {
    "information plane": information_plane,
    "curves": curves,
    "heat map": heat_map,
    "depth profile": depth_profile,
    "overlay of two runs": lambda history: overlay([history, history]),
}


def history() -> History:
    """Curves that rise on the target and fall on the input, with a little noise."""
    rng = np.random.default_rng(0)
    made = History()
    for epoch in range(EPOCHS):
        for layer in range(LAYERS):
            for quantity, slope in (("target", 1.0), ("usable", 2.0), ("input", -1.0)):
                value = 4 + slope * math.tanh(epoch / 100) - layer / LAYERS + 0.02 * rng.standard_normal()
                made.append(
                    epoch=epoch,
                    step=epoch,
                    layer=f"net.{layer}",
                    quantity=quantity,
                    estimate=MutualInformation(
                        mi=value,
                        raw=value,
                        null=np.zeros(2),
                        null_mean=0.0,
                        null_std=0.05,
                        p_value=0.01,
                        stderr=0.1,
                        unit="bits",
                        k=3,
                        n_samples=350,
                        estimator="ksg",
                        space="scores",
                        intrinsic_dim=2.0,
                    ),
                )
    return made


def main() -> None:
    print(machine())
    known = history()
    for name, draw in FIGURES.items():
        seconds = median_seconds(lambda draw=draw: draw(known).savefig(io.BytesIO(), format="png"))
        print(f"{name}: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
