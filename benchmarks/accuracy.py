"""How far estimates are from known truths: this package beside plain neighbours, a Gaussian copula and a neural bound.

    python -m benchmarks.accuracy [--cases WORD ...] [--seeds 1] [--neural]

Prints a Markdown table in nats and the mean absolute errors. A dash stands where a method does not apply.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case, family
from mi_callback import mutual_information
from mi_callback.estimation.spaces import normal_scores

Array = NDArray[np.float64]


def ours(t: Array, y: Array, case: Case) -> tuple[float, str]:
    """The default: spaces in competition."""
    estimate = mutual_information(t, y, unit="nats", n_permutations=20, discrete=case.discrete)
    return estimate.mi, estimate.space.replace("supervised: ", "")


def plain_scores(t: Array, y: Array, case: Case) -> tuple[float, str]:
    """Normal scores on the balanced scale."""
    estimate = mutual_information(t, y, unit="nats", space="scores", n_permutations=0, discrete=case.discrete)
    return estimate.raw, ""


def classic(t: Array, y: Array, case: Case) -> tuple[float, str]:
    """Chebyshev distances of the values as given, as most tools take them."""
    estimate = mutual_information(
        t, y, unit="nats", space="raw", metric="chebyshev", n_permutations=0, discrete=case.discrete
    )
    return estimate.raw, ""


def gaussian_copula(t: Array, y: Array, case: Case) -> tuple[float, str]:
    """Exact for a Gaussian of which each coordinate was bent monotonically (Ince et al. 2017)."""
    if case.discrete:
        return math.nan, ""
    z = np.concatenate([normal_scores(t), normal_scores(y)], axis=1)
    d = t.shape[1]
    cov = np.cov(z.T) + 1e-6 * np.eye(z.shape[1])
    logs = [np.linalg.slogdet(c)[1] for c in (cov[:d, :d], np.atleast_2d(cov[d:, d:]), cov)]
    return float(logs[0] + logs[1] - logs[2]) / 2, ""


def neural(t: Array, y: Array, case: Case) -> tuple[float, str]:
    """InfoNCE (van den Oord et al. 2018), separable critic: fitted on half, stopped on a quarter, read on the rest."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    z = normal_scores(t)
    w = np.eye(int(y.max()) + 1)[y[:, 0].astype(int)] if case.discrete else normal_scores(y)
    a, b = (torch.as_tensor(v, dtype=torch.float32) for v in (z, w))
    n, batch = len(a), 256
    order = torch.randperm(n)
    fit, stop, read = order[: n // 2], order[n // 2 : 3 * n // 4], order[3 * n // 4 :]

    def tower(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32))

    f, g = tower(a.shape[1]), tower(b.shape[1])
    optimizer = torch.optim.Adam([*f.parameters(), *g.parameters()], lr=1e-3, weight_decay=1e-4)

    def bound(rows: torch.Tensor) -> torch.Tensor:
        scores = f(a[rows]) @ g(b[rows]).T
        return math.log(len(rows)) - nn.functional.cross_entropy(scores, torch.arange(len(rows)))

    def held_out(rows: torch.Tensor) -> float:
        size = min(batch, len(rows))
        with torch.no_grad():
            return float(np.mean([float(bound(rows[i : i + size])) for i in range(0, len(rows) - size + 1, size)]))

    best, value = -math.inf, 0.0
    for step in range(1500):
        optimizer.zero_grad()
        (-bound(fit[torch.randint(len(fit), (min(batch, len(fit)),))])).backward()
        optimizer.step()
        if step % 50 == 49 and (now := held_out(stop)) > best:
            best, value = now, held_out(read)
    return value, ""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=[""], help="parts of names of cases")
    parser.add_argument("--seeds", type=int, default=1, help="samples drawn of each case")
    parser.add_argument("--neural", action="store_true", help="also a neural bound, which takes seconds a case")
    options = parser.parse_args()
    methods: dict[str, Callable[[Array, Array, Case], tuple[float, str]]] = {
        "mi_callback": ours,
        "normal scores": plain_scores,
        "classic KSG": classic,
        "Gaussian copula": gaussian_copula,
    }
    if options.neural:
        methods["InfoNCE"] = neural
    errors: dict[str, list[float]] = {name: [] for name in methods}
    print(f"| case | n | width | truth | {' | '.join(methods)} | space | s |")
    print(f"|{'---|' * (len(methods) + 6)}")
    for case in family():
        if not any(word in case.name for word in options.cases):
            continue
        values: dict[str, list[float]] = {name: [] for name in methods}
        space, seconds = "", 0.0
        for seed in range(options.seeds):
            t, y = case.sample(case.n, np.random.default_rng(seed + 100))
            for name, method in methods.items():
                start = time.perf_counter()
                value, how = method(t, y, case)
                values[name].append(value)
                if method is ours:
                    space, seconds = how, time.perf_counter() - start
        for name, of_method in values.items():
            if not math.isnan(of_method[0]):
                errors[name].append(float(np.mean(np.abs(np.array(of_method) - case.truth))))
        cells = ["—" if math.isnan(v[0]) else f"{np.mean(v):.3f}" for v in values.values()]
        print(
            f"| {case.name} | {case.n} | {t.shape[1]} x {y.shape[1]} | {case.truth:.3f} "
            f"| {' | '.join(cells)} | {space} | {seconds:.1f} |",
            flush=True,
        )
    means = ["—" if not e else f"{np.mean(e):.3f}" for e in errors.values()]
    print(f"| **mean absolute error** | | | | {' | '.join(means)} | | |")


if __name__ == "__main__":
    main()
