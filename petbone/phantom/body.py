"""The soft tissues round the skeleton: skin, muscle, lungs, heart, organs, bowel with gas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from petbone.phantom.head import brain
from petbone.phantom.skeleton import Skeleton
from petbone.phantom.solids import WORLD, Array, Axes, Frame, Part, ball, drum, ellipsoid, tube

TISSUES: dict[str, int] = {
    "air": 0,
    "fat": 1,
    "muscle": 2,
    "lung": 3,
    "blood": 4,
    "liver": 5,
    "kidney": 6,
    "spleen": 7,
    "bladder": 8,
    "bowel": 9,
    "gas": 10,
    "cartilage": 11,
    "disc": 12,
    "brain": 13,
    "cord": 14,
    "bone": 15,
    "salivary": 16,
    "prostate": 17,
    "visceral": 18,
}
"""Names and labels of the tissue map; where it says bone, the bone map says which."""

HU: dict[str, float] = {
    "air": -1000,
    "fat": -100,
    "muscle": 55,
    "lung": -820,
    "blood": 42,
    "liver": 60,
    "kidney": 35,
    "spleen": 50,
    "bladder": 6,
    "bowel": 40,
    "gas": -950,
    "cartilage": 110,
    "disc": 80,
    "brain": 35,
    "cord": 25,
    "bone": 200,
    "salivary": 35,
    "prostate": 40,
    "visceral": -100,
}
"""Attenuation of each tissue (HU), without contrast medium."""

_POWER = 2.5


def tissues(skeleton: Skeleton, axes: Axes, fat_mm: float) -> Array:
    """Tissue labels (uint8, x fastest) on a grid; bones are painted later, over them."""
    labels = np.zeros(axes.shape, np.uint8, order="F")
    _trunk(labels, skeleton, axes, fat_mm)
    _head_and_limbs(labels, skeleton, axes, fat_mm)
    _organs(labels, skeleton, axes)
    _spine_and_cartilage(labels, skeleton, axes)
    return labels


def _paint(labels: Array, parts: Sequence[Part], axes: Axes, value: str, over: Sequence[str] = ()) -> None:
    """Give `parts` the label `value`, everywhere or only `over` some tissues."""
    allowed = np.zeros(256, bool)
    allowed[[TISSUES[name] for name in over] if over else slice(None)] = True
    for part in parts:
        box = axes.box(part.low, part.high)
        here = labels[box]
        if here.size:
            here[(part.distance_mm(*axes.open(box)) < 0) & allowed[here]] = TISSUES[value]


def _outline(skeleton: Skeleton) -> Array:
    """Skin of the trunk: rows of z, half width, back y, front y (mm), from below upwards."""
    spine, notch = skeleton.spine, skeleton.sternum.at
    rows = [
        (-236.0, 178.0, -118.0, 92.0),
        (-170.0, 188.0, -122.0, 98.0),
        (-105.0, 188.0, -120.0, 105.0),
        (-40.0, 174.0, -108.0, 112.0),
        (20.0, 164.0, -96.0, 118.0),
    ]
    for name, half, back, front in (
        ("L3", 158.0, -108.0, 104.0),
        ("L1", 160.0, -100.0, 110.0),
        ("T11", 160.0, -84.0, 125.0),
        ("T9", 164.0, -86.0, 137.0),
        ("T7", 167.0, -90.0, 143.0),
        ("T5", 173.0, -102.0, 130.0),
    ):
        _, y, z = spine[name].at.origin
        rows.append((z, half, y + back, y + front))
    _, y, z = spine["T3"].at.origin
    rows.append((z, 172.0, y - 106, notch.mm([0, 22, 30])[1]))
    _, y, z = spine["T1"].at.origin
    rows.append((z + 6, 150.0, y - 92, notch.mm([0, 12, 60])[1]))
    _, y, z = spine["C7"].at.origin
    rows.append((z + 10, 90.0, y - 78, y + 62))
    _, y, z = spine["C5"].at.origin
    rows.append((z, 62.0, y - 68, y + 62))
    _, y, z = spine["C2"].at.origin
    rows.append((z + 10, 62.0, y - 66, y + 66))
    return np.array(rows)


def _trunk(labels: Array, skeleton: Skeleton, axes: Axes, fat_mm: float) -> None:
    """Skin, muscle and the abdominal cavity, slice by slice as superellipses; lungs above the diaphragm."""
    rows, chest = _outline(skeleton), _chest(skeleton)
    t7 = skeleton.spine["T7"].at.origin[0]
    spine_z = np.array([v.at.origin for v in skeleton.spine.values()])
    for k, z in enumerate(axes.z):
        if not rows[0, 0] <= z <= rows[-1, 0]:
            continue
        half, back, front = (np.interp(z, rows[:, 0], rows[:, c]) for c in (1, 2, 3))
        centre_x = float(np.interp(z, spine_z[:, 2], spine_z[:, 0])) if z > 0 else 0.0
        fat = fat_mm * float(np.interp(z, [-230, 60, 300, 480], [1.5, 1.2, 0.7, 0.4]))
        plane = labels[:, :, k]
        x, y = axes.x[:, None] - centre_x, axes.y[None, :]
        plane[_inside(x, y, half, back, front)] = TISSUES["fat"]
        plane[_inside(x, y, half - fat, back + fat, front - fat)] = TISSUES["muscle"]
        if z < chest[-1, 0]:
            _cavity(plane, x, y, float(z), (half - fat, front - fat), chest, spine_z)
        if chest[0, 0] < z < chest[-1, 0]:
            _lungs(plane, x, y, float(z), chest, t7)


def _inside(x: Array, y: Array, half: float, back: float, front: float) -> Array:
    middle, deep = 0.5 * (back + front), 0.5 * (front - back)
    return np.asarray(np.abs(x / half) ** _POWER + np.abs((y - middle) / deep) ** _POWER < 1)


def _chest(skeleton: Skeleton) -> Array:
    """Inside of the rib cage: rows of z, half width, back y, front y (mm), from below upwards."""
    rows = []
    at = skeleton.sternum.at
    for n in range(10, 1, -1):
        line = skeleton.rib_lines[f"rib_right_{n}"]
        left = skeleton.rib_lines[f"rib_left_{n}"]
        z = line[4, 2]
        half = 0.5 * (line[4, 0] - left[4, 0]) - 8
        back_y = skeleton.spine["T7"].at.origin[1] - 66
        rows.append((z, half, back_y + 8, 0.0))
    rows.append((skeleton.spine["T1"].at.origin[2] + 8, 38.0, -50.0, 0.0))
    table = np.array(rows)
    spine = list(skeleton.spine.values())[5:18]
    zs = np.array([v.at.origin[2] for v in spine])
    backs = np.array([v.at.origin[1] - v.depth / 2 for v in spine])
    table[:, 2] = np.interp(table[:, 0], zs, backs) - np.interp(
        table[:, 0], [150, 340, 420, 480], [30, 44, 36, 14]
    )
    for row in table:
        up = (row[0] - at.origin[2]) / at.axes[2, 2]
        row[3] = at.mm([0, -16, up])[1] if up > -105 else at.mm([0, -16, -105])[1] - 0.25 * (-105 - up)
    return table


def _cavity(
    plane: Array, x: Array, y: Array, z: float, wall: tuple[float, float], chest: Array, spine_z: Array
) -> None:
    """Fat of the abdomen and pelvis inside the muscle wall, in front of the spine."""
    vertebra_y = float(np.interp(z, spine_z[:, 2], spine_z[:, 1]))
    half, front = wall[0] - 20, wall[1] - 12
    back = vertebra_y - 30.0
    if z < 0:  # the pelvic cavity between the hip bones and before the sacrum
        half = float(np.interp(z, [-150, -60, 0], [48, 70, 110]))
        back = float(np.interp(z, [-120, -60, 0], [-18, -20, 10]))
    if z < -160:
        return
    if z > chest[0, 0]:
        half = min(half, float(np.interp(z, chest[:, 0], chest[:, 1])))
    inside = _inside(x, y, half, back, front)
    if z > 0:  # psoas and the spine stay muscle
        psoas = 44.0 if z < 200 else 26.0
        inside &= (np.abs(x) > psoas) | (y > vertebra_y + 18)
    plane[inside] = TISSUES["visceral"]


def _lungs(plane: Array, x: Array, y: Array, z: float, chest: Array, centre_x: float) -> None:
    half, back, front = (float(np.interp(z, chest[:, 0], chest[:, c])) for c in (1, 2, 3))
    middle = 0.5 * (back + front)
    pleura = _inside(x - 0.0, y, half, back, front)
    # The diaphragm: domes that fall away to the sides and the back; the right one is higher.
    dome = np.where(x > 0, 306.0, 294.0)
    dome = dome - 95 * np.clip(np.abs(np.abs(x) - 68) / 78, 0, 1.3) ** 2
    dome = (
        dome
        - 105 * np.clip((middle + 12 - y) / 90, 0, 1.2) ** 2
        - 25 * np.clip((y - middle - 40) / 60, 0, 1) ** 2
    )
    # The mediastinum is wide at the back and at the great vessels, narrow behind the sternum.
    wide = np.interp(y[0], [back, back + 30, middle, front - 25, front], [24, 27, 26, 18, 12])[None, :]
    plane[pleura & (z > dome) & (np.abs(x - centre_x) > wide)] = TISSUES["lung"]
    below = pleura & (z <= dome) & (y > back + 6)
    plane[below & (np.abs(x) > 26)] = TISSUES["visceral"]
    centre = pleura & (np.abs(x - centre_x) <= wide) & (z > 300) & (y > back + 50)
    plane[centre] = TISSUES["visceral"]


def _head_and_limbs(labels: Array, skeleton: Skeleton, axes: Axes, fat_mm: float) -> None:
    head, shoulder = skeleton.head, skeleton.shoulder
    skin = [ellipsoid(head.at(0, -2, 4), (82, 101, 80)), ellipsoid(head.at(0, 34, -62), (75, 74, 78))]
    skin += tube([skeleton.spine["C6"].mm(0, 0, 0), head.mm(0, -14, -40)], (64, 66))
    _paint(labels, skin, axes, "muscle", ("air", "fat"))
    _paint(labels, brain(head), axes, "brain")
    air = [
        ellipsoid(head.at(0, 62, -60), (9, 36, 18)),
        tube([head.mm(0, 30, -60), head.mm(0, 18, -130)], 8.0)[0],
    ]
    air += [ellipsoid(head.at(s * 23, 60, -62), (12, 16, 15)) for s in (1, -1)]
    trachea = [
        head.mm(0, 18, -130),
        skeleton.spine["C7"].mm(0, 30, 0),
        skeleton.spine["T2"].mm(0, 32, 0),
        skeleton.spine["T5"].mm(0, 36, 0),
    ]
    air += tube(trachea, 8.5)
    for side in (1, -1):
        mirror = np.array([side, 1, 1])
        top = skeleton.shoulder.head
        along = shoulder.arm
        for shrink, name in ((0.0, "fat"), (0.6 * fat_mm, "muscle")):
            r = 48 - shrink
            over = ("air", "fat") if name == "muscle" else ("air",)
            arm = tube(
                np.array([top - 10 * along, top + 150 * along, top + 330 * along]) * mirror,
                [(r, r), (r - 6, r - 6), (r - 10, r - 10)],
            )
            girdle = tube(
                np.array([skeleton.spine["T2"].mm(60, -40, 0), top]) * mirror,
                [(r + 14, r + 10), (r + 4, r + 4)],
                (0, 0, 1.0),
            )
            leg = tube(
                np.array([(108, 5, -190), (104, 4, -300), (98, 0, -460), (94, -4, -600)]) * mirror,
                [
                    (88 - shrink, 96 - shrink),
                    (86 - shrink, 90 - shrink),
                    (66 - shrink, 68 - shrink),
                    (58 - shrink, 60 - shrink),
                ],
            )
            _paint(labels, (*arm, *girdle, *leg), axes, name, over)
        # Fat between muscles: the armpit, and beside the anus.
        pads = [
            ellipsoid(Frame(skeleton.spine["T4"].mm(138 * side, 22, 0), WORLD), (15, 34, 50)),
            ellipsoid(Frame(np.array([side * 30.0, -52, -168]), WORLD), (20, 30, 32)),
        ]
        _paint(labels, pads, axes, "fat", ("muscle",))
    _paint(labels, air, axes, "gas")
    for side in (1, -1):
        glands = [
            ellipsoid(head.at(side * 60, -4, -78), (9, 14, 22)),
            ellipsoid(head.at(side * 28, 34, -122), (9, 14, 9)),
        ]
        _paint(labels, glands, axes, "salivary", ("muscle", "fat"))


def _organs(labels: Array, skeleton: Skeleton, axes: Axes) -> None:
    spine = skeleton.spine
    soft = ("visceral", "lung", "muscle")
    heart = ellipsoid(Frame(spine["T8"].mm(-22, 72, 4), WORLD), (56, 46, 54))
    _paint(labels, (heart,), axes, "blood", soft)
    aorta = [
        spine[n].mm(x, y, 0)
        for n, x, y in (
            ("T7", 2, 72),
            ("T5", 6, 66),
            ("T4", 0, 50),
            ("T4", -20, 22),
            ("T6", -24, 12),
            ("T9", -20, 18),
            ("T12", -8, 30),
            ("L2", -8, 31),
            ("L4", -4, 31),
        )
    ]
    cava = [
        spine[n].mm(x, y, 0)
        for n, x, y in (
            ("L4", 18, 30),
            ("L1", 20, 31),
            ("T10", 24, 34),
            ("T8", 26, 60),
            ("T5", 28, 56),
            ("T2", 26, 48),
        )
    ]
    below = ("visceral",)
    liver = (
        ellipsoid(Frame(spine["T11"].mm(78, 36, 2), WORLD), (70, 90, 78)),
        ellipsoid(Frame(spine["T11"].mm(5, 68, 16), WORLD), (68, 44, 36)),
    )
    _paint(labels, liver, axes, "liver", below)
    spleen = ellipsoid(Frame(spine["T11"].mm(-104, -20, 8), WORLD), (26, 42, 50))
    _paint(labels, (spleen,), axes, "spleen", below)
    stomach = ellipsoid(Frame(spine["T12"].mm(-66, 58, 12), WORLD), (42, 40, 52))
    _paint(labels, (stomach,), axes, "bowel", below)
    _paint(
        labels,
        (ellipsoid(Frame(spine["T12"].mm(-64, 74, 34), WORLD), (26, 20, 20)),),
        axes,
        "gas",
        ("bowel",),
    )
    for side in (1, -1):
        kidney = ellipsoid(
            Frame(spine["L1"].mm(side * 66, -6, -6 * side - 2), spine["L1"].at.axes), (29, 26, 54)
        )
        _paint(labels, (kidney,), axes, "kidney", ("visceral", "muscle", "liver"))
    _paint(labels, (*tube(aorta, 12.0, step_mm=15), *tube(cava, 11.0, step_mm=20)), axes, "blood", soft)
    _bowel(labels, skeleton, axes)
    _paint(labels, (ellipsoid(Frame(np.array([0.0, 16, -84]), WORLD), (40, 30, 27)),), axes, "bladder")
    _paint(labels, (ellipsoid(Frame(np.array([0.0, 16, -126]), WORLD), (22, 18, 15)),), axes, "prostate")


def _bowel(labels: Array, skeleton: Skeleton, axes: Axes) -> None:
    """Colon with gas in its front half, and a heap of small-bowel loops."""
    at = {n: skeleton.spine[n].at.origin for n in ("L1", "L2", "L3", "L4", "L5")}
    colon = np.array(
        [
            at["L5"] + [96, 40, 0],
            at["L3"] + [106, 30, 0],
            at["L1"] + [96, 48, 0],
            at["L2"] + [40, 80, 0],
            at["L2"] + [-40, 80, 6],
            at["L1"] + [-100, 44, 16],
            at["L3"] + [-110, 26, 0],
            at["L5"] + [-98, 34, 0],
            [-52, 30, -30],
            [6, 8, -40],
            [0, -16, -70],
            [0, -22, -130],
        ]
    )
    _paint(labels, tube(colon, 21.0, step_mm=25), axes, "bowel", ("visceral",))
    _paint(labels, [ball(p + np.array([0.0, 7, 0]), 12.0) for p in colon[:10:2]], axes, "gas", ("bowel",))
    t = np.linspace(0, 1, 60)
    loops = np.column_stack([62 * np.sin(31 * t), 66 + 22 * np.cos(23 * t + 1), -40 + 190 * t])
    _paint(labels, tube(loops, 12.5), axes, "bowel", ("visceral",))
    _paint(labels, [ball(p, 8.0) for p in loops[5::14]], axes, "gas", ("bowel",))


def _spine_and_cartilage(labels: Array, skeleton: Skeleton, axes: Axes) -> None:
    names = list(skeleton.spine)
    solid = ("fat", "visceral", "muscle", "lung", "blood", "bowel")
    for lower, upper in zip(names, [*names[1:], None], strict=True):
        v = skeleton.spine[lower]
        canal = tube([v.mm(0, -v.depth / 2 - 8, -v.height), v.mm(0, -v.depth / 2 - 8, v.height)], 8.0)
        _paint(labels, canal, axes, "cord", solid)
        if upper is not None and lower not in ("C1", "C2"):
            half = (v.width / 2 - 0.5, v.depth / 2 - 0.5, v.disc_above / 2 + 1.5)
            middle = v.mm(0, 0, v.height / 2 + v.disc_above / 2)
            _paint(labels, (drum(Frame(middle, v.at.axes), half, 0.0, 0.85, 1.0),), axes, "disc", solid)
    last = skeleton.spine["L5"]
    disc = drum(Frame(last.mm(0, 0, -last.height / 2 - 4.5), last.at.axes), (26, 17, 6), 0.0, 0.85, 1.0)
    _paint(labels, (disc,), axes, "disc", solid)
    symphysis = ellipsoid(Frame(np.array([0.0, 53, -131]), WORLD), (4.5, 9, 19))
    _paint(
        labels, (symphysis, *(p for parts in skeleton.cartilages for p in parts)), axes, "cartilage", solid
    )
