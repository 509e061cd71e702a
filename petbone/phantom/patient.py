"""A patient made of formulas: CT, PETs, and the truth about both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import ndimage

from petbone.anatomy import BY_ID, BY_NAME
from petbone.errors import InputError
from petbone.phantom import solids
from petbone.phantom.activity import (
    BONE_SUV,
    HOTSPOTS,
    TISSUE_SUV,
    Hotspot,
    image,
    psf_matrix,
    with_noise,
)
from petbone.phantom.body import HU, TISSUES, tissues
from petbone.phantom.skeleton import Shape, Skeleton, build
from petbone.phantom.solids import Array, Axes
from petbone.volume import Grid, Unit, Volume

_EVERYWHERE = ((-240.0, 240.0), (-170.0, 180.0), (-350.0, 785.0))


@dataclass(frozen=True)
class PhantomSpec:
    """What to make. Lengths in mm, RAS; the origin is the top of the sacrum.

    `fov_mm` gives the ends of the field of view along x, y and z; the voxel counts follow, unless
    `ct_shape` or `pet_shape` gives them, about the same centre. The PET is displaced by `shift_mm`
    against the CT. `noise` multiplies the usual noise of both (0: none). `orientation` names the ends to
    which the array axes grow, for example RAS or LPS.
    """

    ct_spacing_mm: tuple[float, float, float] = (1.5, 1.5, 2.0)
    pet_spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)
    fov_mm: tuple[tuple[float, float], ...] = _EVERYWHERE
    ct_shape: tuple[int, int, int] | None = None
    pet_shape: tuple[int, int, int] | None = None
    orientation: str = "RAS"
    stature_mm: float = 1750.0
    width: float = 1.0
    fat_mm: float = 16.0
    shape: Shape = field(default_factory=Shape)
    tracers: tuple[str, ...] = ("naf", "choline")
    hotspots: tuple[Hotspot, ...] = HOTSPOTS
    psf_fwhm_mm: float = 5.0
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: float = 1.0
    seed: int = 0


SMALL = PhantomSpec(ct_spacing_mm=(4.0, 4.0, 4.0), pet_spacing_mm=(6.0, 6.0, 6.0), psf_fwhm_mm=6.0)
"""A coarse patient for quick tests."""

LARGE = PhantomSpec(
    ct_spacing_mm=(0.9765625, 0.9765625, 2.5),
    ct_shape=(512, 512, 458),
    pet_spacing_mm=(4.07, 4.07, 3.45),
    pet_shape=(200, 200, 330),
)
"""A patient of clinical size: CT 512 x 512 x 458, PET 200 x 200 x 330."""


def spec_of_size(size: str, seed: int = 0) -> PhantomSpec:
    """The specification called ``small``, ``default`` or ``large``.

    Raises InputError for another name.
    """
    sizes = {"small": SMALL, "default": PhantomSpec(), "large": LARGE}
    if size not in sizes:
        raise InputError(f"phantom: size {size!r} is not known; expected one of {', '.join(sizes)}")
    return replace(sizes[size], seed=seed)


@dataclass(frozen=True, eq=False)
class Patient:
    """Images of one phantom and what is known about them.

    `ct` int16 HU, `bones` and `tissues` uint8 labels on its grid; `pets` float32 SUV by tracer; `clean`
    the same without noise; `truth` holds only what JSON can.
    """

    ct: Volume
    bones: Volume
    tissues: Volume
    pets: dict[str, Volume]
    clean: dict[str, Volume]
    truth: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Bones, tissues and attenuation (int16 HU) on a RAS grid."""

    axes: Axes
    scale: Array  # (3,) world mm per mm of the standard person
    skeleton: Skeleton
    bones: Array
    tissues: Array
    hu: Array


def grid_axes(
    fov: tuple[tuple[float, float], ...], spacing: tuple[float, ...], shape: tuple[int, ...] | None
) -> Axes:
    """Voxel centres of a RAS grid that fills a field of view, or of a given shape about its centre."""
    found = []
    for axis, ((low, high), step) in enumerate(zip(fov, spacing, strict=True)):
        count = shape[axis] if shape else round((high - low) / step)
        found.append(0.5 * (low + high) + step * (np.arange(count) - 0.5 * (count - 1)))
    return Axes(*found)


