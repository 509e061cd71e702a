"""Vertebrae are told apart by their votes, ribs by their way to a vertebra, whatever the net calls them."""

import numpy as np
import pytest

from petbone.anatomy import BY_ID, BY_NAME, LOW_CONFIDENCE
from petbone.audit import number_column
from petbone.net.families import FAMILIES, RIB_LEFT, RIB_RIGHT, VERTEBRA, families
from petbone.net.instances import InstanceRule, find_column, find_ribs
from petbone.net.levels import LevelRule, count_levels

STEP = 4.0
SHAPE = (100, 60, 90)
PARTS = ["C7", *(f"T{n}" for n in range(1, 13)), "L1"]
REACH = {1: 1.2, 11: 1.2, 12: 0.5}  # of a rib along its curve; 2.6 for all others
PITCH = 24.0
TOP = 340.0
SPINE = np.array([198.0, 60.0])


def thorax(shift=0.0, tilt=0.0):
    """Voxels of a spine C7 to L1 with 12 pairs of ribs: index, true label, chances, votes.

    `shift`: share of the net's chance that goes to the level above; `tilt` mm by which the spine leans to the
    front per mm of height.
    """
    index, truth, votes = [], [], []
    for n, name in enumerate(PARTS):
        z = TOP - n * PITCH
        middle = np.array([SPINE[0], SPINE[1] + tilt * (z - 200), z])
        box = np.stack(np.meshgrid(*[np.arange(-w, w + 1, 4.0) for w in (16, 16, 8)], indexing="ij"), -1)
        voxels = np.unique(np.round((middle + box.reshape(-1, 3)) / STEP).astype(int), axis=0)
        index.append(voxels)
        truth += [BY_NAME[name].id] * len(voxels)
        votes.append(middle - voxels * STEP)
        if name[0] != "T":
            continue
        for side, sign in (("left", -1), ("right", 1)):
            turn = np.linspace(0.0, REACH.get(int(name[1:]), 2.6), 140)
            line = np.stack(
                [
                    middle[0] + sign * (22 + 120 * np.sin(turn)),
                    middle[1] + 60 * (1 - np.cos(turn)) - 10,
                    middle[2] + 8 - 18 * turn,
                ],
                1,
            )
            voxels = np.unique(np.round(line / STEP).astype(int), axis=0)
            voxels = voxels[(voxels >= 0).all(1)]
            index.append(voxels)
            truth += [BY_NAME[f"rib_{side}_{name[1:]}"].id] * len(voxels)
            votes.append(np.zeros((len(voxels), 3)))
    index, truth = np.concatenate(index), np.array(truth)
    chances = np.full((len(truth), 62), 0.001, np.float32)
    chances[np.arange(len(truth)), truth - 1] += 1 - shift
    above = [BY_ID[int(n)].name for n in truth]
    above = [BY_NAME[_above(name)].id for name in above]
    chances[np.arange(len(truth)), np.array(above) - 1] += shift
    chances /= chances.sum(1, keepdims=True)
    return index, truth, chances, np.concatenate(votes).astype(np.float32)


def _above(name):
    if name.startswith("rib"):
        stem, number = name.rsplit("_", 1)
        return f"{stem}_{max(1, int(number) - 1)}"
    return PARTS[max(0, PARTS.index(name) - 1)]


def counted(index, chances, votes):
    return count_levels(index, chances, families(chances), votes, SHAPE, STEP, LevelRule())


@pytest.mark.parametrize("tilt", [0.0, 0.25])
@pytest.mark.parametrize("noise_mm", [0.0, 4.0])
def test_levels_are_counted_from_the_first_rib(tilt, noise_mm):
    """The net says the level above of everything in the chest, and yet every voxel comes out right."""
    index, truth, chances, votes = thorax(shift=0.6, tilt=tilt)
    votes = votes + np.random.default_rng(0).normal(0, max(noise_mm, 1e-9), votes.shape)
    assert (chances.argmax(1) + 1 == truth).mean() < 0.2
    result = counted(index, chances, votes)
    assert (result.given == truth).mean() > (0.99 if noise_mm == 0 else 0.95)
    assert set(result.confidence) == set(result.candidates) == set(np.unique(result.given))
    for label, may_be in result.candidates.items():
        assert may_be[0] == label
        assert 0 < result.confidence[label] <= 1


