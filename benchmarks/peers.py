"""Other estimators of the same quantity, each as one call for one estimate in nats: the peers of the benchmark.

Peers that search take any number of seconds for a permutation null by searching again for every permutation.
"""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma

from mi_callback.estimation.neighbors import default_width

__all__ = ["PEERS", "brute_force_torch", "faiss_search_again", "npeet", "scikit_learn"]

Array = NDArray[np.float64]


def npeet(x: Array, y: Array, k: int) -> float:
    """NPEET's KSG, in its maintained version npeet_plus."""
    import npeet_plus

    return float(npeet_plus.mi(x, y.reshape(len(y), -1), k=k, base=np.e))


def scikit_learn(x: Array, y: Array, k: int) -> float:
    """scikit-learn's KSG. It takes one feature at a time, so this is the sum over features, an easier task."""
    from sklearn.feature_selection import mutual_info_regression

    return float(mutual_info_regression(x, y.reshape(-1), n_neighbors=k, random_state=0).sum())


def brute_force_torch(x: Array, y: Array, k: int, n_rows: int | None = None) -> float:
    """KSG 1 from blocks of full distance rows in torch, float32, all cores; at the first rows only if asked for."""
    n = len(x)
    tx, ty = torch.from_numpy(x).float(), torch.from_numpy(y.reshape(n, -1)).float()
    total = 0.0
    for rows in torch.arange(n_rows or n).split(2000):
        own = torch.arange(len(rows))
        dx, dy = torch.cdist(tx[rows], tx), torch.cdist(ty[rows], ty)
        dx[own, rows] = dy[own, rows] = torch.inf
        radius = torch.maximum(dx, dy).kthvalue(k, dim=1).values[:, None]
        n_x, n_y = (dx < radius).sum(1), (dy < radius).sum(1)
        total += float((torch.digamma(n_x + 1.0) + torch.digamma(n_y + 1.0)).sum())
    return float(digamma(k) + digamma(n) - total / (n_rows or n))


def faiss_search_again(x: Array, y: Array, k: int, n_rows: int | None = None) -> float:
    """KSG 1 as usual with FAISS: x is searched anew for every estimate; at the first rows only if asked for.

    The table has the width that the package uses; radii beyond it are capped, which costs nothing but accuracy.
    """
    n = len(x)
    x32, y32 = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y.reshape(n, -1), np.float32)
    width = default_width(n, k)
    index = faiss.IndexFlatL2(x32.shape[1])
    index.add(x32)
    squares, neighbors = index.search(x32[:n_rows], width + 1)
    dx, columns = np.sqrt(squares[:, 1:]), neighbors[:, 1:]
    dy = np.sqrt(((y32[columns] - y32[:n_rows, None]) ** 2).sum(axis=2))
    radius = np.partition(np.maximum(dx, dy), k - 1, axis=1)[:, k - 1 : k]
    n_x = (dx < radius).sum(axis=1)
    if y32.shape[1] == 1:
        line = np.sort(y32[:, 0])
        own = y32[:n_rows, 0]
        n_y = np.searchsorted(line, own + radius[:, 0]) - np.searchsorted(line, own - radius[:, 0]) - 1
    else:
        index = faiss.IndexFlatL2(y32.shape[1])
        index.add(y32)
        n_y = (np.sqrt(index.search(y32[:n_rows], width + 1)[0][:, 1:]) < radius).sum(axis=1)
    return float(digamma(k) + digamma(n) - (digamma(n_x + 1) + digamma(n_y + 1)).mean())


PEERS: dict[str, Callable[[Array, Array, int], float]] = {
    "NPEET (npeet_plus)": npeet,
    "scikit-learn, sum over features": scikit_learn,
    "brute force in torch": brute_force_torch,
    "FAISS, searched again each time": faiss_search_again,
}
