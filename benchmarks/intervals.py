"""How often the interval holds the truth and flags tell errors: random dependences of known information.

    python -m benchmarks.intervals [--samples 1000 4000] [--first 1000 --cases 120]

Seeds below 1,000 were used up in choosing constants. Prints a Markdown table in nats, then one line a sample size, and
writes ``benchmarks/results/intervals.json``.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.families import TUNING, random_case
from benchmarks.scoring import run


def main() -> None:
    """Print the table and the summaries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 4_000], help="sample sizes")
    parser.add_argument("--first", type=int, default=TUNING.stop, help="first seed of the cases")
    parser.add_argument("--cases", type=int, default=120, help="number of cases")
    options = parser.parse_args()
    if options.first in TUNING:
        parser.error(f"--first {options.first}: constants were chosen on seeds {TUNING}; take {TUNING.stop} or more")
    if options.cases < 1:
        parser.error(f"--cases {options.cases}: expected at least 1")
    seeds = range(options.first, options.first + options.cases)
    summaries = [
        run(
            "intervals",
            n,
            ((random_case(seed, n), seed) for seed in seeds),
            lambda case, seed, n=n: np.random.default_rng((seed, n)),
        )
        for n in options.samples
    ]
    print(*summaries, sep="\n")


if __name__ == "__main__":
    main()