def test_families_do_not_depend_on_numbers():
    chances = np.zeros((4, 62), np.float32)
    for row, names in enumerate(
        (("T5", "T6"), ("rib_left_3", "rib_left_9"), ("rib_right_1", "T1"), ("skull", "C1"))
    ):
        chances[row, [BY_NAME[n].id - 1 for n in names]] = (0.4, 0.35)
    assert list(families(chances)) == [VERTEBRA, RIB_LEFT, RIB_RIGHT, BY_NAME["skull"].id]


def test_a_far_heap_of_votes_is_no_part_of_the_column():
    index, truth, _, votes = thorax()
    spine = np.array([BY_ID[int(n)].group.endswith("_spine") for n in truth])
    points = np.concatenate([index[spine] * STEP, np.full((60, 3), 4.0)])
    aims = np.concatenate([index[spine] * STEP + votes[spine], np.full((60, 3), 4.0)])
    n = len(points)
    column = find_column(points, aims, np.ones(n), np.zeros(n), InstanceRule())
    assert len(column.along_mm) == len(PARTS)
    assert (column.owner[-60:] == -1).all()
    assert np.diff(column.along_mm) == pytest.approx(PITCH, abs=1)


def test_a_rib_that_hangs_on_nothing_goes_by_the_others():
    """Without its medial end a rib keeps the net's number, moved by what its neighbours were moved."""
    index, truth, chances, votes = thorax(shift=0.7)
    cut = (truth == BY_NAME["rib_left_6"].id) & (np.abs(index[:, 0] * STEP - SPINE[0]) < 90)
    index, truth, chances, votes = index[~cut], truth[~cut], chances[~cut], votes[~cut]
    result = counted(index, chances, votes)
    assert (result.given == truth)[truth == BY_NAME["rib_left_6"].id].mean() > 0.9


def test_nothing_is_found_in_nothing():
    none = np.zeros((0, 3))
    column = find_column(none, none, np.zeros(0), np.zeros(0), InstanceRule())
    assert len(column.along_mm) == 0
    ribs = find_ribs(none.astype(int), np.zeros(0), column, np.zeros(0), STEP, InstanceRule())
    assert len(ribs.seen) == 0
    result = count_levels(
        none.astype(int), np.zeros((0, 62), np.float32), np.zeros(0, np.uint8), none, SHAPE, STEP, LevelRule()
    )
    assert result.confidence == {}


def test_no_rib_hangs_below_the_column():
    """A head rest beside the neck may look like rib 9; it cannot be when T4 is the lowest vertebra."""
    index, truth, chances, votes = thorax()
    top = index[:, 2] * STEP > TOP - 4.5 * PITCH
    sides = [np.arange(4, 12), np.arange(4, 8), np.arange(72, 76)]
    blob = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
    says = np.full((len(blob), 62), 0.001, np.float32)
    says[:, BY_NAME["rib_left_9"].id - 1] = 0.9
    result = counted(
        np.concatenate([index[top], blob]),
        np.concatenate([chances[top], says]),
        np.concatenate([votes[top], np.zeros((len(blob), 3))]),
    )
    assert (result.given[-len(blob) :] == 0).all()
    assert (result.given[: int(top.sum())] == truth[top]).mean() > 0.97


def spine_of(truth):
    return np.array([BY_ID[int(n)].group.endswith("_spine") for n in truth])


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_arc_lengths_are_right_up_to_both_ends(tilt):
    """The middle line is smoothed; the first and the last vertebra must not seem to lie beyond its ends."""
    index, truth, _, votes = thorax(tilt=tilt)
    spine = spine_of(truth)
    points = index[spine] * STEP
    n = len(points)
    column = find_column(points, points + votes[spine], np.ones(n), np.zeros(n), InstanceRule())
    along, _ = column.project(column.middles_mm)
    assert along == pytest.approx(column.along_mm, abs=1.5)


