"""Finishing the rows whose k-th neighbour lies beyond a table, from their distances to all samples.

Each kernel takes a block of rows with their approximate distances to all samples, finds the radius below the bound that
the scan left, and adds the term to ``sums`` (P,) and ``local`` (n,). Distances that matter are recomputed, so that they
equal those in the table. Arguments that the scans have too are told there; the others are

    block   (B, n) approximate distances (Euclidean: squared) of the rows to all samples;
    rows    (B,) samples;
    x       (n, d) values behind the table; metric: EUCLIDEAN or CHEBYSHEV;
    slack   (B + 1,) absolute bounds on the error in each row; last, the bound relative to the distance.
"""

from __future__ import annotations

import numpy as np

from mi_callback.estimation.kernels.basics import (
    INF,
    compiled,
    count_row,
    distance,
    insert,
    lower_bound_scaled,
    reach,
)
from mi_callback.estimation.kernels.scans import joint_labels, joint_line, joint_table, within_line

__all__ = ["complete_labels", "complete_scalar", "complete_table"]


@compiled
def complete_scalar(
    block, rows, x, metric, slack, atoms, first,
    positions, samples, line, line_atoms, psi, k, local, sums, bounds,
):  # fmt: skip
    """Finish rows against values on a line."""
    n = line.size
    relative = slack[rows.size]
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i, approximate, absolute = rows[r], block[r], slack[r]
        for p in range(bounds.shape[0]):
            if bounds[p, i] < 0:
                continue
            position = positions[p, i]
            at_place = samples[p]
            value = line[position]
            best[:] = np.nextafter(bounds[p, i], INF)
            kth = best[k - 1]
            limit = reach(kth, metric, absolute, relative)
            below, above = position - 1, position + 1
            for side in (-1, 1):
                at = position + side
                while 0 <= at < n:
                    dy = np.float32(abs(line[at] - value))
                    if dy >= kth:
                        break
                    j = at_place[at]
                    if approximate[j] <= limit:
                        radius = max(dy, distance(x, i, x, j, metric))
                        if radius < kth:
                            insert(best, radius)
                            kth = best[k - 1]
                            limit = reach(kth, metric, absolute, relative)
                    at += side
                if side < 0:
                    below = at
                else:
                    above = at
            if kth == 0:
                joint = joint_line(i, position, line, at_place, first)
                term = psi[joint] - psi[atoms[i]] - psi[line_atoms[position]]
            else:
                x_count = count_row(approximate, x, i, metric, np.float32(1), kth, absolute, relative) + 1
                term = psi[k] - psi[x_count] - psi[within_line(line, position, below, above, kth)]
            sums[p] += term
            if p == 0:
                local[i] = term


@compiled
def complete_labels(
    block, rows, x, metric, slack, atoms, first,
    labels, members, starts, psi, k, local, sums, bounds,
):  # fmt: skip
    """Finish rows against class labels, by visiting the members of the class."""
    relative = slack[rows.size]
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i, approximate, absolute = rows[r], block[r], slack[r]
        for p in range(bounds.shape[0]):
            if bounds[p, i] < 0:
                continue
            own = labels[p, i]
            own_members = members[p, starts[own] : starts[own + 1]]
            wanted = min(k, own_members.size - 1)
            nearest = best[:wanted]
            nearest[:] = INF
            limit = INF
            for m in range(own_members.size):
                j = own_members[m]
                if j != i and approximate[j] <= limit:
                    radius = distance(x, i, x, j, metric)
                    if radius < nearest[wanted - 1]:
                        insert(nearest, radius)
                        limit = reach(nearest[wanted - 1], metric, absolute, relative)
            kth = nearest[wanted - 1]
            if kth == 0:
                term = psi[joint_labels(i, own_members, first)] - psi[atoms[i]] - psi[own_members.size]
            else:
                x_count = count_row(approximate, x, i, metric, np.float32(1), kth, absolute, relative) + 1
                term = psi[wanted] - psi[x_count] - psi[own_members.size]
            sums[p] += term
            if p == 0:
                local[i] = term


@compiled
def complete_table(
    block, rows, x, metric, slack, atoms, first,
    y, y_metric, y_indices, y_distances, y_lengths, y_radii, y_atoms, y_first,
    ratio, permutations, inverses, psi, k, local, sums, bounds, x_counts,
):  # fmt: skip
    """Finish rows against a target with a table, where that table reaches far enough.

    Args:
        x_counts: (P, n) zeros; n_x + 1 is written for a row whose targets are still to be counted, and its radius goes
            to ``bounds``.
    """
    n = first.size
    relative = slack[rows.size]
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i, approximate, absolute = rows[r], block[r], slack[r]
        for p in range(bounds.shape[0]):
            if bounds[p, i] < 0:
                continue
            partner = permutations[p, i]
            inverse = inverses[p]
            y_length = y_lengths[partner]
            y_row, y_row_indices = y_distances[partner, :y_length], y_indices[partner, :y_length]
            y_radius = y_radii[partner] * ratio
            best[:] = np.nextafter(bounds[p, i], INF)
            kth = best[k - 1]
            limit = reach(kth, metric, absolute, relative)
            if bounds[p, i] <= y_radius:
                for at in range(y_length):
                    dy = y_row[at] * ratio
                    if dy >= kth:
                        break
                    j = inverse[y_row_indices[at]]
                    if approximate[j] <= limit:
                        radius = max(dy, distance(x, i, x, j, metric))
                        if radius < kth:
                            insert(best, radius)
                            kth = best[k - 1]
                            limit = reach(kth, metric, absolute, relative)
            else:
                for j in range(n):
                    if approximate[j] <= limit and j != i:
                        dy = distance(y, partner, y, permutations[p, j], y_metric) * ratio
                        if dy < kth:
                            radius = max(dy, distance(x, i, x, j, metric))
                            if radius < kth:
                                insert(best, radius)
                                kth = best[k - 1]
                                limit = reach(kth, metric, absolute, relative)
            if kth == 0:
                y_atom = y_atoms[partner]
                joint = joint_table(i, permutations[p], inverse, first, y_row_indices, y_atom, y_first)
                term = psi[joint] - psi[atoms[i]] - psi[y_atom]
            else:
                x_count = count_row(approximate, x, i, metric, np.float32(1), kth, absolute, relative) + 1
                if kth > y_radius:
                    bounds[p, i] = kth
                    x_counts[p, i] = x_count
                    continue
                term = psi[k] - psi[x_count] - psi[lower_bound_scaled(y_row, y_length, ratio, kth) + 1]
            sums[p] += term
            if p == 0:
                local[i] = term
