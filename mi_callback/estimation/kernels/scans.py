"""Reading neighbour tables: the radius and the counts of every row, under every permutation.

Counts follow Kraskov et al. (2004, doi:10.1103/PhysRevE.69.066138, eq. 8): neighbours strictly nearer than the k-th,
plus one. Where the k-th neighbour is at distance zero on both sides they follow Gao et al. (2017, arXiv:1709.06212):
all coincident samples, the sample itself included, and the number of joint ones in place of k.

Each scan takes rows start to stop through P permutations. Rows whose k-th neighbour lies beyond the table are finished
from their distances to all samples; those that matter are recomputed, so that they equal those in the table. Arguments
that all have, where rows are samples start to stop, or those of an array ``rows``:

    indices, distances, lengths, radii, atoms, first: the table. ``first`` names the first of the samples that coincide
              with each, so that two samples coincide if it is the same;
    x, metric (n, d) values behind the table; EUCLIDEAN or CHEBYSHEV;
    block     (rows, n) approximate distances (Euclidean: squared) of the rows to all samples;
    slack     (rows + 1,) absolute bounds on the error in each row; last, the bound relative to the distance;
    psi       digamma of 0 to n + 1;
    scratch   (n,) infinities, left as they were found: holds the distances of the row at hand.

Scans of values on a line and of tables need ``block`` and ``slack`` only for rows that reach beyond the table. Without
them (a block of no rows) these are left: infinity is written to ``beyond``.

They write

    sums      (P,) psi(k) - psi(n_x + 1) - psi(n_y + 1) of the rows is added;
    local     (n,) the terms of the first permutation;
    beyond    (n, P) the radius of a row that reached beyond the table, else -1.

What belongs to one row and all permutations lies side by side in memory; what is looked up under one permutation too.
"""

from __future__ import annotations

import numpy as np

from mi_callback.estimation.kernels.basics import (
    INF,
    compiled,
    count_row,
    distance,
    insert,
    lower_bound,
    lower_bound_scaled,
    reach,
    within_line,
)

__all__ = ["complete_labels", "scan_labels", "scan_scalar", "scan_table"]


@compiled
def _joint_line(i, position, line, samples, first):
    """Number of samples that coincide with i and have its target, i included."""
    joint = 1
    for side in (-1, 1):
        at = position + side
        while 0 <= at < line.size and line[at] == line[position]:
            joint += first[samples[at]] == first[i]
            at += side
    return joint


@compiled
def _joint_labels(i, members, first):
    """Number of samples of a class that coincide with i, i included."""
    joint = 0
    for m in range(members.size):
        joint += first[members[m]] == first[i]
    return joint


@compiled
def _joint_table(i, permutation, inverse, first, y_row_indices, y_atom, y_first):
    """Number of samples that coincide with i and whose targets coincide with its target, i included."""
    if y_atom <= y_row_indices.size:  # all that coincide are listed, in front
        joint = 1
        for at in range(y_atom - 1):
            joint += first[inverse[y_row_indices[at]]] == first[i]
        return joint
    joint = 0
    for j in range(first.size):
        joint += first[j] == first[i] and y_first[permutation[j]] == y_first[permutation[i]]
    return joint


@compiled
def _complete_on_line(x, metric, i, scratch, line, samples, position, best, approximate, absolute, relative):
    """Take samples that the row does not list into its k smallest max(dx, dy), walking outwards from a place."""
    n = line.size
    kth = best[best.size - 1]
    limit = reach(kth, metric, absolute, relative)
    for side in (-1, 1):
        at = position + side
        while 0 <= at < n:
            dy = np.float32(abs(line[at] - line[position]))
            if dy >= kth:
                break
            j = samples[at]
            if approximate[j] <= limit and scratch[j] == INF:
                radius = max(dy, distance(x, i, x, j, metric))
                if radius < kth:
                    insert(best, radius)
                    kth = best[best.size - 1]
                    limit = reach(kth, metric, absolute, relative)
            at += side


