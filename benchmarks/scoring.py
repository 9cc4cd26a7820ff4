"""Estimates beside known truths: one row each, the summary of many, and the file they are kept in.

A file under ``benchmarks/results`` holds one run a sample size, with what it was made by; a new run at a size takes the
place of the earlier one. Values are in nats. ``null`` stands for an interval that is open at the top, and for NaN.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.cases import Case
from mi_callback import mutual_information
from mi_callback.estimation.parallel import n_workers

__all__ = ["RESULTS", "Row", "Summary", "measure", "run"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One estimate of a known truth.

    Attributes:
        case: name of the case.
        n: number of samples.
        seed: of the sample.
        d: width of x.
        q: width of y.
        truth: in nats, as mi, stderr, low and high.
        mi: the estimate.
        stderr: its standard error.
        low: lower end of the interval.
        high: upper end, infinite where it is open.
        flags: labels of all flags.
        doubted: whether one of them casts doubt on the value.
        p: of the permutation null.
        estimator: what read it.
        space: where.
        seconds: on the clock.
        processor_seconds: of all processors together, which a busy machine does not lengthen.
    """

    case: str
    n: int
    seed: int
    d: int
    q: int
    truth: float
    mi: float
    stderr: float
    low: float
    high: float
    flags: tuple[str, ...]
    doubted: bool
    p: float | None
    estimator: str
    space: str
    seconds: float
    processor_seconds: float

    @property
    def error(self) -> float:
        """Absolute error in nats."""
        return abs(self.mi - self.truth)

    @property
    def is_covered(self) -> bool:
        """Whether the interval holds the truth; one that is not there holds nothing."""
        return self.low <= self.truth <= self.high

    @property
    def is_far(self) -> bool:
        """Whether it is off by more than 20 % and more than .05 nats: what a flag should tell."""
        return self.error > max(0.2 * self.truth, 0.05)

    def __str__(self) -> str:
        high = "open" if math.isinf(self.high) else f"{self.high:.3f}"
        return (
            f"| {self.case} | {self.n} | {self.d} x {self.q} | {self.truth:.3f} | {self.mi:.3f} | {self.low:.3f} to "
            f"{high} | {', '.join(self.flags)} | {self.estimator}, {self.space} | {self.seconds:.1f} |"
        )


HEAD = "| case | n | width | truth | mi | interval | flags | read by | s |\n|---|---|---|---|---|---|---|---|---|"


def measure(case: Case, n: int, seed: int, rng: np.random.Generator) -> Row:
    """The estimate at the default options, but for 20 permutations, of n samples drawn by ``rng``."""
    x, y = case.sample(n, rng)
    began, used = time.perf_counter(), time.process_time()
    # None leaves it to the package to see that a continuous y is one, as a user would.
    estimate = mutual_information(x, y, unit="nats", n_permutations=20, discrete=case.discrete or None)
    seconds, processor_seconds = time.perf_counter() - began, time.process_time() - used
    low, high = estimate.interval
    return Row(
        case=case.name,
        n=n,
        seed=seed,
        d=x.shape[1],
        q=y.shape[1],
        truth=case.truth,
        mi=float(estimate.mi),
        stderr=float(estimate.stderr),
        low=float(low),
        high=float(high),
        flags=tuple(flag.label for flag in estimate.flags),
        doubted=any(flag.is_doubt for flag in estimate.flags),
        p=None if estimate.p_value is None else float(estimate.p_value),
        estimator=estimate.estimator,
        space=estimate.space,
        seconds=seconds,
        processor_seconds=processor_seconds,
    )