def anatomy(spec: PhantomSpec) -> Anatomy:
    """Paint the skeleton and the body of `spec` on its CT grid, without hotspots and without noise."""
    _check(spec)
    rng = _rng(spec, "bone")
    world = grid_axes(spec.fov_mm, spec.ct_spacing_mm, spec.ct_shape)
    size = spec.stature_mm / 1750.0
    scale = np.array([size * spec.width, size * spec.width, size])
    axes = Axes(world.x / scale[0], world.y / scale[1], world.z / scale[2])
    skeleton = build(spec.shape)
    soft = tissues(skeleton, axes, spec.fat_mm)
    table = np.zeros(256, np.int16)
    for name, value in HU.items():
        table[TISSUES[name]] = round(value)
    hu = table[soft]
    bones = np.zeros(axes.shape, np.uint8, order="F")
    for label in skeleton.solids:
        _paint_bone(label, skeleton, axes, (bones, hu), rng)
    soft[bones > 0] = TISSUES["bone"]
    return Anatomy(world, scale, skeleton, bones, soft, hu)


def _rng(spec: PhantomSpec, purpose: str) -> np.random.Generator:
    """A stream of its own for each purpose, so that leaving one image out does not change another."""
    return np.random.default_rng([spec.seed, *purpose.encode()])


def _check(spec: PhantomSpec) -> None:
    for tracer in spec.tracers:
        if tracer not in BONE_SUV:
            raise InputError(
                f"phantom: tracer {tracer!r} is not known; expected one of {', '.join(BONE_SUV)}"
            )
    ends = [next((pair for pair in ("RL", "AP", "SI") if c in pair), "") for c in spec.orientation]
    if len(ends) != 3 or len(set(ends)) != 3 or "" in ends:
        raise InputError(
            f"phantom: orientation {spec.orientation!r}; expected three letters such as RAS or LPS"
        )
    if min((*spec.ct_spacing_mm, *spec.pet_spacing_mm)) <= 0:
        raise InputError(
            f"phantom: spacing {spec.ct_spacing_mm} and {spec.pet_spacing_mm} mm; expected positive"
        )
    for spot in spec.hotspots:
        if spot.bone not in BY_NAME:
            raise InputError(
                f"phantom: hotspot in {spot.bone!r}; expected the name of a bone, as in petbone.anatomy"
            )


def _paint_bone(
    label: int, skeleton: Skeleton, axes: Axes, maps: tuple[Array, Array], rng: np.random.Generator
) -> None:
    """Write one bone where no other is yet."""
    bones, hu = maps
    marrow_hu, cortex_hu = rng.normal(_MARROW_HU.get(BY_ID[label].group, 190), 12), rng.normal(1000, 40)
    step = float(np.prod([a[1] - a[0] for a in (axes.x, axes.y, axes.z)])) ** (1 / 3)
    found = solids.field(skeleton.solids[label], axes)
    box = found.box
    if not found.bone.size:
        return
    mask = (found.bone < 0) & (bones[box] == 0)
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count > 1:  # a sliver beyond a neighbour is no bone of its own
        mask = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    bones[box][mask] = label
    # Partial volume: how much of a voxel lies within a surface follows from its distance.
    whole, spongy, hollow = (
        np.clip(0.5 - distance / np.float32(step), 0, 1)
        for distance in (found.bone, found.spongy, found.hollow)
    )
    spongy = np.minimum(spongy, whole)
    hollow = np.minimum(hollow, whole - spongy)
    here = hu[box]
    mixed = (1 - whole) * here + (whole - spongy - hollow) * np.float32(cortex_hu)
    mixed += spongy * np.float32(marrow_hu) + hollow * np.float32(_FATTY_HU)
    hu[box] = np.where(mask | (bones[box] == 0), np.rint(mixed), here).astype(np.int16)


_FATTY_HU = -30.0
_MARROW_HU = {"lumbar_spine": 165.0, "thoracic_spine": 180.0, "limbs": 150.0, "pelvis": 170.0, "head": 350.0}


def make_patient(spec: PhantomSpec | None = None) -> Patient:
    """CT, PETs and truth of a phantom; the same `spec` gives the same patient."""
    from petbone.phantom.truth import describe

    spec = spec or PhantomSpec()
    body = anatomy(spec)
    spots = [_sphere(spot, body, spec) for spot in spec.hotspots]
    hu = body.hu
    for spot, (box, share, _) in zip(spec.hotspots, spots, strict=True):
        hu[box] = np.minimum(hu[box] + share * spot.sclerosis_hu, 2000).astype(np.int16)
    pet_axes = grid_axes(spec.fov_mm, spec.pet_spacing_mm, spec.pet_shape)
    clean = {t: _pet(t, body, spots, spec, pet_axes) for t in spec.tracers}
    noisy = {
        t: with_noise(v, 0.06 * spec.noise, _rng(spec, t)) if spec.noise else v for t, v in clean.items()
    }
    truth = describe(spec, body, pet_axes, clean, spots)
    _add_ct_noise(hu, 22.0 * spec.noise, _rng(spec, "ct"))

    def volume(data: Array, axes: Axes, unit: Unit) -> Volume:
        return oriented(data, axes, unit, spec.orientation)

    return Patient(
        volume(hu, body.axes, Unit.HU),
        volume(body.bones, body.axes, Unit.LABEL),
        volume(body.tissues, body.axes, Unit.LABEL),
        {t: volume(v, pet_axes, Unit.SUV) for t, v in noisy.items()},
        {t: volume(v, pet_axes, Unit.SUV) for t, v in clean.items()},
        truth,
    )