@compiled
def scan_scalar(
    indices,
    distances,
    lengths,
    radii,
    atoms,
    first,
    x,
    metric,
    block,
    slack,
    positions,
    samples,
    line,
    line_atoms,
    psi,
    k,
    rows,
    scratch,
    local,
    sums,
    beyond,
):
    """KSG against values on a line, walking outwards from the target's place on it.

    The sides take turns by stretches, which costs fewer wrong guesses of the processor than merging them would.

    Args:
        positions: (n, P) place on the line of each sample's permuted target.
        samples: (P, n) the sample at each place.
        line: (n,) sorted target values.
        line_atoms: (n,) number of equal values at each place.
        k: number of neighbours.
    """
    n = line.size
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i = rows[r]
        row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
        for c in range(row.size):
            scratch[row_indices[c]] = row[c]
        if block.shape[0] > 0:
            approximate, absolute, relative = block[r], slack[r], slack[rows.size]
        else:
            approximate, absolute, relative = scratch, np.float32(0), np.float32(0)  # not used
        for p in range(positions.shape[1]):
            position = positions[i, p]
            at_place = samples[p]
            value = line[position]
            best[:] = INF
            kth = INF
            below, above = position - 1, position + 1
            walking = True
            while walking:
                end = max(below - 16, -1)
                while below > end:
                    dy = np.float32(value - line[below])
                    if dy >= kth:
                        break
                    radius = max(dy, scratch[at_place[below]])
                    if radius < kth:
                        insert(best, radius)
                        kth = best[k - 1]
                    below -= 1
                walking = below == end and below >= 0
                end = min(above + 16, n)
                while above < end:
                    dy = np.float32(line[above] - value)
                    if dy >= kth:
                        break
                    radius = max(dy, scratch[at_place[above]])
                    if radius < kth:
                        insert(best, radius)
                        kth = best[k - 1]
                    above += 1
                walking |= above == end and above < n
            beyond[i, p] = -1
            if kth > radii[i]:
                if block.shape[0] == 0:
                    beyond[i, p] = INF
                    continue
                _complete_on_line(
                    x, metric, i, scratch, line, at_place, position, best, approximate, absolute, relative
                )
                kth = best[k - 1]
                beyond[i, p] = kth
            if kth == 0:
                joint = _joint_line(i, position, line, at_place, first)
                term = psi[joint] - psi[atoms[i]] - psi[line_atoms[position]]
            else:
                if kth > radii[i]:
                    x_count = count_row(approximate, x, i, metric, np.float32(1), kth, absolute, relative) + 1
                else:
                    x_count = lower_bound(row, row.size, kth) + 1
                term = psi[k] - psi[x_count] - psi[within_line(line, position, below, above, kth)]
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF


@compiled
def scan_labels(
    indices,
    distances,
    lengths,
    radii,
    atoms,
    first,
    labels,
    members,
    starts,
    psi,
    k,
    start,
    stop,
    local,
    sums,
    beyond,
):
    """Ross (2014) against class labels.

    Rows that may reach beyond the table are left: infinity is written to ``beyond``, see ``complete_labels``.

    Args:
        labels: (P, n) permuted class codes.
        members: (P, n) samples in order of their permuted class; class c holds ``members[p, starts[c]:starts[c + 1]]``,
            two samples at least.
        starts: (classes + 1,) see ``members``.
        k: number of neighbours; a class of m <= k members uses m - 1.
    """
    for p in range(labels.shape[0]):
        label = labels[p]
        total = 0.0
        for i in range(start, stop):
            own = label[i]
            size = starts[own + 1] - starts[own]
            wanted = min(k, size - 1)
            row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
            found = 0
            c = row.size
            for at in range(row.size):
                found += label[row_indices[at]] == own
                if found == wanted:
                    c = at
                    break
            if c == row.size or row[c] > radii[i]:
                beyond[i, p] = INF
                continue
            beyond[i, p] = -1
            if row[c] == 0:
                joint = _joint_labels(i, members[p, starts[own] : starts[own + 1]], first)
                term = psi[joint] - psi[atoms[i]] - psi[size]
            else:
                kth = row[c]
                while c > 0 and row[c - 1] >= kth:
                    c -= 1
                term = psi[wanted] - psi[c + 1] - psi[size]
            total += term
            if p == 0:
                local[i] = term
        sums[p] = total


