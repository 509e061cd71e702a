"""Which level each vertebra is: one decision for the whole column, and how sure it is.

A column is a sequence, so its levels are counted, not judged one by one: what a net says of every vertebra,
whether ribs hang on it, whether the sacrum lies below it, and the gaps between neighbours are weighed
together (a hidden Markov chain; Rabiner, Proc. IEEE 77:257, 1989), and the same sum over all other chains
says how sure each level is. Numbers only: images are read elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.anatomy import ALL_BONES, BY_NAME

F64 = npt.NDArray[np.float64]

LEVELS: tuple[int, ...] = (
    *(BY_NAME[f"C{n}"].id for n in range(1, 8)),
    *(BY_NAME[f"T{n}"].id for n in range(1, 14)),
    *(BY_NAME[f"L{n}"].id for n in range(1, 7)),
    0,
)
"""Labels of all vertebrae from head to foot, T13 and L6 among them, and 0: no vertebra, but a part of the
skull or of the sacrum at either end of the column that looks like one."""

USUAL_GAP_MM: tuple[float, ...] = (
    *(20, 17, 17, 17, 17, 17, 18.5),
    *(21, 21.5, 22, 22.5, 23, 23.5, 24, 24.5, 25.5, 26.5, 27.5, 29.5),
    *(31, 32, 33, 32),
)
"""From the middle of each vertebra, C1 to L4, to that of the next in an adult; only their ratios matter."""

USUAL_RIB: tuple[float, ...] = (0.37, 0.5, 0.6, 0.75, 0.88, 0.97, 1.0, 1.0, 0.85, 0.66, 0.38, 0.15)
"""Volumes of ribs 1 to 12 beside those of the largest. A twelfth rib is a sixth of a seventh or less."""

MOST_DOWN = 6
"""Most steps from a vertebra that is seen to the next: five may be hidden by metal, in the neck in 110 mm."""

_T11_L1 = (BY_NAME["T11"].id, BY_NAME["L1"].id)
_RARE = (BY_NAME["T13"].id, BY_NAME["L6"].id)
_COMMON = [n for n, label in enumerate(LEVELS) if label and label not in _RARE]
_NONE = LEVELS.index(0)
_PAIRS = tuple(itertools.pairwise(_COMMON))
_NAMES = {0: "-"} | {bone.id: bone.name for bone in ALL_BONES}


@dataclass(frozen=True)
class ChainRule:
    """How evidence is weighed. Spreads are of logarithms; the chances are of healthy adults' columns.

    `independent`: a net that is wrong in the middle of a chest is wrong in the same way all over it, so all
    its votes together weigh as much as so many independent ones. `slide`: the chance that it calls every
    vertebra so many levels too high or too low; where neither first nor last rib, skull or sacrum is seen
    nothing else can tell, and no name is surer than what is left. `variant` is the chance of each of: 11 or
    13 thoracic, 6 lumbar vertebrae.
    """

    independent: float = 5.0
    slide: tuple[float, ...] = (0.18, 0.02)  # by one level up or down (each), by two
    floor: float = 0.01
    gap_spread: float = 0.22
    size_spread: float = 0.4
    rib_spread: float = 0.4
    rib_most: float = 3.0  # that the size of the ribs on a vertebra can say, in units of log likelihood
    missed: float = 0.08
    met: float = 0.03  # that the votes of two neighbours met in one heap, half way between them
    # Votes of two lie further apart than those of one, and so do those of one at times.
    spread_of_two: float = 1.7
    spread_spread: float = 0.2
    doubled: float = 0.01
    variant: float = 0.01
    # That a rib is found on each, seen on synthetic patients: the first and last are often missed.
    rib_on_thoracic: float = 0.85
    rib_on_first: float = 0.75
    rib_on_last: float = 0.6
    rib_on_other: float = 0.02
    sacrum_near_last: float = 0.95
    sacrum_near_other: float = 0.02
    skull_near_first: tuple[float, float] = (0.9, 0.1)  # C1, C2
    skull_near_other: float = 0.02
    no_vertebra: float = 0.03
    no_vertebra_looks: float = 0.3  # what the net's chance of a level is worth that should have none


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one vertebra.

    `chances` (len(LEVELS),): the net's mean chance of each level. `along_mm`: its place along the column,
    growing towards the feet. `ribs`: for left and right, whether a rib hangs on it (None: cannot be seen).
    `sacrum_below`: whether the sacrum is the next bone below it, `skull_above`: the skull the next above it
    (None: cannot be seen). `size`: how much of it is seen, in any unit (None: not known, or cut by the
    field). `rib_size`: how much is seen of a rib on it, in any unit (None: no rib, or all are cut).
    `spread_mm`: how far the votes for its middle lie apart along the column (standard deviation; None: not
    known).
    """

    chances: F64
    along_mm: float
    ribs: tuple[bool | None, bool | None] = (None, None)
    sacrum_below: bool | None = None
    size: float | None = None
    skull_above: bool | None = None
    rib_size: float | None = None
    spread_mm: float | None = None


