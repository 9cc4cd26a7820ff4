"""Reading neighbour tables: the radius and the counts of every row, under every permutation.

Counts follow Kraskov et al. (2004, doi:10.1103/PhysRevE.69.066138, eq. 8): neighbours strictly nearer than the k-th,
plus one. Where the k-th neighbour is at distance zero on both sides they follow Gao et al. (2017, arXiv:1709.06212):
all coincident samples, the sample itself included, and the number of joint ones in place of k. The same in a few lines
of numpy, which the tests compare with: ``_ksg_row`` and ``_ross_row`` of ``tests/naive.py``.

Each scan takes some rows through P permutations and adds psi(k) - psi(n_x + 1) - psi(n_y + 1) of each. Unlike the
published algorithms it looks at the listed neighbours only. Rows whose k-th neighbour lies beyond the table are
finished from their distances to all samples; those that matter are recomputed, so that they equal those in the table.
Scans of values on a line and of tables can do without those distances (a block of no distances): they then compute the
few that decide on the radius, and leave the counts within it.

What belongs to one row and all permutations lies side by side in memory; what is looked up under one permutation too.
Arrays are taken out of their tuples before the loops: numba counts references each time one is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.kernels.basics import (
    INF,
    Block,
    Output,
    Table,
    compiled,
    count_within,
    distance,
    insert,
    lower_bound,
    lower_bound_scaled,
    widened,
    within_line,
)

__all__ = ["Classes", "Line", "Partners", "complete_labels", "scan_labels", "scan_scalar", "scan_table"]


class Line(NamedTuple):
    """Targets on a line, permuted."""

    values: NDArray[np.float64]  # (n,) ascending, in the unit of the table
    copies: NDArray[np.int32]  # (n,) number of equal values at each place
    positions: NDArray[np.int32]  # (rows, P) place of the permuted target of each row's sample
    samples: NDArray[np.int32]  # (P, n) the sample at each place


class Classes(NamedTuple):
    """Class labels, permuted."""

    labels: NDArray[np.int32]  # (P, n) class of each sample
    members: NDArray[np.int32]  # (P, n) samples in order of their class: class c from starts[c] to starts[c + 1]
    starts: NDArray[np.int64]  # (classes + 1,); two samples a class at least


class Partners(NamedTuple):
    """How samples are paired with the targets of another table."""

    rows: NDArray[np.int32]  # (rows, P) which row of the targets' table goes with a row
    samples: NDArray[np.int32]  # (P, n) which sample goes with a target
    targets: NDArray[np.int32]  # (P, n) which target goes with a sample
    ratio: np.float32  # unit of the table over unit of the targets' one: turns distances of targets into the table's


@compiled
def _joint_line(i, position, values, samples, leaders):
    """Number of samples that coincide with i and have its target, i included."""
    joint = 1
    for side in (-1, 1):
        at = position + side
        while 0 <= at < values.size and values[at] == values[position]:
            joint += leaders[samples[at]] == leaders[i]
            at += side
    return joint


@compiled
def _joint_labels(i, members, leaders):
    """Number of samples of a class that coincide with i, i included."""
    joint = 0
    for m in range(members.size):
        joint += leaders[members[m]] == leaders[i]
    return joint


@compiled
def _joint_table(i, target, samples, leaders, listed_targets, copies, target_leaders):
    """Number of samples that coincide with i and whose targets coincide with its target, i included.

    Args:
        i: the sample.
        target: its target.
        samples: (n,) as in ``Partners``, under one permutation.
        leaders, target_leaders: (n,) of the two tables.
        listed_targets: neighbours of the target.
        copies: number of targets that coincide with it, itself included.
    """
    if copies <= listed_targets.size:  # all that coincide are listed, in front
        joint = 1
        for at in range(copies - 1):
            joint += leaders[samples[listed_targets[at]]] == leaders[i]
        return joint
    joint = 0
    for other in range(leaders.size):
        joint += leaders[samples[other]] == leaders[i] and target_leaders[other] == target_leaders[target]
    return joint


@compiled
def scan_scalar(table: Table, line: Line, psi, k, block: Block, output: Output):
    """KSG against values on a line, walking outwards from the target's place on it.

    The sides take turns by stretches, which costs fewer wrong guesses of the processor than merging them would.

    Args:
        table: neighbours of the samples.
        line: their targets.
        psi: (n + 2,) digamma of 0 to n + 1.
        k: number of neighbours.
        block: rows to read.
        output: written for those rows. Without distances in the block, the terms of rows that go beyond the table are
            not in ``sums``: their samples within the radius are still to be counted.
    """
    x, metric, leaders, copies = table.values, table.metric, table.leaders, table.copies
    values, line_copies, positions, places = line.values, line.copies, line.positions, line.samples
    rows, slack = block.rows, block.slack
    local, sums, completed = output.local, output.sums, output.completed
    x_counts, y_counts, in_block = output.x_counts, output.y_counts, block.distances.shape[0] > 0
    lengths, radii, distances, indices, approximates = (
        table.lengths,
        table.radii,
        table.distances,
        table.indices,
        block.distances,
    )
    n = values.size
    best = np.empty(k, np.float32)
    listed = np.empty(n, np.float32)  # distances of the neighbours that the row at hand lists
    listed[:] = INF
    # Permutations under which the row's samples are still to be counted, all in one pass over its distances.
    n_permutations = completed.shape[1]
    counted, radii_counted = np.empty(n_permutations, np.int64), np.empty(n_permutations, np.float32)
    x_counted, y_counted = np.empty_like(counted), np.empty_like(counted)
    for r in range(rows.size):
        at_row = rows[r]
        i = table.samples[at_row]
        n_counted = 0
        length, own_radius = lengths[at_row], radii[at_row]
        row, row_indices = distances[at_row, :length], indices[at_row, :length]
        for c in range(row.size):
            listed[row_indices[c]] = row[c]
        if in_block:
            approximate, absolute, relative = approximates[r], slack[r], slack[rows.size]
        else:
            approximate, absolute, relative = listed, np.float32(0), np.float32(0)  # not used
        for p in range(positions.shape[1]):
            position = np.int64(positions[at_row, p])
            samples = places[p]
            value = values[position]
            best[:] = INF
            kth = INF
            below, above = position - 1, position + 1
            walking = True
            while walking:
                end = max(below - 16, -1)
                while below > end:
                    dy = np.float32(value - values[below])
                    if dy >= kth:
                        break
                    radius = max(dy, listed[samples[below]])
                    if radius < kth:
                        insert(best, radius)
                        kth = best[k - 1]
                    below -= 1
                walking = below == end and below >= 0
                end = min(above + 16, n)
                while above < end:
                    dy = np.float32(values[above] - value)
                    if dy >= kth:
                        break
                    radius = max(dy, listed[samples[above]])
                    if radius < kth:
                        insert(best, radius)
                        kth = best[k - 1]
                    above += 1
                walking |= above == end and above < n
            completed[at_row, p] = -1
            if kth > own_radius:
                limit = widened(kth, metric, absolute, relative)
                for side in (-1, 1):  # once more outwards, for samples that the row does not list
                    at = position + side
                    while 0 <= at < n:
                        dy = np.float32(abs(values[at] - value))
                        if dy >= kth:
                            break
                        j = np.int64(samples[at])
                        if (not in_block or approximate[j] <= limit) and listed[j] == INF:
                            radius = max(dy, distance(x, i, x, j, metric))
                            if radius < kth:
                                insert(best, radius)
                                kth = best[k - 1]
                                limit = widened(kth, metric, absolute, relative)
                        at += side
                completed[at_row, p] = kth
            if kth == 0:
                joint = _joint_line(i, position, values, samples, leaders)
                term = psi[joint] - psi[copies[at_row]] - psi[line_copies[position]]
            else:
                y_count = within_line(values, position, below, above, kth)
                if kth > own_radius:
                    if not in_block:
                        x_counts[at_row, p], y_counts[at_row, p] = 0, y_count
                        continue
                    counted[n_counted], radii_counted[n_counted], y_counted[n_counted] = p, kth, y_count
                    n_counted += 1
                    continue
                term = psi[k] - psi[lower_bound(row, row.size, kth) + 1] - psi[y_count]
            sums[p] += term
            if p == 0:
                local[at_row] = term
        if n_counted:
            radii_of_row = radii_counted[:n_counted]
            count_within(approximate, x, i, metric, radii_of_row, absolute, relative, x_counted)
        for c in range(n_counted):
            p = counted[c]
            term = psi[k] - psi[x_counted[c] + 1] - psi[y_counted[c]]
            sums[p] += term
            if p == 0:
                local[at_row] = term
        for c in range(row.size):
            listed[row_indices[c]] = INF


@compiled
def scan_labels(table: Table, classes: Classes, psi, k, start, stop, output: Output):
    """Ross (2014) against class labels, rows start to stop.

    Rows that may go beyond the table are left: infinity is written to ``completed``, see ``complete_labels``.

    Args:
        table: neighbours of the samples.
        classes: their classes.
        psi: (n + 2,) digamma of 0 to n + 1.
        k: number of neighbours; a class of m <= k members uses m - 1.
        start, stop: rows to read.
        output: written for those rows.
    """
    starts, leaders, copies = classes.starts, table.leaders, table.copies
    local, completed = output.local, output.completed
    lengths, radii, distances, indices, labels, all_members = (
        table.lengths,
        table.radii,
        table.distances,
        table.indices,
        classes.labels,
        classes.members,
    )
    for p in range(labels.shape[0]):
        label, members = labels[p], all_members[p]
        total = 0.0
        for at_row in range(start, stop):
            i = table.samples[at_row]
            own = label[i]
            size = starts[own + 1] - starts[own]
            wanted = min(k, size - 1)
            length, radius = lengths[at_row], radii[at_row]
            row, row_indices = distances[at_row, :length], indices[at_row, :length]
            found = 0
            c = row.size
            for at in range(row.size):
                found += label[row_indices[at]] == own
                if found == wanted:
                    c = at
                    break
            if c == row.size or row[c] > radius:
                completed[at_row, p] = INF
                continue
            completed[at_row, p] = -1
            if row[c] == 0:
                joint = _joint_labels(i, members[starts[own] : starts[own + 1]], leaders)
                term = psi[joint] - psi[copies[at_row]] - psi[size]
            else:
                kth = row[c]
                while c > 0 and row[c - 1] >= kth:
                    c -= 1
                term = psi[wanted] - psi[c + 1] - psi[size]
            total += term
            if p == 0:
                local[at_row] = term
        output.sums[p] = total


@compiled
def complete_labels(table: Table, classes: Classes, psi, k, block: Block, output: Output):
    """Add the rows that ``scan_labels`` left, by visiting the members of the class.

    Args:
        table, classes, psi, k: as for ``scan_labels``.
        block: rows to look at, with their distances.
        output: what ``scan_labels`` wrote.
    """
    x, metric, leaders, copies = table.values, table.metric, table.leaders, table.copies
    rows, starts, completed = block.rows, classes.starts, output.completed
    approximates, slack, labels, members = block.distances, block.slack, classes.labels, classes.members
    relative = slack[rows.size]
    best = np.empty(k, np.float32)
    n_permutations = completed.shape[1]
    counted, radii_counted = np.empty(n_permutations, np.int64), np.empty(n_permutations, np.float32)
    x_counted, wanted_counted, sizes_counted = np.empty_like(counted), np.empty_like(counted), np.empty_like(counted)
    for r in range(rows.size):
        at_row, approximate, absolute = rows[r], approximates[r], slack[r]
        i = table.samples[at_row]
        n_counted = 0
        for p in range(n_permutations):
            if completed[at_row, p] < 0:
                continue
            own = labels[p, i]
            own_members = members[p, starts[own] : starts[own + 1]]
            wanted = min(k, own_members.size - 1)
            nearest = best[:wanted]
            nearest[:] = INF
            limit = INF
            for m in range(own_members.size):
                j = np.int64(own_members[m])
                if j != i and approximate[j] <= limit:
                    radius = distance(x, i, x, j, metric)
                    if radius < nearest[wanted - 1]:
                        insert(nearest, radius)
                        limit = widened(nearest[wanted - 1], metric, absolute, relative)
            kth = nearest[wanted - 1]
            if kth != 0:
                counted[n_counted], radii_counted[n_counted] = p, kth
                wanted_counted[n_counted], sizes_counted[n_counted] = wanted, own_members.size
                n_counted += 1
                continue
            term = psi[_joint_labels(i, own_members, leaders)] - psi[copies[at_row]] - psi[own_members.size]
            output.sums[p] += term
            if p == 0:
                output.local[at_row] = term
        if n_counted:
            radii_of_row = radii_counted[:n_counted]
            count_within(approximate, x, i, metric, radii_of_row, absolute, relative, x_counted)
        for c in range(n_counted):
            p = counted[c]
            term = psi[wanted_counted[c]] - psi[x_counted[c] + 1] - psi[sizes_counted[c]]
            output.sums[p] += term
            if p == 0:
                output.local[at_row] = term


@compiled
def scan_table(table: Table, other: Table, partners: Partners, psi, k, block: Block, output: Output):
    """KSG by intersecting each row with the permuted partner's row of the target's table.

    Args:
        table: neighbours of the samples.
        other: neighbours of the targets.
        partners: which target goes with which sample.
        psi: (n + 2,) digamma of 0 to n + 1.
        k: number of neighbours.
        block: rows to read.
        output: written for those rows. The terms of rows that go beyond the targets' table are not in ``sums``: their
            targets within the radius are still to be counted. Without distances in the block, neither are those of rows
            that go beyond their own.
    """
    x, metric, leaders, copies = table.values, table.metric, table.leaders, table.copies
    target_rows, samples, targets, ratio = partners.rows, partners.samples, partners.targets, partners.ratio
    rows, slack = block.rows, block.slack
    local, sums, completed = output.local, output.sums, output.completed
    x_counts, y_counts, in_block = output.x_counts, output.y_counts, block.distances.shape[0] > 0
    lengths, radii, distances, indices, approximates = (
        table.lengths,
        table.radii,
        table.distances,
        table.indices,
        block.distances,
    )
    other_lengths, other_radii, other_distances, all_other_indices, other_copies, other_leaders, y, y_metric = (
        other.lengths,
        other.radii,
        other.distances,
        other.indices,
        other.copies,
        other.leaders,
        other.values,
        other.metric,
    )
    n = leaders.size
    best = np.empty(k, np.float32)
    listed = np.empty(n, np.float32)  # distances of the neighbours that the row at hand lists
    listed[:] = INF
    # Permutations under which the row's samples are still to be counted, all in one pass over its distances.
    n_permutations = completed.shape[1]
    counted, radii_counted = np.empty(n_permutations, np.int64), np.empty(n_permutations, np.float32)
    x_counted, y_counted = np.empty_like(counted), np.empty_like(counted)
    for r in range(rows.size):
        at_row = rows[r]
        i = table.samples[at_row]
        n_counted = 0
        length, own_radius = lengths[at_row], radii[at_row]
        row, row_indices = distances[at_row, :length], indices[at_row, :length]
        for c in range(row.size):
            listed[row_indices[c]] = row[c]
        if in_block:
            approximate, absolute, relative = approximates[r], slack[r], slack[rows.size]
        else:
            approximate, absolute, relative = listed, np.float32(0), np.float32(0)  # not used
        for p in range(samples.shape[0]):
            other_at = np.int64(target_rows[at_row, p])
            target = other.samples[other_at]
            sample_of, target_of = samples[p], targets[p]
            other_length = other_lengths[other_at]
            other_row, other_indices = (
                other_distances[other_at, :other_length],
                all_other_indices[other_at, :other_length],
            )
            other_radius = other_radii[other_at] * ratio
            best[:] = INF
            kth = INF
            for at in range(other_row.size):
                dy = other_row[at] * ratio
                if dy >= kth:
                    break
                radius = max(dy, listed[sample_of[other_indices[at]]])
                if radius < kth:
                    insert(best, radius)
                    kth = best[k - 1]
            completed[at_row, p] = -1
            if kth > own_radius or kth > other_radius:
                # Those in both rows have been taken. What else there is below the bound stands in the row that is
                # complete up to it; where neither is, it may be any sample.
                limit = widened(kth, metric, absolute, relative)
                if kth <= other_radius:
                    for at in range(other_row.size):
                        dy = other_row[at] * ratio
                        if dy >= kth:
                            break
                        j = np.int64(sample_of[other_indices[at]])
                        if (not in_block or approximate[j] <= limit) and listed[j] == INF:
                            radius = max(dy, distance(x, i, x, j, metric))
                            if radius < kth:
                                insert(best, radius)
                                kth = best[k - 1]
                                limit = widened(kth, metric, absolute, relative)
                else:  # started from again
                    own_is_complete = kth <= own_radius
                    best[:] = np.nextafter(kth, INF)
                    kth = best[k - 1]
                    for at in range(row.size if own_is_complete else n):
                        if own_is_complete:
                            j, dx = np.int64(row_indices[at]), row[at]
                            if dx >= kth:
                                break
                        else:
                            j = at
                            if j == i or (in_block and not approximate[j] <= limit):
                                continue
                            dx = distance(x, i, x, j, metric)
                        if dx < kth:
                            radius = max(dx, distance(y, target, y, np.int64(target_of[j]), y_metric) * ratio)
                            if radius < kth:
                                insert(best, radius)
                                kth = best[k - 1]
                                limit = widened(kth, metric, absolute, relative)
                completed[at_row, p] = kth
            if kth == 0:
                joint = _joint_table(
                    i, target, sample_of, leaders, other_indices, other_copies[other_at], other_leaders
                )
                term = psi[joint] - psi[copies[at_row]] - psi[other_copies[other_at]]
            else:
                # Counts still missing are 0: a sample counts itself.
                x_count = 0 if kth > own_radius else lower_bound(row, row.size, kth) + 1
                y_count = 0 if kth > other_radius else lower_bound_scaled(other_row, other_row.size, ratio, kth) + 1
                if not x_count and in_block:
                    counted[n_counted], radii_counted[n_counted], y_counted[n_counted] = p, kth, y_count
                    n_counted += 1
                    continue
                if not (x_count and y_count):
                    x_counts[at_row, p], y_counts[at_row, p] = x_count, y_count
                    continue
                term = psi[k] - psi[x_count] - psi[y_count]
            sums[p] += term
            if p == 0:
                local[at_row] = term
        if n_counted:
            radii_of_row = radii_counted[:n_counted]
            count_within(approximate, x, i, metric, radii_of_row, absolute, relative, x_counted)
        for c in range(n_counted):
            p = counted[c]
            if not y_counted[c]:
                x_counts[at_row, p], y_counts[at_row, p] = x_counted[c] + 1, 0
                continue
            term = psi[k] - psi[x_counted[c] + 1] - psi[y_counted[c]]
            sums[p] += term
            if p == 0:
                local[at_row] = term
        for c in range(row.size):
            listed[row_indices[c]] = INF
