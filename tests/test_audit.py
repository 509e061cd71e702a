"""Columns are counted: what single vertebrae seem to be gives way to what the whole column can be."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from petbone.anatomy import BY_ID, BY_NAME, LOW_CONFIDENCE
from petbone.audit import (
    LEVELS,
    USUAL_GAP_MM,
    USUAL_RIB,
    ChainRule,
    Seen,
    hidden_after,
    number_column,
)

ORDER = [*(f"C{n}" for n in range(1, 8)), *(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6))]
DEPTH = dict(zip(ORDER, np.concatenate([[0.0], np.cumsum(USUAL_GAP_MM)]), strict=True))


def column(names, says=None, ribs=True, size=1.0, sacrum=None):
    """Vertebrae `names` of a person of `size`, of which the net says `says` (a dict of chances each)."""
    seen = []
    for n, name in enumerate(names):
        chances = np.full(len(LEVELS), 0.005)
        for level, chance in (says[n] if says else {name: 0.8}).items():
            chances[LEVELS.index(BY_NAME[level].id)] += chance
        hangs = (name[0] == "T",) * 2 if ribs else (None, None)
        below = None if sacrum is None else sacrum and n == len(names) - 1
        seen.append(Seen(chances, size * DEPTH[name], hangs, below))
    return seen


def named(chain):
    return [BY_ID[level].name for level in chain.levels]


@pytest.mark.parametrize("part", [ORDER, ORDER[5:20], ORDER[10:14], ORDER[16:], ["T7"]])
@pytest.mark.parametrize("size", [0.8, 1.0, 1.2])
def test_a_clear_column_keeps_its_names(part, size):
    """A net can call all that it sees one level too low: where no first or last rib is seen nothing tells,
    and however clear the net is, its name is not said alone."""
    chain = number_column(column(part, size=size))
    assert named(chain) == part
    sure = chain.confidence()
    assert min(sure) > 0.8 if part[0][0] != part[-1][0] else max(sure) < LOW_CONFIDENCE
    assert min(sure) > 0.5
    assert chain.chances.sum(1) == pytest.approx(1)


def test_the_skull_anchors_a_neck():
    """The net calls C1 to C4 one too low and no rib is in sight."""
    part = ORDER[:4]
    says = [{ORDER[ORDER.index(name) + 1]: 0.45, name: 0.3} for name in part]
    seen = column(part, says, ribs=False)
    assert max(number_column(seen).confidence()) < LOW_CONFIDENCE
    near = (True, None, False, False)
    seen = [replace(one, skull_above=above) for one, above in zip(seen, near, strict=True)]
    chain = number_column(seen)
    assert named(chain) == part
    assert min(chain.confidence()) > 0.8


def test_a_slide_that_cannot_be_leaves_the_net_its_word():
    """Without slides a clear piece of a chest is as sure as the net is."""
    part = ORDER[10:14]
    assert min(number_column(column(part), ChainRule(slide=())).confidence()) > 0.9


def test_an_empty_column_has_no_levels():
    assert number_column([]).levels == ()


def test_ribs_anchor_a_chest_that_the_net_reads_one_too_high():
    """The net slides: from T4 down it says the level above; the first and last rib say what is right."""
    part = ORDER[6:21]  # C7 to L2
    says = [
        {name: 0.6}
        if ORDER.index(name) < ORDER.index("T4")
        else {ORDER[ORDER.index(name) - 1]: 0.6, name: 0.1}
        for name in part
    ]
    chain = number_column(column(part, says))
    assert named(chain) == part
    assert min(chain.confidence()) > 0.9
    assert max(number_column(column(part, says, ribs=False)).confidence()) < 0.7


def test_the_sacrum_anchors_a_loin():
    part = ORDER[19:]  # L1 to L5
    says = [{ORDER[ORDER.index(name) - 1]: 0.45, name: 0.35} for name in part]
    assert named(number_column(column(part, says, sacrum=True))) == part
    assert named(number_column(column(part, says, sacrum=False))) != part


def test_a_missed_vertebra_leaves_a_gap_in_the_count():
    part = [name for name in ORDER[8:18] if name != "T6"]
    assert named(number_column(column(part))) == part


@pytest.mark.parametrize("part", [ORDER, ORDER[3:20]])
@pytest.mark.parametrize(
    ("first", "last"), [("T6", "T8"), ("T5", "T8"), ("T4", "T8"), ("L1", "L3"), ("C4", "C7"), ("C3", "C7")]
)
@pytest.mark.parametrize("ribs", [True, False])
def test_several_vertebrae_hidden_by_metal_do_not_shift_the_others(part, first, last, ribs):
    hidden = ORDER[ORDER.index(first) : ORDER.index(last) + 1]
    left = [name for name in part if name not in hidden]
    chain = number_column(column(left, ribs=ribs))
    assert named(chain) == left
    assert min(chain.confidence()) > 0.5


def test_thirteen_and_eleven_thoracic_vertebrae_are_legal():
    part = ORDER[8:24]
    seen = column(part)
    l1 = part.index("L1")
    at = seen[l1].along_mm
    extra = [Seen(one.chances, one.along_mm + 29.5, one.ribs) for one in seen[l1:]]
    thirteen = number_column([*seen[:l1], Seen(seen[l1 - 1].chances, at, (True, True)), *extra])
    assert named(thirteen) == [*part[:l1], "T13", *part[l1:]]
    down = seen[l1].along_mm - seen[l1 - 1].along_mm
    fewer = [Seen(one.chances, one.along_mm - down, one.ribs) for one in seen[l1:]]
    eleven = number_column([*seen[: l1 - 1], *fewer])
    assert named(eleven) == [name for name in part if name != "T12"]


def test_a_short_piece_without_an_anchor_says_that_it_is_unsure():
    part = ["T5", "T6", "T7", "T8"]
    says = [{ORDER[ORDER.index(n) + k]: c for k, c in ((-1, 0.3), (0, 0.35), (1, 0.3))} for n in part]
    chain = number_column(column(part, says))
    assert named(chain) == part
    assert max(chain.confidence()) < 0.7


def test_votes_of_a_long_column_count_as_a_few():
    """A hundred repeated hints are not a hundred independent ones."""
    part = ORDER[7:19]
    says = [{ORDER[ORDER.index(name) - 1]: 0.45, name: 0.35} for name in part]
    few = number_column(column(part, says, ribs=False), ChainRule(independent=2.0))
    many = number_column(column(part, says, ribs=False), ChainRule(independent=12.0))
    assert np.mean(few.confidence()) < np.mean(many.confidence())


def test_a_piece_of_skull_on_top_is_no_vertebra():
    part = ORDER[:10]
    seen = [Seen(one.chances, one.along_mm + 20, one.ribs) for one in column(part)]
    chain = number_column([Seen(seen[0].chances, 0.0, (False, False)), *seen])
    assert chain.levels[0] == 0
    assert [BY_ID[level].name for level in chain.levels[1:]] == part


def test_two_halves_of_one_vertebra_are_one():
    part = ORDER[9:17]
    seen = column(part)
    at = part.index("T6")
    seen = [Seen(one.chances, one.along_mm, one.ribs, size=100.0) for one in seen]
    upper, lower = (
        Seen(seen[at].chances, seen[at].along_mm + shift, (True, True), size=50.0) for shift in (-6, 6)
    )
    chain = number_column([*seen[:at], upper, lower, *seen[at + 1 :]])
    assert named(chain) == [*part[: at + 1], "T6", *part[at + 1 :]]


def test_feet_first_is_refused():
    with pytest.raises(ValueError, match="head to foot"):
        number_column(column(["T5", "T4"]))


def with_ribs(names, says, hanging, sizes):
    """The column with ribs on the vertebrae `hanging`, of `sizes` by name."""
    seen = column(names, says, ribs=False)
    return [
        replace(one, ribs=(name in hanging,) * 2, rib_size=sizes.get(name))
        for name, one in zip(names, seen, strict=True)
    ]


def test_a_large_last_rib_is_not_the_twelfth():
    """Both ribs 12 are missed, and the net hangs between two levels: that the last ribs are large decides."""
    part = ORDER[9:22]  # T3 to L3
    below = dict(itertools.pairwise(ORDER))
    says = [{name: 0.4, below[name]: 0.5} for name in part]
    hanging = ORDER[9:18]  # T3 to T11
    sizes = {f"T{n}": 250.0 * USUAL_RIB[n - 1] for n in range(3, 12)}
    assert number_column(with_ribs(part, says, hanging, {})).levels != tuple(BY_NAME[n].id for n in part)
    chain = number_column(with_ribs(part, says, hanging, sizes))
    assert named(chain) == part
    assert min(chain.confidence()) > LOW_CONFIDENCE


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_ribs_found_in_part_say_nothing(share):
    part = ORDER[9:22]
    hanging = ORDER[9:19]
    sizes = {f"T{n}": 250.0 * USUAL_RIB[n - 1] for n in range(3, 13)}
    sizes["T5"] *= share
    sizes["T9"] *= share
    plain = number_column(with_ribs(part, None, hanging, {}))
    chain = number_column(with_ribs(part, None, hanging, sizes))
    assert named(chain) == named(plain) == part
    assert min(chain.confidence()) >= min(plain.confidence()) - 1e-6


def test_four_ribs_do_not_tell_how_large_a_person_is():
    part = ORDER[9:13]
    sizes = {"T3": 30.0, "T4": 300.0, "T5": 250.0, "T6": 300.0}
    plain = number_column(with_ribs(part, None, part, {}))
    assert np.array_equal(number_column(with_ribs(part, None, part, sizes)).chances, plain.chances)


def met(part, upper, says=None, spread_mm=8.0, sizes=None):
    """The column `part` in which the votes of `upper` and the next vertebra met in one heap between them."""
    seen = column(part, says)
    k = part.index(upper)
    between = (seen[k].along_mm + seen[k + 1].along_mm) / 2
    heap = replace(
        seen[k], along_mm=between, chances=(seen[k].chances + seen[k + 1].chances) / 2, spread_mm=spread_mm
    )
    others = [replace(one, spread_mm=4.8) for one in seen]
    return [*others[:k], heap, *others[k + 2 :]]


@pytest.mark.parametrize("upper", ["C7", "T2", "T7", "L1"])
def test_two_vertebrae_whose_votes_met_are_two(upper):
    """Though the net is as content with a level higher or lower as with the right one."""
    part = ORDER[4:22]
    above = {below: name for name, below in itertools.pairwise(ORDER)}
    says = [{name: 0.5, above[name]: 0.4} for name in part]
    chain = number_column(met(part, upper, says))
    assert named(chain) == [name for name in part if name != ORDER[ORDER.index(upper) + 1]]
    assert hidden_after(chain) == {part.index(upper): 1}
    assert min(chain.confidence()) > LOW_CONFIDENCE


def test_a_heap_of_one_is_one():
    part = ORDER[4:22]
    seen = [replace(one, spread_mm=4.8) for one in column(part)]
    wide = [replace(one, spread_mm=6.0) if n == 5 else one for n, one in enumerate(seen)]
    for some in (seen, wide):
        chain = number_column(some)
        assert named(chain) == part
        assert hidden_after(chain) == {}
        assert min(chain.confidence()) > 0.8
    assert chain.chances.sum(1) == pytest.approx(1)