@dataclass(frozen=True, eq=False)
class Chain:
    """`levels`: the label of each vertebra. `chances` (n, len(LEVELS)): how likely each level is; rows add up
    to 1."""

    levels: tuple[int, ...]
    chances: F64

    def confidence(self) -> tuple[float, ...]:
        """Chance of the level that was chosen, for each vertebra."""
        return tuple(
            float(row[LEVELS.index(level)]) for row, level in zip(self.chances, self.levels, strict=True)
        )


def _levels(*names: str) -> list[int]:
    """Where vertebrae stand in LEVELS."""
    return [LEVELS.index(BY_NAME[name].id) for name in names]


def _rank(level: int) -> float:
    """Place in a usual column: C1 is 0, L5 is 23; T13 and L6 stand half a step behind T12 and L5.

    What is no vertebra has no place of its own.
    """
    if level == _NONE:
        return 0.0
    if LEVELS[level] in _RARE:
        return _COMMON.index(level - 1) + 0.5
    return float(_COMMON.index(level))


def _steps(rule: ChainRule) -> list[tuple[int, int, int, float]]:
    """Every legal step (from, to, vertebrae gone down, log chance)."""
    t11, t12, t13, l1, l5, l6 = _levels("T11", "T12", "T13", "L1", "L5", "L6")
    steps = []
    for a in _COMMON:
        for b in _COMMON:
            down = int(_rank(b) - _rank(a))
            if 0 <= down <= MOST_DOWN:
                chance = (rule.doubled, 1.0)[down] if down < 2 else rule.missed ** (down / 2)
                steps.append((a, b, down, float(np.log(chance))))
    rare = float(np.log(rule.variant))
    return [*steps, (t11, l1, 1, rare), (t12, t13, 1, rare), (t13, l1, 1, 0.0), (l5, l6, 1, rare)]


def _sizes(seen: Sequence[Seen], rule: ChainRule) -> tuple[F64, F64, F64]:
    """Log likelihood of each vertebra's size beside its neighbours' (n,), and of each together with the next
    (n - 1,), if the two were one, and of each (n,), if it were two."""
    sizes = np.array([one.size or np.nan for one in seen], float)
    usual = np.array([_middle(sizes[max(0, k - 3) : k + 4]) for k in range(len(seen))])

    def fit(size: F64, beside: F64) -> F64:
        return np.asarray(np.nan_to_num(-0.5 * (np.log(size / beside) / rule.size_spread) ** 2, nan=0.0))

    joined = fit(sizes[:-1] + sizes[1:], np.maximum(usual[:-1], usual[1:]))
    return fit(sizes, usual), joined, fit(sizes / 2, usual)


