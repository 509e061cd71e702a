"""The numbers of one synthetic CT: everything random, drawn from one generator.

`draw_scene` is the only place where a sample's shape, pose, tissue and scanner are decided; `synth.py`
computes the image from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from petbone.net.anatomies import Anatomy, Tissue
from petbone.net.chest import Chest, draw_chest
from petbone.net.clutter import Clutter, draw_clutter
from petbone.net.variants import Implant, with_variants
from petbone.net.vessels import Vessels, draw_vessels

F64 = npt.NDArray[np.float64]
AIR_HU = -1000.0
HEAD_MM = 1480.0  # standard z of the chin


@dataclass(frozen=True)
class SynthConfig:
    """How samples vary. Lengths in mm, angles in degrees; `sizes` are voxels of the output."""

    spacing_mm: float = 4.0
    sizes_x: tuple[int, ...] = (64, 80, 80, 96)
    sizes_y: tuple[int, ...] = (48, 64, 64)
    sizes_z: tuple[int, ...] = (48, 64, 80, 96)
    z_low_mm: float = 700.0
    z_high_mm: float = 1620.0
    z_usual_mm: tuple[float, ...] = (960.0, 1120.0, 1270.0, 1330.0, 1470.0)
    crop_share: float = 0.12  # fields of `sizes_crop` in every axis, anywhere in the trunk
    sizes_crop: tuple[int, ...] = (32, 48)
    crop_x_mm: float = 130.0
    rotation_deg: float = 8.0
    log_scale: tuple[float, float] = (-0.20, 0.14)
    scale_sd: float = 0.05
    height_sd: float = 0.08
    stretch_sd: float = 0.08
    level_sd: float = 0.05
    bend_mm: float = 14.0
    slope_sd: float = 0.13
    warp_mm: float = 3.5
    warp_spacing_mm: float = 64.0
    fat_mm: tuple[float, float] = (2.0, 45.0)
    bone_threshold: float = 0.40
    organ_slide_mm: float = 16.0  # sd; breathing and habit move organs along the spine by a vertebra
    variants: float = 1.0  # factor of the shares in `variants.py`; 0 for the plain body in empty air


@dataclass(frozen=True, eq=False)
class Scene:
    """Every number of one sample. Curves are over the anatomy's or the field's z, see `draw_scene`."""

    anatomy: int
    shape: tuple[int, int, int]
    spacing_mm: float
    centre_mm: F64  # (3,) standard coordinates of the middle of the field
    rotation: F64  # (3, 3)
    scale: F64  # (3,) patient mm per standard mm
    z_curve: F64  # (Z,) standard z for stretched z, over the curve axis
    x_scale: F64  # (Z,)
    y_scale: F64
    x_bend_mm: F64
    y_bend_mm: F64
    slope: F64
    warp_mm: npt.NDArray[np.float32]  # (3, a, b, c) coarse displacement
    fat_mm: float
    fat_back: float
    soft_hu: F64  # (tissues,)
    soft_texture_hu: F64  # (tissues,)
    cortex_hu: float
    cortex_share: float  # of the standard thickness; the rest becomes spongiosa
    spongiosa_hu: float
    lung_vessels_hu: float
    bone_gain: F64  # (256,) factor by label
    lesions: tuple[float, float]  # share of bone that is sclerotic, lytic
    bowel: tuple[float, float, float]  # shares: gas, contrast, fat
    infiltration: float  # share of muscle that is fat
    bridging: float  # share of disc that is calcified or grown over by bone
    drop_arms: bool
    blur: tuple[float, float, float]  # sigma in voxels
    noise_hu: float
    streak_hu: float
    metal: int
    table_mm: float
    table_hu: float
    table_curve: float
    round_field: bool
    seed: int
    # What only some patients have, see `variants.py` and `clutter.py`.
    wedge_mm: F64 = field(default_factory=lambda: np.zeros(1))  # (Z,) standard mm to add before the spine
    belly: F64 = field(default_factory=lambda: np.ones(1))  # (Z,) standard per patient mm before the spine
    absent: tuple[int, ...] = ()  # labels of bones in whose place there is soft tissue
    lime: Mapping[Tissue, tuple[float, float]] = field(default_factory=dict)  # share, HU
    implant: Implant | None = None
    clutter: Clutter = field(default_factory=Clutter)
    vessels: Vessels = field(default_factory=Vessels)
    organs_mm: F64 = field(default_factory=lambda: np.zeros(1))  # (Z,) added to z for organs'
    chest: Chest = field(default_factory=Chest)


def _smooth(rng: np.random.Generator, length: int, knots: int, sd: float) -> F64:
    """Random smooth curve of about unit mean zero: `knots` normal values, joined by half cosines."""
    values = rng.normal(0, sd, knots)
    where = np.linspace(0, knots - 1, length)
    lower = np.minimum(where.astype(int), knots - 2)
    part = (1 - np.cos(np.pi * (where - lower))) / 2
    return np.asarray(values[lower] * (1 - part) + values[lower + 1] * part)


def _field_of_view(rng: np.random.Generator, config: SynthConfig) -> tuple[tuple[int, int, int], F64]:
    """Shape and middle: any stretch of the body; narrow fields are off centre at times."""
    if rng.random() < config.crop_share:
        sizes = [int(rng.choice(config.sizes_crop)) for _ in range(3)]
        x = rng.uniform(-config.crop_x_mm, config.crop_x_mm)
        z = rng.uniform(config.z_low_mm, config.z_high_mm)
        return (sizes[0], sizes[1], sizes[2]), np.array([x, -95 + rng.normal(0, 35), z])
    size_x, size_y = int(rng.choice(config.sizes_x)), int(rng.choice(config.sizes_y))
    size_z = int(rng.choice(config.sizes_z))
    half = size_z * config.spacing_mm / 2
    # Half of the fields are centred where people scan: pelvis, abdomen, chest, neck.
    if rng.random() < 0.5:
        z = rng.choice(config.z_usual_mm) + rng.normal(0, 0.055 * (config.z_high_mm - config.z_low_mm))
    else:
        z = rng.uniform(config.z_low_mm + half * 0.6, config.z_high_mm - half * 0.5)
    wide = (96 - size_x) * config.spacing_mm * 0.35
    centre = np.array([rng.normal(0, 8 + wide), -95 + rng.normal(0, 18), z])
    return (size_x, size_y, size_z), centre


def _soft_tissue(rng: np.random.Generator) -> tuple[F64, F64]:
    """HU and texture per tissue: one contrast phase for all vessels and organs of a sample.

    `arterial` and `venous` are HU above unenhanced blood. Half of the samples are unenhanced, as the
    low-dose CT of a PET/CT is; the others go up to what bolus-timed chest CT shows, brighter than marrow.
    """
    arterial, venous = 0.0, 0.0
    if rng.random() < 0.5:
        arterial, venous = rng.uniform(30, 460), rng.uniform(20, 220)
    hu = np.zeros(len(Tissue))
    hu[Tissue.FAT] = rng.normal(-105, 8)
    hu[Tissue.MUSCLE] = rng.normal(52, 9) + 0.08 * venous
    hu[Tissue.LUNG] = rng.normal(-840, 55)
    hu[Tissue.MEDIASTINUM] = rng.uniform(-110, 40)
    hu[Tissue.HEART] = 40 + arterial * rng.uniform(0.6, 1.1)
    hu[Tissue.ARTERY] = 42 + arterial * rng.uniform(0.8, 1.1)
    hu[Tissue.VEIN] = 42 + venous * rng.uniform(0.5, 1.2)
    if rng.random() < 0.06:  # undiluted medium in the veins of one arm and the caval vein
        hu[Tissue.VEIN] = rng.uniform(400, 2000)
    hu[Tissue.LIVER] = rng.normal(52, 14) + 0.5 * venous * rng.uniform(0.3, 1.2)
    hu[Tissue.SPLEEN] = 48 + max(venous * 0.6, arterial * rng.uniform(0.2, 0.6))
    hu[Tissue.KIDNEY] = 35 + max(venous, arterial * rng.uniform(0.3, 0.8))
    hu[Tissue.STOMACH] = rng.choice([rng.uniform(0, 50), -900.0, rng.uniform(100, 350)], p=[0.6, 0.2, 0.2])
    hu[Tissue.BOWEL] = rng.uniform(15, 60)
    hu[Tissue.BLADDER] = rng.choice([rng.uniform(0, 25), rng.uniform(50, 600)], p=[0.75, 0.25])
    hu[Tissue.CARTILAGE] = rng.uniform(50, 160)
    hu[Tissue.BRAIN] = rng.normal(36, 4)
    hu[Tissue.AIRWAY] = -980
    hu[Tissue.CANAL] = rng.uniform(10, 55)
    hu[Tissue.THYROID] = rng.uniform(60, 200)
    hu[Tissue.DISC] = rng.uniform(50, 130)  # at times brighter than the marrow of an old man
    texture = np.full(len(Tissue), 10.0)
    texture[Tissue.LUNG] = rng.uniform(20, 90)
    texture[Tissue.FAT] = 8
    texture[Tissue.MEDIASTINUM] = rng.uniform(20, 60)
    texture[Tissue.HEART] = 15 + 0.35 * arterial
    texture[Tissue.ARTERY] = 10 + 0.05 * arterial
    texture[Tissue.SPLEEN] = 10 + 0.2 * arterial
    texture[Tissue.KIDNEY] = 12 + 0.35 * (hu[Tissue.KIDNEY] - 35)
    texture[Tissue.STOMACH] = 40
    texture[Tissue.CARTILAGE] = rng.choice([15.0, 60.0])
    return hu, texture


def draw_scene(
    rng: np.random.Generator, anatomies: Sequence[Anatomy], config: SynthConfig, z_knots_mm: float = 90.0
) -> Scene:
    """Draw every number of a sample from `rng`."""
    which = int(rng.integers(len(anatomies)))
    anatomy = anatomies[which]
    shape, centre = _field_of_view(rng, config)
    length = anatomy.labels.shape[2]
    knots = max(3, round(length * anatomy.spacing_mm / z_knots_mm))
    angles = np.radians(
        rng.normal(0, config.rotation_deg / 2, 3).clip(-config.rotation_deg, config.rotation_deg)
    )
    # Sizes vary more than people do, and height apart from the rest: levels are then to be counted, as
    # millimetres from the top of the chest do not tell them apart.
    scale = np.exp(rng.uniform(*config.log_scale) + rng.normal(0, config.scale_sd, 3))
    scale[2] *= np.exp(rng.normal(0, config.height_sd))
    stretch = np.exp(
        _smooth(rng, length, knots, config.stretch_sd) + _smooth(rng, length, 3 * knots, config.level_sd)
    )
    z_curve = np.cumsum(stretch) * anatomy.spacing_mm
    at = int(np.clip((centre[2] - anatomy.low_mm[2]) / anatomy.spacing_mm, 0, length - 1))
    z_curve += centre[2] - z_curve[at]
    soft_hu, soft_texture_hu = _soft_tissue(rng)
    coarse = [int(np.ceil(n * config.spacing_mm / config.warp_spacing_mm)) + 3 for n in shape]
    strength = rng.uniform(0.3, 1.0)
    gas = rng.uniform(0, 0.25)
    scene = Scene(
        anatomy=which,
        shape=shape,
        spacing_mm=config.spacing_mm,
        centre_mm=centre,
        rotation=_rotation(angles),
        scale=scale,
        z_curve=z_curve,
        x_scale=np.exp(_smooth(rng, length, knots, 0.06)),
        y_scale=np.exp(_smooth(rng, length, knots, 0.08)),
        x_bend_mm=_smooth(rng, length, max(3, knots // 2), config.bend_mm * 0.3 * strength),
        y_bend_mm=_smooth(rng, length, max(3, knots // 2), config.bend_mm * strength),
        slope=_smooth(rng, length, max(3, knots // 2), config.slope_sd),
        warp_mm=rng.normal(0, config.warp_mm, (3, *coarse)).astype(np.float32),
        fat_mm=float(np.exp(rng.uniform(*np.log(config.fat_mm)))),
        fat_back=rng.uniform(0.3, 1.0),
        soft_hu=soft_hu,
        soft_texture_hu=soft_texture_hu,
        cortex_hu=float(np.exp(rng.uniform(*np.log((350, 1900))))),
        cortex_share=rng.uniform(0.55, 1.0),
        spongiosa_hu=rng.uniform(30, 200) if rng.random() < 0.6 else rng.uniform(150, 380),
        lung_vessels_hu=max(30.0, 0.7 * soft_hu[Tissue.ARTERY]),
        bone_gain=np.exp(rng.normal(0, 0.12, 256)),
        lesions=(rng.uniform(0, 0.15), rng.uniform(0, 0.08)) if rng.random() < 0.25 else (0.0, 0.0),
        bowel=(gas, rng.uniform(0, 0.3) if rng.random() < 0.3 else 0.0, rng.uniform(0.1, 0.5)),
        infiltration=rng.uniform(0, 0.35),
        bridging=rng.uniform(0, 0.4) if rng.random() < 0.35 else 0.0,
        drop_arms=bool(rng.random() < 0.35),
        blur=(s := rng.uniform(0.1, 0.45), s, rng.uniform(0.1, 0.7)),
        noise_hu=float(np.exp(rng.uniform(np.log(2), np.log(30)))),
        streak_hu=rng.choice([0.0, rng.uniform(0, 25)]),
        metal=int(rng.integers(1, 4)) if rng.random() < 0.08 else 0,
        table_mm=rng.uniform(2, 40),
        table_hu=rng.choice([AIR_HU, rng.uniform(-900, 500)], p=[0.2, 0.8]),
        table_curve=rng.uniform(0, 1 / 800),
        round_field=bool(rng.random() < 0.25),
        seed=int(rng.integers(2**31)),
    )
    if config.variants == 0:
        return scene
    head_mm = (HEAD_MM - centre[2]) * scale[2]
    clutter = draw_clutter(rng, head_mm, shape[2] * config.spacing_mm / 2)
    # Of a stream of its own, so that the rest of a sample is what it would be without.
    slide = config.organ_slide_mm * _organ_slide(np.random.default_rng([scene.seed, 2]), length, knots)
    chest = draw_chest(np.random.default_rng([scene.seed, 3]))
    scene = replace(scene, clutter=clutter, vessels=draw_vessels(rng), organs_mm=slide, chest=chest)
    return with_variants(rng, scene, anatomy, config.variants)


def _organ_slide(rng: np.random.Generator, length: int, knots: int) -> F64:
    """How far organs lie along the spine from where they usually do, (Z,) in standard deviations: all of them
    together, as with breath, and each part of the trunk by itself."""
    return rng.normal(0, 0.85) + _smooth(rng, length, knots, 0.55)


def _rotation(angles: F64) -> F64:
    """Rotation matrix about x, then y, then z (radians)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[b, a], step[a, b] = np.sin(angle), -np.sin(angle)
        matrix = step @ matrix
    return matrix