@compiled
def complete_labels(rows, atoms, first, x, metric, block, slack, labels, members, starts, psi, k, local, sums, beyond):
    """Add the rows that ``scan_labels`` left, by visiting the members of the class.

    Args:
        rows: (B,) samples, those of the block.
        labels, members, starts, k: as for ``scan_labels``.
    """
    relative = slack[rows.size]
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i, approximate, absolute = rows[r], block[r], slack[r]
        for p in range(beyond.shape[1]):
            if beyond[i, p] < 0:
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
                term = psi[_joint_labels(i, own_members, first)] - psi[atoms[i]] - psi[own_members.size]
            else:
                x_count = count_row(approximate, x, i, metric, np.float32(1), kth, absolute, relative) + 1
                term = psi[wanted] - psi[x_count] - psi[own_members.size]
            sums[p] += term
            if p == 0:
                local[i] = term


@compiled
def scan_table(
    indices,
    distances,
    lengths,
    radii,
    atoms,
    first,
    x,
    metric,
    block,
    slack,
    y_indices,
    y_distances,
    y_lengths,
    y_radii,
    y_atoms,
    y_first,
    y,
    y_metric,
    ratio,
    partners,
    inverses,
    psi,
    k,
    rows,
    scratch,
    local,
    sums,
    beyond,
    x_counts,
):
    """KSG by intersecting each row with the permuted partner's row of the target's table.

    Args:
        y_indices, y_distances, y_lengths, y_radii, y_atoms, y_first, y, y_metric: the target's table.
        ratio: unit of the table over unit of the target's: turns the target's distances into the table's.
        partners: (n, P) which target goes with a sample.
        inverses: (P, n) which sample goes with a target.
        k: number of neighbours.
        x_counts: (n, P) zeros; n_x + 1 is written for a row that reaches beyond the target's table: its targets are
            still to be counted, and its term is not in ``sums``.
    """
    n = first.size
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i = rows[r]
        row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
        for c in range(row.size):
            scratch[row_indices[c]] = row[c]
        if block.shape[0] > 0:
            approximate, absolute, relative = block[r], slack[r], slack[rows.size]
        else:
            approximate, absolute, relative = scratch, np.float32(0), np.float32(0)  # not used
        for p in range(partners.shape[1]):
            partner = partners[i, p]
            y_length = y_lengths[partner]
            y_radius = y_radii[partner] * ratio
            best[:] = INF
            kth = INF
            for at in range(y_length):
                dy = y_distances[partner, at] * ratio
                if dy >= kth:
                    break
                radius = max(dy, scratch[inverses[p, y_indices[partner, at]]])
                if radius < kth:
                    insert(best, radius)
                    kth = best[k - 1]
            beyond[i, p] = -1
            if kth > radii[i] or kth > y_radius:
                if block.shape[0] == 0:
                    beyond[i, p] = INF
                    continue
                limit = reach(kth, metric, absolute, relative)
                if kth <= y_radius:  # all candidates are in the target's row; those in both rows have been taken
                    for at in range(y_length):
                        dy = y_distances[partner, at] * ratio
                        if dy >= kth:
                            break
                        j = inverses[p, y_indices[partner, at]]
                        if approximate[j] <= limit and scratch[j] == INF:
                            radius = max(dy, distance(x, i, x, j, metric))
                            if radius < kth:
                                insert(best, radius)
                                kth = best[k - 1]
                                limit = reach(kth, metric, absolute, relative)
                else:  # start again from the bound, and try everything below it
                    best[:] = np.nextafter(kth, INF)
                    kth = best[k - 1]
                    for j in range(n):
                        if approximate[j] <= limit and j != i:
                            dy = distance(y, partner, y, partners[j, p], y_metric) * ratio
                            if dy < kth:
                                radius = max(dy, distance(x, i, x, j, metric))
                                if radius < kth:
                                    insert(best, radius)
                                    kth = best[k - 1]
                                    limit = reach(kth, metric, absolute, relative)
                beyond[i, p] = kth
            if kth == 0:
                y_atom = y_atoms[partner]
                joint = _joint_table(
                    i, partners[:, p], inverses[p], first, y_indices[partner, :y_length], y_atom, y_first
                )
                term = psi[joint] - psi[atoms[i]] - psi[y_atom]
            else:
                if kth > radii[i]:
                    x_count = count_row(approximate, x, i, metric, np.float32(1), kth, absolute, relative) + 1
                else:
                    x_count = lower_bound(row, row.size, kth) + 1
                if kth > y_radius:
                    x_counts[i, p] = x_count
                    continue
                y_count = lower_bound_scaled(y_distances[partner], y_length, ratio, kth) + 1
                term = psi[k] - psi[x_count] - psi[y_count]
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF
