"""Speed of an estimate with its null and error bar: ratios to one plain FAISS search, and to the peers, in one run.

Run ``python -m benchmarks.speed``, some minutes; with ``--no-peers`` only the ratios to one search.

All times are medians, k = 3, normal scores unless said. A null of P permutations costs a peer P more
estimates: a few are timed and scaled to 1 + P, and the table says so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import faiss
import numpy as np

from benchmarks.peers import PEERS
from benchmarks.timing import machine, median_seconds
from mi_callback.estimation import Estimator, Variable
from mi_callback.estimation.estimator import Space
from mi_callback.estimation.neighbors import default_width
from mi_callback.estimation.spaces import normal_scores

K = 3
P = 100


def sample(n: int, d: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian layer (n, d) and targets (n, q) that depend on all of it."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, x.mean(axis=1, keepdims=True) * np.sqrt(d) + rng.standard_normal((n, q))


def one_search(x: np.ndarray) -> float:
    """Seconds of one plain IndexFlatL2 search with the table's width."""
    values = np.ascontiguousarray(x, np.float32)
    index = faiss.IndexFlatL2(values.shape[1])
    index.add(values)
    return median_seconds(lambda: index.search(values, default_width(len(values), K)))


def row(work: str, seconds: float, search: float) -> None:
    print(f"| {work} | {seconds:.3f} | {search:.3f} | {seconds / search:.2f} |", flush=True)


def against_one_search() -> None:
    estimator = Estimator(k=K, n_permutations=P, space="scores", unit="nats")
    x, y = sample(10_000, 64, 1)
    search = one_search(x)
    labels = np.digitize(y[:, 0], np.quantile(y[:, 0], np.linspace(0, 1, 11)[1:-1]))
    wide = sample(10_000, 64, 8)[1]
    print("| work (n = 10,000, d = 64, P = 100, with error bar) | seconds | one search | ratio |\n|---|---|---|---|")
    for name, target in [("continuous target", y[:, 0]), ("10 classes", labels), ("target of 8 dimensions", wide)]:
        known = Variable(target, name="y")
        estimator.estimate(Variable(x), known)
        row(name, median_seconds(lambda known=known: estimator.estimate(Variable(x), known)), search)
    inputs, known = Variable(sample(10_000, 64, 1, seed=1)[0], name="inputs"), Variable(y[:, 0], name="y")

    def both_planes() -> None:
        layer = Variable(x)
        estimator.estimate(layer, known)
        estimator.estimate(layer, inputs)

    row("both planes, input of 64 dimensions at hand", median_seconds(both_planes), search)
    small, target = sample(500, 8, 1)
    known = Variable(target[:, 0], name="y")
    seconds = median_seconds(lambda: estimator.estimate(Variable(small), known), repeats=15)
    row("n = 500, d = 8, P = 100, warm", seconds, one_search(small))


def seconds_in(space: Space, x: np.ndarray, known: Variable) -> float:
    estimator = Estimator(k=K, n_permutations=P, space=space)
    return median_seconds(lambda: estimator.estimate(Variable(x), known), repeats=5 if len(x) > 5_000 else 15)


def competing_spaces() -> None:
    """What spaces="auto" costs over normal scores, whether or not a fitted space wins."""
    print("\n| n, d | target | normal scores, s | auto, s | ratio |\n|---|---|---|---|---|")
    for n, d in [(10_000, 64), (2_000, 64), (2_000, 16), (350, 8)]:
        x, linear = sample(n, d, 1)
        rng = np.random.default_rng(1)
        u = x.mean(axis=1) * np.sqrt(d)
        targets = {
            "linear": linear[:, 0],
            "sin 2u": np.sin(2 * u) + 0.3 * rng.standard_normal(n),
            "independent": rng.standard_normal(n),
            "2 classes": (linear[:, 0] > 0).astype(int),
            "10 classes": np.digitize(linear[:, 0], np.quantile(linear[:, 0], np.linspace(0, 1, 11)[1:-1])),
        }
        for name, values in targets.items():
            known = Variable(values, name="y")
            plain, auto = (seconds_in(space, x, known) for space in ("scores", "auto"))
            print(f"| {n:,}, {d} | {name} | {plain:.3f} | {auto:.3f} | {auto / plain:.1f} |", flush=True)


def first_call() -> None:
    code = (
        "import time, numpy as np\n"
        "from mi_callback import mutual_information\n"
        "rng = np.random.default_rng(0); x = rng.standard_normal((2000, 64)); y = x[:, 0]\n"
        "seconds = []\n"
        "for _ in range(2):\n"
        "    start = time.perf_counter(); mutual_information(x, y, space='scores')\n"
        "    seconds.append(time.perf_counter() - start)\n"
        "print(*seconds)\n"
    )
    for _ in range(2):  # the first process fills the cache of compiled kernels
        first, second = map(
            float,
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split(),
        )
    print(f"\nFirst call in a process, caches warm: {first:.2f} s; second: {second:.2f} s")
    print("(n = 2,000, d = 64, P = 100).")


def against_peers() -> None:
    estimator = Estimator(k=K, n_permutations=P, space="scores", unit="nats")
    for n, d in [(2_000, 8), (10_000, 64)]:
        x, y = sample(n, d, 1)
        known = Variable(y[:, 0], name="y")
        ours = median_seconds(lambda x=x, known=known: estimator.estimate(Variable(x), known))
        print(f"\n| n = {n:,}, d = {d} | one estimate, s | 101 estimates, s, scaled | times ours |\n|---|---|---|---|")
        print(f"| mi_callback, P = {P}, with error bar | | {ours:.3f} | 1 |")
        scores, line = normal_scores(x), normal_scores(y)
        for name, peer in PEERS.items():
            repeats = 1 if n > 5_000 else 3
            seconds = median_seconds(lambda peer=peer, s=scores, t=line: peer(s, t, K), repeats, warm_up=repeats - 1)
            total = (1 + P) * seconds
            print(f"| {name} | {seconds:.3f} | {total:.1f} | {total / ours:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-peers", action="store_true", help="leave the other estimators out")
    options = parser.parse_args()
    print(machine() + "\n")
    against_one_search()
    competing_spaces()
    first_call()
    if not options.no_peers:
        against_peers()


if __name__ == "__main__":
    main()
