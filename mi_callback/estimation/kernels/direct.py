"""Reading a small sample straight from all of its distances: no table, no permutations.

The formulas are those of the scans, see there. Readers take ``to_x``, the (rows, n) distances of samples from
``start`` on, each with a zero for the sample itself, and write their terms to ``local``.
"""

from __future__ import annotations

import numpy as np

from mi_callback.estimation.kernels.basics import INF, compiled, count_below, insert, within_line

__all__ = ["distances_from_products", "read_classes", "read_on_line", "read_pairs"]


@compiled
def distances_from_products(products, squares, negligible, start, out):
    """Write Euclidean distances from inner products (rows, n) and squared norms (n,); negligible ones become zero."""
    for r in range(products.shape[0]):
        own = squares[start + r]
        for j in range(squares.size):
            norms = own + squares[j]
            square = norms - 2 * products[r, j]
            out[r, j] = np.float32(np.sqrt(square if square > negligible * norms else 0.0))


@compiled
def read_on_line(to_x, line, psi, k, start, local):
    """KSG of samples in ascending order of their targets on a line (n,): ``local`` (n,) of the rows."""
    n = line.size
    best = np.empty(k, np.float32)
    for r in range(to_x.shape[0]):
        dx, i = to_x[r], start + r
        best[:] = INF
        kth = INF
        below, above = i - 1, i + 1
        while below >= 0 or above < n:  # the nearer side first
            below_is_nearer = above >= n or (below >= 0 and line[i] - line[below] <= line[above] - line[i])
            j = below if below_is_nearer else above
            dy = np.float32(abs(line[j] - line[i]))
            if dy >= kth:
                break
            radius = max(dy, dx[j])
            if radius < kth:
                insert(best, radius)
                kth = best[k - 1]
            if below_is_nearer:
                below -= 1
            else:
                above += 1
        if kth == 0:
            joint, same = 0, 0
            for j in range(n):
                same += line[j] == line[i]
                joint += line[j] == line[i] and dx[j] == 0
            local[i] = psi[joint] - psi[count_below(dx, np.nextafter(kth, INF))] - psi[same]
            continue
        local[i] = psi[k] - psi[count_below(dx, kth)] - psi[within_line(line, i, below, above, kth)]


@compiled
def read_pairs(to_x, to_y, ratio, psi, k, start, local):
    """KSG from the distances on both sides, those of y multiplied by a ratio first: ``local`` (n,) of the rows."""
    best = np.empty(k, np.float32)
    scaled = np.empty(to_y.shape[1], np.float32)
    for r in range(to_x.shape[0]):
        dx = to_x[r]
        for j in range(dx.size):
            scaled[j] = to_y[r, j] * ratio
        best[:] = INF
        kth = INF
        for j in range(dx.size):
            if dx[j] < kth and scaled[j] < kth and j != start + r:
                insert(best, max(dx[j], scaled[j]))
                kth = best[k - 1]
        if kth > 0:  # the sample itself is counted, which is the one that is added
            local[start + r] = psi[k] - psi[count_below(dx, kth)] - psi[count_below(scaled, kth)]
            continue
        joint = 0
        for j in range(dx.size):
            joint += dx[j] == 0 and scaled[j] == 0
        least = np.nextafter(kth, INF)
        local[start + r] = psi[joint] - psi[count_below(dx, least)] - psi[count_below(scaled, least)]


@compiled
def read_classes(to_x, codes, starts, psi, k, start, local):
    """Ross of samples in order of their class, class c at ``starts[c]`` to ``starts[c + 1]``: ``local`` (n,)."""
    best = np.empty(k, np.float32)
    for r in range(to_x.shape[0]):
        dx, i = to_x[r], start + r
        first, last = starts[codes[i]], starts[codes[i] + 1]
        size = last - first
        wanted = min(k, size - 1)
        nearest = best[:wanted]
        nearest[:] = INF
        for j in range(first, last):
            if dx[j] < nearest[wanted - 1] and j != i:
                insert(nearest, dx[j])
        kth = nearest[wanted - 1]
        if kth > 0:
            local[i] = psi[wanted] - psi[count_below(dx, kth)] - psi[size]
            continue
        joint = 0
        for j in range(first, last):
            joint += dx[j] == 0
        local[i] = psi[joint] - psi[count_below(dx, np.nextafter(kth, INF))] - psi[size]