def test_distance_from_the_column_goes_on_straight_beyond_its_ends():
    index, truth, _, votes = thorax()
    spine = spine_of(truth)
    points = index[spine] * STEP
    n = len(points)
    column = find_column(points, points + votes[spine], np.ones(n), np.zeros(n), InstanceRule())
    places = np.array([[SPINE[0] + 30, SPINE[1] + 40, z] for z in (TOP + 150, 200.0, -200.0)])
    assert column.aside(places) == pytest.approx([50, 50, 50], abs=1)


def test_vertebrae_beyond_a_long_gap_are_not_lost():
    """Metal hides T5 to T10: what lies below stays bone, by the net's own number and its own chance."""
    index, truth, chances, votes = thorax(shift=0.3)
    hidden = np.isin(truth, [BY_NAME[f"T{n}"].id for n in range(5, 11)])
    index, truth, chances, votes = index[~hidden], truth[~hidden], chances[~hidden], votes[~hidden]
    result = counted(index, chances, votes)
    below = np.isin(truth, [BY_NAME[name].id for name in ("T11", "T12", "L1")])
    above = spine_of(truth) & ~below
    for part in (below, above):
        assert (result.given[part] == truth[part]).mean() > 0.99
    l1 = BY_NAME["L1"].id
    assert result.confidence[l1] == pytest.approx(0.7, abs=0.05)
    assert result.candidates[l1] == (l1, BY_NAME["T12"].id)
    lower_ribs = np.array([BY_ID[int(n)].group == "ribs" for n in truth]) & (index[:, 2] * STEP < 100)
    assert lower_ribs.any()
    assert (result.given[lower_ribs] > 0).all()


def test_ribs_below_a_column_that_was_not_found_to_its_end_are_kept():
    index, truth, chances, votes = thorax()
    keep = ~(spine_of(truth) & (index[:, 2] * STEP < TOP - 4.5 * PITCH))
    index, truth, chances, votes = index[keep], truth[keep], chances[keep], votes[keep]
    result = counted(index, chances, votes)
    low = np.isin(truth, [BY_NAME[f"rib_{side}_{n}"].id for side in ("left", "right") for n in (9, 10, 12)])
    assert (result.given[low] == truth[low]).mean() > 0.95


def test_what_was_not_counted_is_as_sure_as_the_net():
    """Ribs without a vertebra, vertebrae without votes: the number is the net's, and so is its chance."""
    index, truth, chances, votes = thorax(shift=0.3)
    ribs = ~spine_of(truth)
    result = counted(index[ribs], chances[ribs], votes[ribs])
    rib = BY_NAME["rib_left_6"].id
    assert (result.given == rib).any()
    assert result.confidence[rib] == pytest.approx(0.7, abs=0.05)
    assert result.candidates[rib] == (rib, rib - 1)
    few = np.flatnonzero(truth == BY_NAME["T6"].id)[:8]
    result = counted(index[few], chances[few], votes[few])
    t6 = BY_NAME["T6"].id
    assert (result.given == t6).all()
    assert result.confidence[t6] == pytest.approx(0.7, abs=0.05)
    assert result.candidates[t6] == (t6, BY_NAME["T5"].id)


@pytest.mark.parametrize("parts", [["T6"], ["T6", "T7"], ["C7", "T1", "T2"]])
@pytest.mark.parametrize("with_ribs", [True, False])
def test_short_columns_leave_no_family_label_behind(parts, with_ribs):
    index, truth, chances, votes = thorax()
    ids = [BY_NAME[name].id for name in parts]
    if with_ribs:
        ids += [
            BY_NAME[f"rib_{side}_{name[1:]}"].id
            for side in ("left", "right")
            for name in parts
            if name != "C7"
        ]
    keep = np.isin(truth, ids)
    result = counted(index[keep], chances[keep], votes[keep])
    # T1 and T2 without ribs, where these could be seen, are more likely a neck that the net calls too low.
    if with_ribs or "C7" not in parts:
        assert (result.given == truth[keep]).mean() > 0.97
    assert not np.isin(list(result.confidence), [0, *FAMILIES]).any()
    assert np.isfinite(list(result.confidence.values())).all()