def _spreads(seen: Sequence[Seen], rule: ChainRule) -> tuple[F64, F64]:
    """(n,) log likelihoods of how far the votes of each lie apart beside those of the others, if it is one
    vertebra and if it is two."""
    spread = np.array([one.spread_mm or np.nan for one in seen], float)
    beside = np.nan_to_num(np.log(spread / _middle(spread)), nan=0.0)
    one = -0.5 * (np.maximum(beside, 0) / rule.spread_spread) ** 2
    two = -0.5 * (np.minimum(beside - np.log(rule.spread_of_two), 0) / rule.spread_spread) ** 2
    known = ~np.isnan(spread)
    return np.maximum(one, -4.0) * known, np.maximum(two, -4.0) * known


def _rib_sizes(seen: Sequence[Seen], rule: ChainRule) -> F64:
    """(n, len(LEVELS)) log likelihood of the size of the ribs on each vertebra.

    A rib may be found in part, so a small one says nothing; a large one is not the twelfth. Five of them tell
    how large this person's are.
    """
    out = np.zeros((len(seen), len(LEVELS)))
    sizes = np.array([one.rib_size or np.nan for one in seen], float)
    known = np.flatnonzero(~np.isnan(sizes))
    if len(known) < 5:
        return out
    beside = np.log(sizes[known] / np.quantile(sizes[known], 0.8))
    ribs = np.array(_levels(*(f"T{n}" for n in range(1, 13))))
    excess = np.maximum(beside[:, None] - np.log(USUAL_RIB), 0)
    misfit = -0.5 * (excess / rule.rib_spread) ** 2
    # Two ribs that touch are too large for any level: beside the likeliest, no level is worse than so much.
    out[np.ix_(known, ribs)] = np.maximum(misfit - misfit.max(1, keepdims=True), -rule.rib_most)
    for rare in _RARE:
        out[:, LEVELS.index(rare)] = out[:, LEVELS.index(rare) - 1]
    return out


