"""How cost grows with n, d and P: seconds, fitted exponents, and peak memory over the inputs.

python -m benchmarks.scaling          # up to n = 50,000; some minutes
python -m benchmarks.scaling --quick  # up to n = 10,000
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np

from benchmarks.speed import K, sample
from benchmarks.timing import machine, median_seconds
from mi_callback.estimation import Estimator, Variable

_PEAK = """
import sys
import numpy as np
from benchmarks.speed import sample
from mi_callback.estimation import Estimator, Variable
def peak():  # of this process alone: getrusage would hand down that of the parent
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
n, d, p = map(int, sys.argv[1:])
estimator = Estimator(n_permutations=p, space="scores")
x, y = sample(n, d, 1)
estimator.estimate(Variable(x[:300]), Variable(y[:300, 0]))
before = peak()
estimator.estimate(Variable(x), Variable(y[:, 0]))
print((peak() - before) / 1e6)
"""


def seconds(n: int, d: int, n_permutations: int) -> float:
    estimator = Estimator(k=K, n_permutations=n_permutations, space="scores")
    x, y = sample(n, d, 1)
    known = Variable(y[:, 0], name="y")
    return median_seconds(lambda: estimator.estimate(Variable(x), known), repeats=1 if n > 10_000 else 3)


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of log time over log size."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def sweep(name: str, sizes: list[int], times: list[float], fitted: slice) -> None:
    print(f"\n{name}:", ", ".join(f"{s:,}: {t:.3f} s" for s, t in zip(sizes, times, strict=True)))
    print(f"growth exponent {exponent(sizes[fitted], times[fitted]):.2f} over {sizes[fitted]}", flush=True)


def peak_gigabytes(n: int, d: int, n_permutations: int) -> float:
    """Peak resident memory of one estimate over that of its inputs, in a process of its own, in GB; Linux only."""
    command = [sys.executable, "-c", _PEAK, str(n), str(d), str(n_permutations)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="stop at n = 10,000")
    options = parser.parse_args()
    print(machine())
    ns = [1_000, 2_000, 5_000, 10_000] + ([] if options.quick else [20_000, 50_000])
    sweep("n (d = 64, P = 100)", ns, [seconds(n, 64, 100) for n in ns], slice(2, None))
    ds = [2, 8, 64, 256, 512]
    sweep("d (n = 10,000, P = 100)", ds, [seconds(10_000, d, 100) for d in ds], slice(2, None))
    ps = [0, 10, 100, 1_000]
    times = [seconds(10_000, 64, p) for p in ps]
    sweep("P (n = 10,000, d = 64)", ps, times, slice(2, None))
    print(f"one permutation costs {(times[-1] - times[0]) / ps[-1] * 1000:.1f} ms")
    print("\nPeak memory over the inputs, GB (d = 64, P = 100):")
    for n in [10_000] + ([] if options.quick else [50_000]):
        print(f"n = {n:,}: {peak_gigabytes(n, 64, 100):.2f}", flush=True)


if __name__ == "__main__":
    main()