def test_a_piece_of_skull_that_can_be_nothing_but_a_vertebra_is_skull():
    """A heap above C1, of which the net has no other thought than a vertebra, is not called T1."""
    names = [f"C{n}" for n in range(1, 8)] + ["T1", "T2", "T3"]
    box = np.stack(np.meshgrid(np.arange(-4, 5), np.arange(-4, 5), [-1, 0, 1], indexing="ij"), -1).reshape(
        -1, 3
    )
    index, truth, votes = [], [], []
    for n, name in enumerate(["C1", *names]):
        index.append(box + np.array([50, 20, 80 - 5 * n]))
        truth += [0 if n == 0 else BY_NAME[name].id] * len(box)
        votes.append(-box * STEP)
    index, truth, votes = np.concatenate(index), np.array(truth), np.concatenate(votes).astype(np.float32)
    chances = np.zeros((len(truth), 62), np.float32)
    chances[np.arange(len(truth)), np.where(truth, truth, BY_NAME["C1"].id) - 1] = 1
    given = counted(index, chances, votes).given
    assert (given[truth == 0] == BY_NAME["skull"].id).all()
    assert (given == truth)[truth > 0].mean() > 0.97


def test_two_vertebrae_whose_votes_meet_are_parted():
    """The votes of T4 and T5 meet half way between them: one heap where the count says that there are two."""
    index, truth, chances, votes = thorax()
    pair = np.isin(truth, [BY_NAME["T4"].id, BY_NAME["T5"].id])
    half_way = np.array([SPINE[0], SPINE[1], TOP - 4.5 * PITCH])
    votes[pair] = (half_way - index[pair] * STEP).astype(np.float32)
    result = counted(index, chances, votes)
    assert (result.given == truth).mean() > 0.95
    for name in ("T4", "T5", "rib_left_4", "rib_right_5"):
        assert (result.given == truth)[truth == BY_NAME[name].id].mean() > 0.8, name


def test_a_gap_in_the_column_is_not_filled():
    index, truth, chances, votes = thorax()
    stay = truth != BY_NAME["T6"].id
    result = counted(index[stay], chances[stay], votes[stay])
    assert BY_NAME["T6"].id not in result.given
    assert (result.given == truth[stay]).mean() > 0.95


def test_ribs_of_a_vertebra_above_the_field_do_not_take_the_first_ones_number():
    """T5 is cut off by the field and the medial ends of its ribs are not."""
    index, truth, chances, votes = thorax()
    cut = [BY_NAME[name].id for name in PARTS[:6]]
    cut += [BY_NAME[f"rib_{side}_{n}"].id for side in ("left", "right") for n in (1, 2, 3, 4)]
    keep = ~np.isin(truth, cut)
    result = counted(index[keep], chances[keep], votes[keep])
    fifth = np.isin(truth[keep], [BY_NAME["rib_left_5"].id, BY_NAME["rib_right_5"].id])
    assert (result.given == truth[keep])[fifth].mean() > 0.95
    assert result.confidence[BY_NAME["rib_left_5"].id] < result.confidence[BY_NAME["rib_left_6"].id]


@pytest.mark.parametrize(("cut", "own"), [("T5", "T6"), ("L1", "T12")])
def test_what_the_field_leaves_of_the_next_vertebra_is_not_called_by_its_neighbours_name(cut, own):
    """A slice of a vertebra at either end of the field, whose votes go to the whole one beside it."""
    index, truth, chances, votes = thorax()
    at = PARTS.index(cut)
    above = at < PARTS.index(own)
    gone = [BY_NAME[name].id for name in (PARTS[:at] if above else PARTS[at + 1 :])]
    gone += [
        BY_NAME[f"rib_{side}_{n}"].id for side in ("left", "right") for n in (range(1, 6) if above else ())
    ]
    here = truth == BY_NAME[cut].id
    middle = TOP - at * PITCH
    inner = index[:, 2] * STEP - middle
    sliver = here & ((inner <= 0) if above else (inner >= 0))
    keep = ~np.isin(truth, gone) & (~here | sliver)
    target = np.array([*SPINE, TOP - PARTS.index(own) * PITCH])
    votes[sliver] = (target - index[sliver] * STEP).astype(np.float32)
    result = counted(index[keep], chances[keep], votes[keep])
    assert (result.given == truth[keep])[sliver[keep]].mean() > 0.9
    assert (result.given == truth[keep]).mean() > 0.95
    sure = result.confidence
    assert sure[BY_NAME[cut].id] < min(LOW_CONFIDENCE, sure[BY_NAME[own].id])
    assert BY_NAME[own].id in result.candidates[BY_NAME[cut].id]


