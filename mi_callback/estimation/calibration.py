"""Calibration on demand: what does this estimator read, at this size, of an information that is known?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import entr, ndtr, ndtri

from mi_callback.estimation.ceilings import per_nat
from mi_callback.estimation.estimator import Estimator
from mi_callback.estimation.permutation import stream
from mi_callback.estimation.records import MutualInformation, Unit
from mi_callback.estimation.variable import Variable

__all__ = ["Calibration", "calibrate", "class_surrogate", "gaussian_surrogate"]

_PURPOSE = 9  # of the stream that makes surrogates
_LEAST = 0.1 * math.log(2)  # nats: the surrogate of a reading about zero
_HALVINGS = 4  # the truth to a sixteenth of what it was doubled by


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an estimator reads of a known information, on samples of the same number, width and spectrum.

    Attributes:
        truth: exact information of the surrogate, in ``unit``; infinite if none reads so much.
        reads: what the estimator reads of it, debiased.
        stderr: standard error of the reading.
        n_samples: number of samples.
        n_features: number of features of the layer.
        unit: "bits" or "nats".
    """

    truth: float
    reads: float
    stderr: float
    n_samples: int
    n_features: int
    unit: Unit

    def __str__(self) -> str:
        return (
            f"At {self.n_samples} samples of {self.n_features} features this estimator reads {self.reads:.2f} of "
            f"{self.truth:.2f} {self.unit}, if the dependence is Gaussian and linear."
        )


def calibrate(
    estimator: Estimator,
    activations: ArrayLike,
    partner: ArrayLike,
    *,
    discrete: bool = False,
    truth: float | None = None,
    seed: int = 0,
) -> Calibration:
    """Measure Gaussian surrogates of a layer, of known information, by the path the layer itself takes.

    A surrogate shares number of samples, width and covariance with the layer, and the partner's too. It is Gaussian and
    its dependence linear, so it is blind to what is hard in another way: a curved relation, dependence in the norm, or
    behind other units, where more may be missing than it says. A layer on a curved manifold is easier.

    Args:
        estimator: the estimator to calibrate.
        activations: shape (n,) or (n, d), the layer T.
        partner: shape (n,) or (n, e), X or Y; labels of shape (n,) if ``discrete``.
        discrete: whether the partner is a class.
        truth: information of the surrogate, in the estimator's unit. None for the one of which the estimator reads what
            it reads of the real pair: the answer to "how much may there be behind this reading?"
        seed: seeds the surrogate.

    Returns:
        Truth and reading. The truth is infinite if no surrogate, up to log n, reads as much as the real pair.
    """
    t = np.asarray(activations, dtype=np.float64)
    t = t.reshape(len(t), -1)
    unit = per_nat(estimator.unit)

    def read(wanted: float) -> Calibration:
        """What is read of a surrogate of about so much information, always with the same random numbers."""
        rng = stream(seed, _PURPOSE)
        y: ArrayLike
        if discrete:
            x, y, nats = class_surrogate(t, np.asarray(partner).reshape(-1), wanted / unit, rng)
        else:
            x, y = gaussian_surrogate(
                t, np.asarray(partner, dtype=np.float64).reshape(len(t), -1), nats := wanted / unit, rng
            )
        reading: MutualInformation = estimator.estimate(
            Variable(x, name="surrogate layer"), Variable(y, discrete=discrete, name="surrogate partner")
        )
        return Calibration(nats * unit, reading.mi, reading.stderr, len(t), t.shape[1], reading.unit)

    if truth is not None:
        return read(truth)
    real = estimator.estimate(Variable(t, name="activations"), Variable(partner, discrete=discrete, name="partner"))
    return _solved(read, real.mi, least=_LEAST * unit, most=math.log(len(t)) * unit)


