"""The forty tasks of Czyz et al. 2023, "Beyond Normal" (arXiv:2306.11078), beside what others published on them.

    python -m benchmarks.beyond_normal [--samples 1000 5000 10000] [--seeds 5] [--ours-only]

Written anew from the definitions in the authors' repository, cbg-ethz/bmi. Prints a Markdown table in nats, then one
line a sample size, and writes ``benchmarks/results/beyond_normal.json``. Nothing in the package is chosen on these.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks.cases import Case, dense, gaussian, pairs
from benchmarks.scoring import run, short

__all__ = ["tasks"]

Array = NDArray[np.float64]
Map = Callable[[Array], Array]

CORRELATION = 0.75  # of the pair that the one-dimensional tasks bend
PAIRED = 2.0**2 / (
    2.0**2 + 1
)  # correlation of two coordinates that share a cause of weight 2 and have noise of weight 1


# --- one-to-one maps --------------------------------------------------------------------------------------------------


def half_cube(x: Array) -> Array:
    """The signed power 3/2 of each coordinate."""
    return np.sign(x) * np.abs(x) ** 1.5


def wiggly_x(x: Array) -> Array:
    """A rising line with three waves on it; its slope is at least .16."""
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1) + 0.03 * np.sin(3.3 * x - 2.5)


def wiggly_y(x: Array) -> Array:
    """Another; its slope is at least .53."""
    return x - 0.4 * np.sin(0.4 * x) + 0.17 * np.sin(1.3 * x + 3.5) + 0.02 * np.sin(4.3 * x - 2.5)


def two_humps(share: float, left: float, right: float) -> Map:
    """Standard normals to a mixture of two unit Gaussians, the left one of the given share, quantile by quantile."""

    def to_mixture(z: Array) -> Array:
        level = ndtr(z)
        below, above = z + left, z + right  # a mixture's quantile lies between those of its parts
        for _ in range(60):  # halved to the resolution of a double
            middle = (below + above) / 2
            is_below = share * ndtr(middle - left) + (1 - share) * ndtr(middle - right) < level
            below, above = np.where(is_below, middle, below), np.where(is_below, above, middle)
        return (below + above) / 2

    return to_mixture


def swiss_roll(z: Array) -> Array:
    """Standard normals, made uniform, rolled up in the plane from 3/2 pi to 9/2 pi."""
    angle = 1.5 * np.pi * (1 + 2 * ndtr(z))
    return np.concatenate([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 21


def spiral(first: int) -> Map:
    """Turn the plane of coordinate ``first`` and the next by the squared norm over the dimension, in radians."""

    def turn(x: Array) -> Array:
        angle = (x**2).sum(axis=1) / x.shape[1]
        cos, sin = np.cos(angle), np.sin(angle)
        out = x.copy()
        out[:, first] = cos * x[:, first] - sin * x[:, first + 1]
        out[:, first + 1] = sin * x[:, first] + cos * x[:, first + 1]
        return out

    return turn


def spiral_of_uniforms(first: int) -> Map:
    """Standard normals, made uniform, then turned: the squared norm is that of the uniform values."""
    turn = spiral(first)
    return lambda z: turn(ndtr(z))


# --- tasks ------------------------------------------------------------------------------------------------------------


def additive_noise(width: float) -> Case:
    """X uniform on [0, 1], Y = X + U(-width, width): the entropy of a trapezoid, less that of the noise."""
    short_side, long_side = sorted((1.0, 2 * width))
    truth = short_side / (2 * long_side) + np.log(long_side / (2 * width))

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.random((n, 1))
        return x, x + rng.uniform(-width, width, (n, 1))

    return Case(f"additive uniform noise {width}", sample, float(truth))


def one_dimensional() -> list[Case]:
    """A pair of numbers, bent, and one of them rolled up in the plane."""
    cov = pairs(1, 1, [CORRELATION])
    return [
        gaussian("normal 1 x 1", cov, 1),
        gaussian("normal cdf of normal 1 x 1", cov, 1, embed=ndtr, embed_y=ndtr),
        additive_noise(0.1),
        additive_noise(0.75),
        gaussian("bimodal 1 x 1", cov, 1, embed=two_humps(0.3, 0, 5), embed_y=two_humps(0.5, -1, 3)),
        gaussian("wiggly 1 x 1", cov, 1, embed=wiggly_x, embed_y=wiggly_y),
        gaussian("half-cube of normal 1 x 1", cov, 1, embed=half_cube, embed_y=half_cube),
        student(1, 1),
        student(1, 1, np.arcsinh),
        gaussian("swiss roll 2 x 1", cov, 1, embed=swiss_roll, embed_y=ndtr),
    ]


def multinormal() -> list[Case]:
    """All coordinates correlated by one half, or two pairs of them."""
    return [
        *(gaussian(f"normal {d} x {d}, dense", dense(d, d, 1.0) / 2, d) for d in (2, 3, 5, 25, 50)),
        *(gaussian(f"normal {d} x {d}, two pairs", two_pairs(d), d) for d in (2, 3, 5, 25)),
    ]


def student(d: int, nu: int, embed: Map | None = None) -> Case:
    """Heavy tails without correlation: all information is in the common scale."""
    name = f"student {d} x {d}, {nu} degrees of freedom"
    return gaussian(name if embed is None else f"asinh of {name}", np.eye(2 * d), d, nu=nu, embed=embed, embed_y=embed)


def two_pairs(d: int) -> Array:
    """Covariance of d + d unit Gaussians, the first two of either side in pairs."""
    return pairs(d, d, [PAIRED, PAIRED])


def transformed() -> list[Case]:
    """Two pairs behind maps of all coordinates."""
    maps: dict[str, tuple[Map, Map]] = {
        "normal cdf": (ndtr, ndtr),
        "half-cube": (half_cube, half_cube),
        "spiral": (spiral(0), spiral(1)),
        "spiral of normal cdf": (spiral_of_uniforms(0), spiral_of_uniforms(1)),
    }
    return [
        gaussian(f"{name} of normal {d} x {d}, two pairs", two_pairs(d), d, embed=embed, embed_y=embed_y)
        for name, (embed, embed_y) in maps.items()
        for d in (3, 5, 25)
    ]


def tasks() -> list[Case]:
    """The forty, in the order of the paper's repository."""
    return [
        *one_dimensional(),
        *multinormal(),
        *(student(d, nu) for d, nu in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
        *transformed(),
        *(student(d, nu, np.arcsinh) for d, nu in ((2, 1), (3, 2), (5, 2))),
    ]


# --- what others published --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """Mean absolute errors over the forty tasks in nats, as printed, by sample size."""

    method: str
    mae: dict[int, str]


PUBLISHED = [
    Published("Alice Base", {1_000: ".092", 5_000: ".063", 10_000: ".060"}),
    Published("MINDE-C", {1_000: ".353", 5_000: ".070", 10_000: ".065"}),
    Published("InfoNCE", {1_000: ".887", 5_000: ".123", 10_000: ".083"}),
    Published("MINE", {1_000: ".248", 5_000: ".117", 10_000: ".108"}),
    Published("NWJ", {1_000: "> 10", 5_000: "1.26", 10_000: ".130"}),
    Published("D-V", {1_000: "1.23", 5_000: ".279", 10_000: ".144"}),
    Published("CCA", {1_000: ".195", 5_000: ".192", 10_000: ".181"}),
    Published("KSG", {1_000: ".288", 5_000: ".240", 10_000: ".219"}),
]
"""Franzese, Rossi & Michiardi 2026, table 2: means of five seeds, on a GPU."""


def main() -> None:
    """Print the tables and the summaries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 5_000, 10_000], help="sample sizes")
    parser.add_argument("--seeds", type=int, default=5, help="samples drawn of each task")
    parser.add_argument("--ours-only", action="store_true", help="without the published errors of others")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: expected at least 1")
    place = {case.name: i for i, case in enumerate(tasks())}
    summaries = [
        run(
            "beyond_normal",
            n,
            ((case, seed) for seed in range(options.seeds) for case in tasks()),
            lambda case, seed, n=n: np.random.default_rng((n, place[case.name], seed)),
        )
        for n in options.samples
    ]
    if not options.ours_only:
        print(f"\n| mean absolute error, nats | {' | '.join(f'n = {s.n:,}' for s in summaries)} |")
        print(f"|{'---|' * (len(summaries) + 1)}")
        print(f"| mi_callback | {' | '.join(short(s.mae) for s in summaries)} |")
        for other in PUBLISHED:
            print(f"| {other.method} | {' | '.join(other.mae.get(s.n, '—') for s in summaries)} |")
        print("\nThe others: Franzese, Rossi & Michiardi 2026, table 2, not run here.\n")
    print(*summaries, sep="\n")


if __name__ == "__main__":
    main()