def test_a_rib_in_two_pieces_that_hang_on_nothing_is_half_as_sure():
    """Each may be that rib, not both."""
    line = np.stack([np.arange(20), np.full(20, 40), np.full(20, 30)], 1) + np.array([60, 0, 0])
    chances = np.full((40, 62), 0.001, np.float32)
    chances[:, BY_NAME["rib_right_10"].id - 1] = 1.0
    one = counted(line, chances[:20], np.zeros((20, 3), np.float32))
    two = counted(np.concatenate([line, np.add(line, [0, 0, 8])]), chances, np.zeros((40, 3), np.float32))
    label = BY_NAME["rib_right_10"].id
    assert two.confidence[label] == pytest.approx(one.confidence[label] / 2, rel=0.05)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_rib_taken_for_its_vertebra_is_a_rib_and_unsure(side):
    index, truth, chances, votes = thorax()
    vertebra, rib = BY_NAME["T12"].id, BY_NAME[f"rib_{side}_12"].id
    taken = truth == rib
    chances[taken] = chances[truth == vertebra][0]
    votes[taken] = index[truth == vertebra].mean(0) * STEP - index[taken] * STEP
    result = counted(index, chances, votes)
    aside = np.abs(index[:, 0] * STEP - SPINE[0])
    assert (result.given[taken & (aside > 34) & (aside < 60)] == rib).all()  # what is further may be a kidney
    assert (result.given[truth == vertebra] == vertebra).all()
    assert result.confidence[rib] < LOW_CONFIDENCE <= result.confidence[vertebra]


@pytest.mark.parametrize(("height_mm", "is_skull"), [(TOP - 60, False), (TOP + 4, True)])
def test_no_skull_lies_below_the_neck(height_mm, is_skull):
    """A vein full of contrast medium that the net takes for skull, and the lower end of a real one."""
    index, truth, chances, votes = thorax()
    skull = BY_NAME["skull"].id
    box = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    piece = box + np.round([(SPINE[0] + 60) / STEP, SPINE[1] / STEP, height_mm / STEP]).astype(int)
    chance = np.full((len(piece), 62), 0.001, np.float32)
    chance[:, skull - 1] = 1
    result = counted(
        np.concatenate([index, piece]),
        np.concatenate([chances, chance]),
        np.concatenate([votes, np.zeros((len(piece), 3), np.float32)]),
    )
    assert (result.given[: len(index)] == truth).mean() > 0.99
    assert (result.given[len(index) :] == (skull if is_skull else 0)).all()
    assert (skull in result.confidence) == is_skull


@pytest.mark.parametrize(("rib_ml", "said"), [(0.0, True), (2.0, None)])
def test_a_crumb_beside_the_neck_is_no_evidence_of_a_rib(monkeypatch, rib_ml, said):
    """Two processes of C7, 1.5 mL each, are taken for ribs; those of T1 to T12 are larger."""
    index, truth, chances, votes = thorax()
    middle = index[truth == BY_NAME["C7"].id].mean(0).round().astype(int)
    box = np.stack(np.meshgrid(np.arange(6, 10), [0, 1], [0, 1, 2], indexing="ij"), -1).reshape(-1, 3)
    crumbs = np.concatenate([middle + box, middle + box * [-1, 1, 1]])
    labels = np.repeat([BY_NAME["rib_right_1"].id, BY_NAME["rib_left_1"].id], len(box))
    own = np.full((len(crumbs), 62), 0.001, np.float32)
    own[np.arange(len(crumbs)), labels - 1] = 1
    index, chances = np.concatenate([index, crumbs]), np.concatenate([chances, own])
    votes = np.concatenate([votes, np.zeros((len(crumbs), 3), np.float32)])
    columns = []
    monkeypatch.setattr(
        "petbone.net.levels.number_column",
        lambda seen, rule: columns.append(seen) or number_column(seen, rule),
    )
    count_levels(index, chances, families(chances), votes, SHAPE, STEP, LevelRule(rib_ml=rib_ml))
    assert columns[0][0].ribs == (said, said)
    assert columns[0][1].ribs == (True, True)