def _solved(read: Callable[[float], Calibration], wanted: float, *, least: float, most: float) -> Calibration:
    """The surrogate of which as much is read as is wanted: the truth is doubled until it is, then halved in."""
    low, found = 0.0, read(max(wanted, least))
    while found.reads < wanted - found.stderr:
        if found.truth >= most or found.truth <= low:  # as much as there can be
            return replace(found, truth=math.inf)
        low = found.truth
        found = read(min(max(2 * low, least), most))
    high = found.truth
    for _ in range(_HALVINGS if low else 0):
        middle = read((low + high) / 2)
        if middle.reads < wanted:
            low = middle.truth
        else:
            high, found = middle.truth, middle
    return found


def _factor(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """L with L L' the covariance of the samples, shape (d, r), r the rank."""
    _, singular, turned = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    kept = singular > 1e-9 * singular.max(initial=0.0)
    return np.asarray((turned[kept].T * singular[kept]) / np.sqrt(len(values)))


def _directions(factor: NDArray[np.float64], r: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Orthonormal directions of the whitened cloud, random, but favouring those of large variance; shape (rank, r)."""
    weights = np.sqrt((factor**2).sum(axis=0))[:, None]
    return np.asarray(np.linalg.qr(weights * rng.standard_normal((factor.shape[1], r)))[0])


def gaussian_surrogate(
    t: NDArray[np.float64], partner: NDArray[np.float64], information: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A jointly Gaussian pair with the covariances of two samples and a known information.

    All r = min(ranks) canonical correlations are equal: I = -r/2 log(1 - rho^2).

    Args:
        t: shape (n, d), not constant.
        partner: shape (n, e), not constant.
        information: information of the pair, in nats.
        rng: source of randomness.

    Returns:
        Samples of shapes (n, d) and (n, e).
    """
    lt, ly = _factor(t), _factor(partner)
    if not (lt.size and ly.size):
        raise ValueError(
            "activations: expected samples that vary on both sides, got a constant. A constant layer has "
            "no information to calibrate on."
        )
    r = min(lt.shape[1], ly.shape[1])
    rho = math.sqrt(-math.expm1(-2 * information / r))
    zt = rng.standard_normal((len(t), lt.shape[1]))
    zy = rng.standard_normal((len(t), ly.shape[1]))
    shared_t, shared_y = _directions(lt, r, rng), _directions(ly, r, rng)
    zy += (rho * (zt @ shared_t) + (math.sqrt(1 - rho**2) - 1) * (zy @ shared_y)) @ shared_y.T
    return zt @ lt.T, zy @ ly.T


def class_surrogate(
    t: NDArray[np.float64], labels: NDArray[np.generic], information: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.intp], float]:
    """A Gaussian layer and classes with the given frequencies, of known information.

    The class is the quantile bin of a noisy copy, of correlation rho, of one direction of the layer; the information
    is one integral, exact to 1e-5 nats.

    Args:
        t: shape (n, d), not constant.
        labels: shape (n,).
        information: wanted information in nats; near H(Y) as much of it as a correlation of .99999 gives.
        rng: source of randomness.

    Returns:
        The layer, shape (n, d); the classes, shape (n,); and the exact information, in nats.
    """
    factor = _factor(t)
    frequency = np.unique(labels, return_counts=True)[1] / len(labels)
    cuts = ndtri(np.cumsum(frequency)[:-1])
    grid, step = np.linspace(-9, 9, 18_001, retstep=True)  # a quarter of the steepest edge that rho = .99999 makes
    density = np.exp(-(grid**2) / 2) * step / math.sqrt(2 * math.pi)

    def exact(rho: float) -> float:
        below = ndtr((cuts - rho * grid[:, None]) / math.sqrt(1 - rho**2))
        below = np.concatenate([np.zeros((len(grid), 1)), below, np.ones((len(grid), 1))], axis=1)
        return float(entr(frequency).sum() - density @ entr(np.diff(below, axis=1)).sum(axis=1))

    top = 0.99999
    rho = top if exact(top) <= information else brentq(lambda r: exact(r) - information, 0, top, xtol=1e-7)
    z = rng.standard_normal((len(t), factor.shape[1]))
    u = z @ _directions(factor, 1, rng)[:, 0]
    noisy = rho * u + math.sqrt(1 - rho**2) * rng.standard_normal(len(t))
    return z @ factor.T, np.searchsorted(cuts, noisy), exact(rho)
