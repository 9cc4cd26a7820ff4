"""I(X; T + sigma Z) of a deterministic layer T = f(X) under Gaussian measurement noise.

The noisy layer is a mixture of Gaussians with known centres, the activations, so nothing has to be guessed from
neighbours: I = h(mixture) - h(noise), with the mixture's density summed over all samples (Goldfeld et al. 2019,
"Estimating information flow in deep neural networks", arXiv:1810.05728).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mi_callback.estimation.entropy import group_rows
from mi_callback.estimation.permutation import stream

__all__ = ["MixtureTerms", "mixture_information"]

_BLOCK_BYTES = 1 << 24  # a block of kernel values; small enough to stay in a shared cache
_MIN_DRAWS = 2_000  # noisy points at the least: few samples get several draws each
_FLOAT32_LIMIT = 2e3  # largest squared norm in units of the noise whose float32 rounding stays below 1e-3 nats

_RESOLVED = 1e6  # largest deviation in units of the noise: beyond it double precision does not resolve the noise


@dataclass(frozen=True, slots=True, eq=False)
class MixtureTerms:
    """What the estimate of I(X; T + sigma Z) is made of, in nats.

    Attributes:
        local: shape (Q,), the contributions of the samples, or of the evaluation points; their mean is the estimate
            and their spread over sqrt(Q) its standard error.
        lower: lower bound of Kolchinsky & Tracey (2017, doi:10.3390/e19070361), from Bhattacharyya distances.
        upper: upper bound of Kolchinsky & Tracey, from Kullback-Leibler divergences.
        half: mean of the estimates on the two halves of the sample, for how much it still moves with n.
        half_stderr: standard error of ``mean(local) - half``.
    """

    local: NDArray[np.float64]
    lower: float
    upper: float
    half: float
    half_stderr: float


def mixture_information(
    activations: ArrayLike, noise_std: float, *, seed: int = 0, points: NDArray[np.integer] | None = None
) -> MixtureTerms:
    r"""I(X; T + sigma Z) by the Gaussian-mixture estimator, in nats.

    .. math:: I = -E \log \frac1n \sum_j \exp(-|t_i - s_j|^2 / 2 \sigma^2) - d / 2, \quad t_i = s_i + \sigma z_i

    The sum runs over all samples: what lies beyond a table of neighbours carries most of it in more than a few
    dimensions. The mean over the noise is taken with ``|z|^2``, whose expectation is d, as a control variate. The
    estimate cannot exceed log n, and falls short of the truth when it comes near it. The two bounds hold for the
    empirical distribution of the activations.

    The same seed draws the same noise for every layer of the same width and every epoch, so that a curve moves with
    the network alone.

    Args:
        activations: shape (n, d), the clean activations s.
        noise_std: standard deviation sigma of the noise on each unit, in the units of the activations.
        seed: seeds the noise and the halves.
        points: shape (Q,), evaluation points: the samples whose contributions are taken, each from the mixture of all.
            None for all.

    Raises:
        ValueError: if ``noise_std`` is not positive and finite, or lost in rounding beside the activations; or if these
            are not finite.
    """
    if not (np.isfinite(noise_std) and noise_std > 0):
        raise ValueError(
            f"noise_std: expected a positive, finite number, got {noise_std!r}. "
            "Give the standard deviation of the measurement noise in the units of the activations."
        )
    s = np.asarray(activations, dtype=np.float64)
    s = s.reshape(len(s), -1)
    if not np.isfinite(s).all():
        raise ValueError(
            "activations: expected finite numbers, got NaN or infinity. Check the layer, or leave this epoch out."
        )
    s = (s - s.mean(axis=0)) / noise_std  # centred, so that distances by matrix product cancel as little as possible
    n, d = s.shape
    if float(np.abs(s).max(initial=0.0)) > _RESOLVED:
        raise ValueError(
            f"noise_std={noise_std!r}: expected at least a millionth of the activations' spread, which "
            f"reaches {np.abs(s).max() * noise_std:.3g}. Give more noise, or see if training diverges."
        )
    groups = group_rows(s)
    centres = s[groups.first]
    rng = stream(seed, 0x3A7)
    in_first_half = np.zeros(n, dtype=bool)
    in_first_half[rng.permutation(n)[: n // 2]] = True
    m = len(centres)
    weights = np.stack([np.bincount(groups.inverse[part], minlength=m) for part in (in_first_half, ~in_first_half)], 1)

    if points is not None:
        s, in_first_half = s[points], in_first_half[points]
    q = len(s)
    lower, upper = _pairwise_bounds(centres, groups.counts, None if points is None else groups.inverse[points])
    n_draws = -(-_MIN_DRAWS // q)
    full, half = np.empty((n_draws, q)), np.empty((n_draws, q))
    half_n = np.where(in_first_half, n // 2, n - n // 2)
    for r in range(n_draws):
        z = rng.standard_normal((q, d))
        log_sums = _log_kernel_sums(s + z, centres, weights)  # (Q, 3): first half, second half, all
        excess = 0.5 * (np.einsum("ij,ij->i", z, z) - d)
        full[r] = _with_control(np.log(n) - log_sums[:, 2] - d / 2, excess)
        own = np.where(in_first_half, log_sums[:, 0], log_sums[:, 1])
        half[r] = _with_control(np.log(half_n) - own - d / 2, excess)
    local, local_half = full.mean(axis=0), half.mean(axis=0)
    difference = local - local_half
    return MixtureTerms(local, lower, upper, float(local_half.mean()), float(difference.std() / np.sqrt(q)))


def _with_control(local: NDArray[np.float64], excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take out of the local values what they owe to noise that happened to be long or short; the mean stays true."""
    variance = float(excess @ excess)
    slope = float((local - local.mean()) @ excess) / variance if variance > 0 else 0.0
    return np.asarray(local - slope * excess)