def _middle(values: F64) -> float:
    """Median of the numbers among `values`; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _slid(chances: F64, levels: int) -> F64:
    """What a net that calls every vertebra `levels` too low says of each level, from what one that does not
    says; (..., len(LEVELS)) both."""
    out = np.array(chances)
    common = np.array(_COMMON)
    says = np.arange(len(common)) + levels
    known = (says >= 0) & (says < len(common))
    out[..., common] = 0
    out[..., common[known]] = chances[..., common[says[known]]]
    return out


def _evidence(seen: Sequence[Seen], rule: ChainRule, slide: int = 0) -> F64:
    """(n, len(LEVELS)) log likelihood of what was seen of each vertebra by itself, where the net calls all of
    them `slide` levels too low."""
    weight = min(1.0, rule.independent / len(seen))
    chances = np.array([one.chances for one in seen], float)
    chances = _slid(chances / np.maximum(chances.sum(1, keepdims=True), 1e-9), slide)
    for rare in _RARE:  # the net does not know them: they look like the level before
        at = LEVELS.index(rare)
        chances[:, at] = np.maximum(chances[:, at], chances[:, at - 1])
    out: F64 = weight * np.log(np.maximum(chances, 0) * (1 - rule.floor) + rule.floor / len(LEVELS))
    thoracic = np.array([_NAMES[label][0] == "T" for label in LEVELS])
    last = np.isin(LEVELS, [BY_NAME[n].id for n in ("T12", "T13")])
    rib = np.where(last, rule.rib_on_last, np.where(thoracic, rule.rib_on_thoracic, rule.rib_on_other))
    rib[_levels("T1")] = rule.rib_on_first
    lowest = np.isin(LEVELS, [BY_NAME[n].id for n in ("L5", "L6")])
    sacrum = np.where(lowest, rule.sacrum_near_last, rule.sacrum_near_other)
    skull = np.full(len(LEVELS), rule.skull_near_other)
    skull[_levels("C1", "C2")] = rule.skull_near_first
    for n, one in enumerate(seen):
        # Left and right are not independent: both sides together count as one and a half.
        for there in one.ribs:
            if there is not None:
                out[n] += 0.75 * np.log(rib if there else 1 - rib)
        for near, chance in ((one.sacrum_below, sacrum), (one.skull_above, skull)):
            if near is not None:
                out[n] += np.log(chance if near else 1 - chance)
    out += _sizes(seen, rule)[0][:, None] + _rib_sizes(seen, rule) + _spreads(seen, rule)[0][:, None]
    out[:, _NONE] = -np.inf
    if len(seen) > 2:
        out[[0, -1], _NONE] = np.log(rule.no_vertebra) + weight * np.log(rule.no_vertebra_looks)
    return out


def _places() -> F64:
    """(len(LEVELS),) mm from C1 to each level in an adult."""
    depth = np.concatenate([[0.0], np.cumsum(USUAL_GAP_MM)])
    rank = np.array([_rank(level) for level in range(len(LEVELS))])
    return np.asarray(np.interp(rank, np.arange(len(depth)), depth))


def _gaps(seen: Sequence[Seen]) -> tuple[F64, F64, F64]:
    """From each vertebra to the next (n - 1,): the gap, the gap that is usual where the net says that they
    are, and how large this person is there."""
    gaps = np.maximum(np.diff([one.along_mm for one in seen]), 1.0)
    depth = np.concatenate([[0.0], np.cumsum(USUAL_GAP_MM)])
    place = _places()
    # By the middle of the neighbouring gaps: a missed vertebra does not move a median.
    expected = np.array([float(np.sum(one.chances * place) / max(np.sum(one.chances), 1e-9)) for one in seen])
    usual = np.interp((expected[:-1] + expected[1:]) / 2, (depth[:-1] + depth[1:]) / 2, USUAL_GAP_MM)
    size = gaps / usual
    person = np.array([float(np.median(size[max(0, n - 4) : n + 5])) for n in range(len(gaps))])
    return gaps, usual, person


def _with_pairs(own: F64, moves: F64, seen: Sequence[Seen], rule: ChainRule) -> tuple[F64, F64]:
    """`own` and `moves` with one more state for each of `_PAIRS`: a heap in which the votes of two neighbours
    met, half way between them. It looks like either, is as large as two, its votes lie far apart, and it is
    named by the upper one."""
    upper, lower = np.array(_PAIRS).T
    alone, _, halved = _sizes(seen, rule)
    one, two = _spreads(seen, rule)
    pair = np.logaddexp(own[:, upper], own[:, lower]) - np.log(2) + np.log(rule.met)
    pair += (halved - alone + two - one)[:, None]
    prior = np.full((len(LEVELS), len(LEVELS)), -np.inf)
    for a, b, down, log_chance in _steps(rule):
        if down:
            prior[a, b] = max(prior[a, b], log_chance)
    place = _places()
    at = (place[upper] + place[lower]) / 2
    count, usual = len(LEVELS), np.arange(len(LEVELS))
    first, last = np.append(usual, upper), np.append(usual, lower)
    middle = np.append(place, at)
    way = np.maximum(middle[None] - middle[:, None], 1e-3)
    wide = np.full((len(moves), count + len(_PAIRS), count + len(_PAIRS)), -np.inf)
    for n, (gap, _, person) in enumerate(zip(*_gaps(seen), strict=True)):
        misfit = np.log(gap / (person * way)) / rule.gap_spread
        wide[n] = prior[last[:, None], first[None]] - 0.5 * misfit**2
        wide[n, :count, :count] = moves[n]
    return np.concatenate([own, pair], 1), wide


def _moves(seen: Sequence[Seen], rule: ChainRule) -> F64:
    """(n - 1, levels, levels) log chance of the step from each vertebra to the next, given the gap."""
    gaps, usual, person = _gaps(seen)
    place = _places()
    rank = np.array([_rank(level) for level in range(len(LEVELS))])
    out = np.full((len(gaps), len(LEVELS), len(LEVELS)), -np.inf)
    if len(gaps):
        # A misfit of one spread, as any gap would do. The skull is above the neck, the sacrum below the loin.
        out[0, _NONE, _levels("C1", "C2")] = -0.5
        out[-1, _levels("L4", "L5", "L6"), _NONE] = -0.5
    steps = _steps(rule)
    alone, together, halved = _sizes(seen, rule)
    two = np.maximum(halved - alone, 0)
    for n, gap in enumerate(gaps):
        here = person[n]
        for a, b, down, log_chance in steps:
            if down == 0:
                way = usual[n] / 2
                log_chance = log_chance + together[n] - alone[n] - alone[n + 1]
            elif down == 1:
                way = USUAL_GAP_MM[min(int(rank[a]), len(USUAL_GAP_MM) - 1)]
            else:
                way = place[b] - place[a]
                log_chance = log_chance + max(
                    two[n], two[n + 1]
                )  # the missing one may be in a neighbour's heap
            misfit = np.log(gap / (here * way)) / rule.gap_spread
            out[n, a, b] = np.logaddexp(out[n, a, b], log_chance - 0.5 * misfit**2)
    return out


def number_column(seen: Sequence[Seen], rule: ChainRule | None = None) -> Chain:
    """Levels of the vertebrae of one column, from head to foot, by the likeliest chain of all.

    Raises ValueError if `seen` is not in order along the column.
    """
    if not seen:
        return Chain((), np.zeros((0, len(LEVELS))))
    if (np.diff([one.along_mm for one in seen]) < 0).any():
        raise ValueError("vertebrae must be given from head to foot")
    rule = rule or ChainRule()
    moves = _moves(seen, rule)
    slides = {0: 1 - 2 * sum(rule.slide)}
    for by, chance in enumerate(rule.slide, start=1):
        slides |= {by: chance, -by: chance}
    runs = [
        _run(*_with_pairs(_evidence(seen, rule, by), moves, seen, rule), np.log(chance))
        for by, chance in slides.items()
        if chance
    ]
    path = max(runs, key=lambda run: run[1])[0]
    both = np.logaddexp.reduce([run[2] for run in runs], 0)
    states = np.exp(both - np.logaddexp.reduce(both, 1, keepdims=True))
    chances = states[:, : len(LEVELS)].copy()
    upper = [pair[0] for pair in _PAIRS]
    chances[:, upper] += states[:, len(LEVELS) :]
    levels = [upper[state - len(LEVELS)] if state >= len(LEVELS) else state for state in path]
    return Chain(tuple(LEVELS[level] for level in levels), chances)


def _run(own: F64, moves: F64, start: float) -> tuple[list[int], float, F64]:
    """The likeliest states, their log likelihood, and (n, states) that of all chains through each state;
    `start` is added to all."""
    n = len(own)
    best = own.copy()
    came = np.zeros(own.shape, int)
    forward, backward = own.copy(), np.zeros_like(own)
    for k in range(1, n):
        options = best[k - 1][:, None] + moves[k - 1]
        came[k] = options.argmax(0)
        best[k] = own[k] + options.max(0)
        forward[k] = own[k] + np.logaddexp.reduce(forward[k - 1][:, None] + moves[k - 1], 0)
    for k in range(n - 2, -1, -1):
        backward[k] = np.logaddexp.reduce(moves[k] + (own[k + 1] + backward[k + 1])[None], 1)
    path = [int(best[-1].argmax())]
    for k in range(n - 1, 0, -1):
        path.append(int(came[k][path[-1]]))
    return path[::-1], float(best[-1].max()) + start, forward + backward + start


def hidden_after(chain: Chain) -> dict[int, int]:
    """How many vertebrae the count misses between a vertebra and the next, where it misses any."""
    rank = [_rank(LEVELS.index(level)) if level else None for level in chain.levels]
    hidden = {}
    for k, (upper, lower) in enumerate(itertools.pairwise(rank)):
        if upper is not None and lower is not None and lower - upper >= 2:
            hidden[k] = int(lower - upper) - 1
    # Eleven thoracic vertebrae are a variant of the column, and nothing is hidden.
    return {k: n for k, n in hidden.items() if (chain.levels[k], chain.levels[k + 1]) != _T11_L1}