Sphere = tuple[tuple[slice, slice, slice], Array, Array]


def _sphere(spot: Hotspot, body: Anatomy, spec: PhantomSpec) -> Sphere:
    """Box, share of each voxel that is hot (within the bone), and the middle (world mm)."""
    centre = body.skeleton.places[spot.bone] * body.scale + spot.offset_mm
    reach = spot.diameter_mm / 2 + 2 * max(spec.ct_spacing_mm)
    box = body.axes.box(centre - reach, centre + reach)
    share = np.zeros([s.stop - s.start for s in box], np.float32)
    edges = [step * (np.arange(5) - 2.0) / 5 for step in spec.ct_spacing_mm]
    x, y, z = body.axes.open(box)
    for dx in edges[0]:
        for dy in edges[1]:
            for dz in edges[2]:
                d2 = (x + dx - centre[0]) ** 2 + (y + dy - centre[1]) ** 2 + (z + dz - centre[2]) ** 2
                share += d2 < (spot.diameter_mm / 2) ** 2
    share *= (body.bones[box] == BY_NAME[spot.bone].id) / np.float32(125)
    return box, share, centre


_FIRST_BONE = 100  # bones follow the tissues in the table of uptake


def _pet(tracer: str, body: Anatomy, spots: list[Sphere], spec: PhantomSpec, pet_axes: Axes) -> Array:
    """Noise-free PET: uptake on the CT grid, blurred and averaged over the PET voxels, displaced."""
    rng = _rng(spec, "uptake")
    table = np.zeros(256, np.float32)
    for name, value in TISSUE_SUV[tracer].items():
        table[TISSUES[name]] = value
    for label in body.skeleton.solids:
        table[_FIRST_BONE + label] = BONE_SUV[tracer][BY_ID[label].group] * rng.uniform(0.92, 1.08)
    activity = table[np.where(body.bones > 0, body.bones + np.uint8(_FIRST_BONE), body.tissues)]
    for spot, (box, share, _) in zip(spec.hotspots, spots, strict=True):
        if tracer in spot.suv:
            activity[box] += share * (np.float32(spot.suv[tracer]) - activity[box])
    matrices = [
        psf_matrix(pet, pet_step, ct + shift, ct_step, spec.psf_fwhm_mm)
        for pet, pet_step, ct, ct_step, shift in zip(
            (pet_axes.x, pet_axes.y, pet_axes.z),
            spec.pet_spacing_mm,
            (body.axes.x, body.axes.y, body.axes.z),
            spec.ct_spacing_mm,
            spec.shift_mm,
            strict=True,
        )
    ]
    return image(activity, matrices)


def _add_ct_noise(hu: Array, sd_hu: float, rng: np.random.Generator) -> None:
    """Noise of a low-dose CT, correlated within a slice over about a voxel; changes `hu`."""
    if not sd_hu:
        return
    for k in range(hu.shape[2]):
        noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape[:2], dtype=np.float32), 0.6, mode="wrap")
        noise *= np.float32(sd_hu) / noise.std()
        hu[:, :, k] = np.clip(hu[:, :, k] + noise, -1024, 3071)


def oriented(data: Array, axes: Axes, unit: Unit, orientation: str) -> Volume:
    """Volume whose array axes grow to the ends named by `orientation`, from a RAS array."""
    lines = (axes.x, axes.y, axes.z)
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    order, flips = [], []
    for column, letter in enumerate(orientation):
        axis, forward = next(
            (a, letter == "RAS"[a]) for a, pair in enumerate(("RL", "AP", "SI")) if letter in pair
        )
        step = float(lines[axis][1] - lines[axis][0])
        matrix[axis, column] = step if forward else -step
        matrix[axis, 3] = lines[axis][0] if forward else lines[axis][-1]
        order.append(axis)
        flips.append(slice(None, None, 1 if forward else -1))
    turned = data.transpose(order)[tuple(flips)]
    return Volume(turned, Grid((turned.shape[0], turned.shape[1], turned.shape[2]), matrix), unit)