def _dtype_for(*arrays: NDArray[np.float64]) -> type[np.float32] | type[np.float64]:
    """float32 where its rounding of squared distances is harmless, else float64."""
    largest = max(float(np.einsum("ij,ij->i", a, a).max()) for a in arrays)
    return np.float32 if largest < _FLOAT32_LIMIT else np.float64


def _log_kernel_sums(
    points: NDArray[np.float64], centres: NDArray[np.float64], weights: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Log of sum_j w_j exp(-|t_i - s_j|^2 / 2) for each column of weights and for their total; shape (n, 3).

    Row by row the largest term is taken out first, so that no sum is lost to underflow.
    """
    dtype = _dtype_for(points, centres)
    c: NDArray[np.floating[Any]] = centres.astype(dtype)
    w = weights.astype(dtype)
    half_norms = 0.5 * np.einsum("ij,ij->i", c, c)
    out = np.empty((len(points), 3))
    step = max(1, _BLOCK_BYTES // (len(c) * c.itemsize))
    block: NDArray[np.floating[Any]] = np.empty((min(step, len(points)), len(c)), dtype=dtype)
    for start in range(0, len(points), step):
        t = points[start : start + step].astype(dtype)
        kernel = np.matmul(t, c.T, out=block[: len(t)])
        kernel -= half_norms
        top = kernel.max(axis=1, keepdims=True)
        kernel -= top
        np.exp(kernel, out=kernel)
        sums = (kernel @ w).astype(np.float64)
        shift = top[:, 0].astype(np.float64) - 0.5 * np.square(t, dtype=np.float64).sum(axis=1)
        with np.errstate(divide="ignore"):  # a half without any near centre: log 0, never the half a sample is in
            out[start : start + step, :2] = np.log(sums) + shift[:, None]
            out[start : start + step, 2] = np.log(sums.sum(axis=1)) + shift
    return out


def _pairwise_bounds(
    centres: NDArray[np.float64], counts: NDArray[np.intp], at: NDArray[np.intp] | None
) -> tuple[float, float]:
    """Kolchinsky & Tracey's bounds: -E log E exp(-D), with D = |s_i - s_j|^2 / 8 (lower) and / 2 (upper), in nats.

    Args:
        centres: shape (m, d).
        counts: shape (m,), samples at each.
        at: shape (Q,), the centres that the outer mean is taken at; None for all, by their counts.
    """
    dtype = _dtype_for(centres)
    c: NDArray[np.floating[Any]] = (centres / 2).astype(dtype)  # halved: exp(-D) is then the kernel and its 4th power
    p = counts / counts.sum()
    w = p.astype(dtype)
    half_norms = 0.5 * np.einsum("ij,ij->i", c, c)
    lower = upper = 0.0
    rows, shares = (np.arange(len(c)), p) if at is None else (at, np.full(len(at), 1 / len(at)))
    step = max(1, _BLOCK_BYTES // (len(c) * c.itemsize))
    block: NDArray[np.floating[Any]] = np.empty((min(step, len(rows)), len(c)), dtype=dtype)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        kernel = np.matmul(c[part], c.T, out=block[: len(part)])
        kernel -= half_norms
        kernel -= half_norms[part, None]
        np.minimum(kernel, 0, out=kernel)  # rounding may leave a distance below zero
        np.exp(kernel, out=kernel)
        share = shares[start : start + step]
        lower -= float(share @ np.log((kernel @ w).astype(np.float64)))
        np.square(kernel, out=kernel)
        np.square(kernel, out=kernel)
        upper -= float(share @ np.log((kernel @ w).astype(np.float64)))
    return lower, upper