@dataclass(frozen=True)
class Summary:
    """What many rows of one sample size come to.

    Errors are first averaged over the seeds of a case; all else is counted over rows.

    Attributes:
        n: number of samples.
        cases: number of cases.
        rows: number of estimates.
        mae: mean of the cases' absolute errors, in nats.
        median: their median.
        worst: the largest.
        within: number of cases off by .1 nats at most.
        coverage: share of intervals that hold the truth.
        low_above: share of intervals that begin above the truth.
        open_top: share of intervals that are open at the top.
        far: number of estimates off by more than 20 % and .05 nats.
        doubted: number of estimates with a flag that casts doubt.
        recall: share of the far ones that are doubted; NaN if none is far.
        precision: share of the doubted ones that are far; NaN if none is doubted.
        seconds: on the clock, in all.
        processor_seconds: of all processors together.
    """

    n: int
    cases: int
    rows: int
    mae: float
    median: float
    worst: float
    within: int
    coverage: float
    low_above: float
    open_top: float
    far: int
    doubted: int
    recall: float
    precision: float
    seconds: float
    processor_seconds: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Summary:
        """The summary of at least one row, all of one sample size."""
        errors = defaultdict(list)
        for row in rows:
            errors[row.case].append(row.error)
        by_case = np.array([np.mean(errors_) for errors_ in errors.values()])
        hits = sum(row.is_far and row.doubted for row in rows)
        far, doubted = sum(row.is_far for row in rows), sum(row.doubted for row in rows)
        return cls(
            n=rows[0].n,
            cases=len(by_case),
            rows=len(rows),
            mae=float(by_case.mean()),
            median=float(np.median(by_case)),
            worst=float(by_case.max()),
            within=int((by_case <= 0.1).sum()),
            coverage=float(np.mean([row.is_covered for row in rows])),
            low_above=float(np.mean([row.low > row.truth for row in rows])),
            open_top=float(np.mean([row.high == math.inf for row in rows])),
            far=far,
            doubted=doubted,
            recall=hits / far if far else math.nan,
            precision=hits / doubted if doubted else math.nan,
            seconds=sum(row.seconds for row in rows),
            processor_seconds=sum(row.processor_seconds for row in rows),
        )

    def __str__(self) -> str:
        return (
            f"n = {self.n:,}: MAE {short(self.mae)} median {short(self.median)} worst {short(self.worst)} "
            f"within .1: {self.within} of {self.cases}, coverage {short(self.coverage, 2)}, "
            f"low above truth {short(self.low_above, 2)}, open at top {short(self.open_top, 2)}, "
            f"{self.seconds:.0f} seconds ({self.processor_seconds:.0f} of processors); "
            f"doubt flags: recall {short(self.recall, 2)} of {self.far} far off, "
            f"precision {short(self.precision, 2)} of {self.doubted} flagged"
        )


def short(value: float, digits: int = 3) -> str:
    """A number that is not negative, without the zero before its point."""
    return "—" if math.isnan(value) else f"{value:.{digits}f}".lstrip("0")


def run(name: str, n: int, cases: Iterable[tuple[Case, int]], generator: Callable[..., np.random.Generator]) -> Summary:
    """Measure pairs of a case and a seed at n samples, print each, and keep them in ``results/name.json`` as they come.

    Args:
        name: of the file.
        n: number of samples.
        cases: what to measure.
        generator: ``(case, seed) -> rng`` of the sample.
    """
    made_by = provenance()
    rows: list[Row] = []
    print(HEAD)
    for case, seed in cases:
        rows.append(measure(case, n, seed, generator(case, seed)))
        print(rows[-1], flush=True)
        _keep(RESULTS / f"{name}.json", n, made_by, rows)
    return Summary.of(rows)


def provenance() -> dict[str, object]:
    """What results were made by: versions, commit, cores and date."""
    packages = ("numpy", "scipy", "numba", "faiss-cpu", "torch")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit.stdout.strip() or None,
        "cores": n_workers(),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
    }


def _keep(path: Path, n: int, made_by: dict[str, object], rows: Sequence[Row]) -> None:
    """Put the run at n into the file, in place of an earlier one at that size."""
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    this = {"n": n} | made_by | {"summary": asdict(Summary.of(rows)), "rows": [asdict(row) for row in rows]}
    runs = sorted([other for other in runs if other["n"] != n] + [_finite(this)], key=lambda one: one["n"])
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".part")  # an interrupted run must not leave half a file
    text = json.dumps({"runs": runs}, allow_nan=False).replace("}, {", "},\n{")  # a row a line, for differences
    unfinished.write_text(text + "\n")
    unfinished.replace(path)


def _finite(value: object) -> object:
    """The same with None for what JSON cannot say, and floats to six digits."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
