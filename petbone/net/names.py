"""From the net's chances to one name per voxel of the coarse grid.

The net judges every 8 mm block for itself, so one bone can come out in patches of two names and a speck of
contrast medium can come out as a bone. Here the chances are shared between neighbours, stray pieces are
given to what they touch, and specks are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from petbone.anatomy import STANDARD_VOLUME_ML
from petbone.components import connected, label_boxes
from petbone.net.coarse import Coarse
from petbone.net.families import FAMILIES, RIB_LEFT, RIB_RIGHT, families
from petbone.net.levels import LevelRule, count_levels
from petbone.net.shoulder import ShoulderRule, name_heads
from petbone.thinned import F32

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NameRule:
    """How names are made consistent; volumes in mL, `share` is part of a bone's largest piece.

    Pieces of ribs and vertebrae below `stray_rib_ml` are strays; of other bones, those below `stray_share`.
    """

    bone_chance: float = 0.5
    # Of the brightest fiftieth of all that was found, on 4 mm: without so much there is no cortex anywhere,
    # and what the net found is no bone. In real scans it is 500 HU and more.
    least_hu: float = 120.0
    rounds: int = 4
    keep_own: float = 0.4
    speck_ml: float = 0.4
    stray_share: float = 0.25
    stray_ml: float = 5.0  # a piece of more than this stays, though it touches nothing
    sliver_share: float = 0.02  # of the bone's volume in an adult
    stray_rib_ml: float = 1.0
    rib_half_mm: float = 11.0
    levels: LevelRule = field(default_factory=LevelRule)
    shoulder: ShoulderRule = field(default_factory=ShoulderRule)


@dataclass(frozen=True, eq=False)
class Named:
    """`labels` (X, Y, Z) uint8 on the coarse grid; by label, `confidence`: the chance that the name is right,
    and `candidates`: the labels that it may be, its own first. `dropped_ml`: what the net took for bone and
    is left out as contrast medium, a speck, a stray piece, too thick for a rib, or beside the column."""

    labels: U8
    confidence: dict[int, float]
    candidates: dict[int, tuple[int, ...]]
    dropped_ml: float = 0.0


def chances_at(which: F32, index: npt.NDArray[np.intp]) -> F32:
    """(n, classes) chances at full-resolution voxels `index` (n, 3), trilinear between 2 x 2 x 2 blocks."""
    where = (index - 0.5) / 2
    low = np.floor(where).astype(np.intp)
    part = (where - low).astype(np.float32)
    last = np.array(which.shape[1:]) - 1
    values = np.moveaxis(which, 0, -1)
    out = np.zeros((len(index), which.shape[0]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        at = (low + corner).clip(0, last)
        weight = np.where(corner, part, 1 - part).prod(1)
        out += weight[:, None] * values[at[:, 0], at[:, 1], at[:, 2]]
    return out


def neighbour_means(mask: npt.NDArray[np.bool_]) -> sparse.csr_matrix:
    """(n, n) matrix that averages over the up to 26 neighbours in the mask (itself where there are none)."""
    number = np.full(np.add(mask.shape, 2), -1, np.int64)
    inner = number[1:-1, 1:-1, 1:-1]
    inner[mask] = np.arange(mask.sum())
    rows, columns = [], []
    here = inner[mask]
    for shift in np.ndindex(3, 3, 3):
        if shift == (1, 1, 1):
            continue
        there = number[tuple(slice(s, s + n) for s, n in zip(shift, mask.shape, strict=True))][mask]
        seen = there >= 0
        rows.append(here[seen])
        columns.append(there[seen])
    row, column = np.concatenate(rows), np.concatenate(columns)
    alone = np.flatnonzero(np.bincount(row, minlength=len(here)) == 0)
    row, column = np.append(row, alone), np.append(column, alone)
    ones = np.ones(len(row), np.float32)
    matrix = sparse.csr_matrix((ones, (row, column)), shape=(len(here), len(here)))
    return sparse.diags_array(1 / np.asarray(matrix.sum(1)).ravel()).astype(np.float32) @ matrix


def _reassign_strays(labels: U8, voxel_ml: float, rule: NameRule) -> U8:
    """Pieces much smaller than the largest of their bone take the most frequent name around them, or go.

    So does a sliver of a bone that touches another; where it touches none it may be a bone that is cut off.
    """
    pieces = connected(labels, 26)
    sizes = np.bincount(pieces.ravel())
    owner = np.zeros(len(sizes), np.uint8)
    owner[pieces.ravel()] = labels.ravel()
    largest = np.zeros(256, np.int64)
    np.maximum.at(largest, owner[1:], sizes[1:])
    out = labels.copy()
    boxes = ndimage.find_objects(pieces)
    for piece in range(1, len(sizes)):
        bone = int(owner[piece])
        least = rule.stray_rib_ml / voxel_ml if bone in FAMILIES else rule.stray_share * largest[bone]
        sliver = rule.sliver_share * STANDARD_VOLUME_ML.get(bone, 0) / voxel_ml
        if sizes[piece] >= max(least, sliver):
            continue
        box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in boxes[piece - 1])
        here = pieces[box] == piece
        rim = ndimage.binary_dilation(here, np.ones((3, 3, 3), bool)) & ~here
        around = np.bincount(labels[box][rim], minlength=256)
        around[0] = 0
        if around.any():
            out[box][here] = around.argmax()
        elif sizes[piece] < min(least, rule.stray_ml / voxel_ml):
            out[box][here] = 0
    return out


def _without_thick_ribs(labels: U8, step_mm: float, rule: NameRule) -> U8:
    """A kidney full of contrast medium is as bright as a rib, but no rib is so thick: such cores go, and what
    lies within half a thickness of them."""
    out = labels.copy()
    for side in (RIB_LEFT, RIB_RIGHT):
        tight = label_boxes(labels).get(side)
        if tight is None:
            continue
        # A voxel more all round is no rib: distances are then those in the whole field.
        box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in tight)
        rib = labels[box] == side
        core = ndimage.distance_transform_edt(rib, sampling=step_mm) > rule.rib_half_mm
        if core.any():
            thick = ndimage.distance_transform_edt(~core, sampling=step_mm) <= rule.rib_half_mm
            out[box][thick & rib] = 0
    return out


def _smoothed(given: U8, family: U8, means: sparse.csr_matrix, rounds: int) -> U8:
    """Vertebrae and ribs without ragged borders: the most frequent number around, within the family."""
    out = given.copy()
    found = np.unique(given[given > 0])
    share = (given[:, None] == found[None]).astype(np.float32)
    for _ in range(rounds):
        share = 0.5 * share + 0.5 * (means @ share)
    for kind in FAMILIES:
        here = (family == kind) & (given > 0)
        if here.any():
            own = np.isin(found, given[here])
            out[here] = found[own][share[here][:, own].argmax(1)]
    return out


def name_voxels(coarse: Coarse, rule: NameRule) -> Named:
    """One name for every bone voxel of the coarse grid."""
    mask = coarse.bone > rule.bone_chance
    voxel_ml = coarse.grid.voxel_ml
    wanted = np.count_nonzero(mask)
    if coarse.medium is not None:
        mask = mask & ~coarse.medium
    pieces = connected(mask, 26)
    sizes = np.bincount(pieces.ravel())
    big = sizes * voxel_ml >= rule.speck_ml
    big[0] = False
    mask = big[pieces]
    labels = np.zeros(mask.shape, np.uint8)
    if not mask.any() or np.percentile(coarse.hu[mask], 98) < rule.least_hu:
        return Named(labels, {}, {}, wanted * voxel_ml)
    index = np.argwhere(mask)
    own = chances_at(coarse.which, index)
    shared = own
    means = neighbour_means(mask)
    for _ in range(rule.rounds):
        shared = rule.keep_own * own + (1 - rule.keep_own) * (means @ shared)
    labels[mask] = families(shared)
    for _ in range(2):
        labels = _reassign_strays(labels, voxel_ml, rule)
    step_mm = float(coarse.grid.spacing_mm[0])
    labels = _without_thick_ribs(labels, step_mm, rule)
    found = labels > 0
    heads = name_heads(labels, label_boxes(labels), coarse.grid.spacing_mm, rule.shoulder)
    labels[~found] = 0
    votes_mm = chances_at(coarse.centre_mm, index)
    counted = count_levels(index, own, labels[mask], votes_mm, mask.shape, step_mm, rule.levels)
    for humerus, scapula in heads.items():
        # The ball tells one from the other; the net needs to be sure of the shoulder alone.
        at = counted.given == humerus
        counted.confidence[humerus] = float(own[at][:, [humerus - 1, scapula - 1]].sum(1).mean())
    labels[mask] = _smoothed(counted.given, labels[mask], means, rule.rounds)
    dropped_ml = voxel_ml * float(wanted - np.count_nonzero(labels))
    return Named(labels, counted.confidence, counted.candidates, dropped_ml)
