"""Reading neighbour tables: the radius and the counts of every row, under every permutation.

Counts follow Kraskov et al. (2004, doi:10.1103/PhysRevE.69.066138, eq. 8): neighbours strictly nearer than the k-th,
plus one. Where the k-th neighbour is at distance zero on both sides they follow Gao et al. (2017, arXiv:1709.06212):
all coincident samples, the sample itself included, and the number of joint ones in place of k.

Each scan takes rows start to stop through a batch of P permutations and writes

    sums    (P,) sum over the finished rows of psi(k) - psi(n_x + 1) - psi(n_y + 1);
    local   (n,) the terms of the first permutation;
    bounds  (P, n) -1 for a finished row; an upper bound on the radius of one that may reach beyond a table.

``scratch`` is (n,) of infinities and left as it was found: it holds the distances of the row at hand. ``first`` names
the first of the samples that coincide with each, so that two samples coincide if it is the same.
"""

from __future__ import annotations

import numpy as np

from mi_callback.estimation.kernels.basics import INF, compiled, insert, lower_bound

__all__ = ["joint_labels", "joint_line", "joint_table", "scan_labels", "scan_scalar", "scan_table", "within_line"]


@compiled
def within_line(line, position, below, above, epsilon):
    """Number of sorted values, the one at a position included, at a float32 distance below epsilon, walking inwards."""
    value = line[position]
    while below + 1 < position and np.float32(value - line[below + 1]) >= epsilon:
        below += 1
    while above - 1 > position and np.float32(line[above - 1] - value) >= epsilon:
        above -= 1
    return above - below - 1


@compiled
def joint_line(i, position, line, samples, first):
    """Number of samples that coincide with i and have its target, i included."""
    joint = 1
    for side in (-1, 1):
        at = position + side
        while 0 <= at < line.size and line[at] == line[position]:
            joint += first[samples[at]] == first[i]
            at += side
    return joint


@compiled
def joint_labels(i, members, first):
    """Number of samples of a class that coincide with i, i included."""
    joint = 0
    for m in range(members.size):
        joint += first[members[m]] == first[i]
    return joint


@compiled
def joint_table(i, permutation, inverse, first, y_row_indices, y_atom, y_first):
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
def scan_scalar(
    indices, distances, lengths, radii, atoms, first,
    positions, samples, line, line_atoms, psi, k, start, stop, scratch, local, sums, bounds,
):  # fmt: skip
    """KSG against values on a line, walking outwards from the target's place on it.

    The sides take turns by stretches, which costs fewer wrong guesses of the processor than merging them would.

    Args:
        indices, distances, lengths, radii, atoms, first: neighbour table.
        positions: (P, n) place on the line of each sample's permuted target.
        samples: (P, n) the sample at each place.
        line: (n,) sorted target values.
        line_atoms: (n,) number of equal values at each place.
        psi: digamma of 0 to n + 1.
        k: number of neighbours.
        start, stop, scratch, local, sums, bounds: see above.
    """
    n = line.size
    best = np.empty(k, np.float32)
    sums[:] = 0.0
    for i in range(start, stop):
        row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
        for c in range(row.size):
            scratch[row_indices[c]] = row[c]
        for p in range(positions.shape[0]):
            position = positions[p, i]
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
            if kth > radii[i]:
                bounds[p, i] = kth
                continue
            bounds[p, i] = -1
            if kth == 0:
                term = psi[joint_line(i, position, line, at_place, first)] - psi[atoms[i]] - psi[line_atoms[position]]
            else:
                y_count = within_line(line, position, below, above, kth)
                term = psi[k] - psi[lower_bound(row, row.size, kth) + 1] - psi[y_count]
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF


@compiled
def scan_labels(
    indices, distances, lengths, radii, atoms, first,
    labels, members, starts, psi, k, start, stop, local, sums, bounds,
):  # fmt: skip
    """Ross (2014) against class labels.

    Args:
        indices, distances, lengths, radii, atoms, first: neighbour table.
        labels: (P, n) permuted class codes.
        members: (P, n) samples in order of their permuted class; class c holds ``members[p, starts[c]:starts[c + 1]]``,
            two samples at least.
        starts: (classes + 1,) see ``members``.
        psi: digamma of 0 to n + 1.
        k: number of neighbours; a class of m <= k members uses m - 1.
        start, stop, local, sums, bounds: see above.
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
                bounds[p, i] = INF
                continue
            bounds[p, i] = -1
            if row[c] == 0:
                joint = joint_labels(i, members[p, starts[own] : starts[own + 1]], first)
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
def scan_table(
    indices, distances, lengths, radii, atoms, first,
    y_indices, y_distances, y_lengths, y_radii, y_atoms, y_first,
    ratio, permutations, inverses, psi, k, start, stop, scratch, local, sums, bounds,
):  # fmt: skip
    """KSG by intersecting each row with the permuted partner's row of the target's table.

    Args:
        indices, distances, lengths, radii, atoms, first: neighbour table.
        y_indices, y_distances, y_lengths, y_radii, y_atoms, y_first: the target's table.
        ratio: unit of the table over unit of the target's: turns the target's distances into the table's.
        permutations, inverses: (P, n) which target goes with a sample, and which sample with a target.
        psi: digamma of 0 to n + 1.
        k: number of neighbours.
        start, stop, scratch, local, sums, bounds: see above.
    """
    best = np.empty(k, np.float32)
    sums[:] = 0.0
    for i in range(start, stop):
        row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
        for c in range(row.size):
            scratch[row_indices[c]] = row[c]
        for p in range(permutations.shape[0]):
            partner = permutations[p, i]
            y_length = y_lengths[partner]
            best[:] = INF
            kth = INF
            c = y_length
            for at in range(y_length):
                dy = y_distances[partner, at] * ratio
                if dy >= kth:
                    c = at
                    break
                radius = max(dy, scratch[inverses[p, y_indices[partner, at]]])
                if radius < kth:
                    insert(best, radius)
                    kth = best[k - 1]
            if kth > radii[i] or kth > y_radii[partner] * ratio:
                bounds[p, i] = kth
                continue
            bounds[p, i] = -1
            if kth == 0:
                y_atom = y_atoms[partner]
                y_row_indices = y_indices[partner, :y_length]
                joint = joint_table(i, permutations[p], inverses[p], first, y_row_indices, y_atom, y_first)
                term = psi[joint] - psi[atoms[i]] - psi[y_atom]
            else:
                while c > 0 and y_distances[partner, c - 1] * ratio >= kth:
                    c -= 1
                term = psi[k] - psi[lower_bound(row, row.size, kth) + 1] - psi[c + 1]
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF
