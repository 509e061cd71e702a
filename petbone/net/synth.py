"""Synthetic CT from anatomies: domain randomisation with Hounsfield units that mean something.

After SynthSeg (Billot et al., Medical Image Analysis 86:102789, 2023): a label map is deformed, given
intensities drawn per tissue, and degraded as a scanner would. A sample is drawn in two steps, so that the
second can be tested without seeds: `draw_scene` takes every number from the generator, `render` computes.

Terms: *patient* coordinates are RAS mm about the middle of the sampled field of view; *standard*
coordinates are those of the anatomy (see `anatomies.py`). The maps are looked up backwards, standard from
patient, so the deformation needs no inverse and the place target is the look-up coordinate itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from petbone.net import clutter
from petbone.net.anatomies import Anatomy, Tissue
from petbone.net.chest import (
    FADE_MM,
    STERNUM,
    ChestMarks,
    added_ribs,
    beyond_ends,
    beyond_sternum,
    moved_ribs,
)
from petbone.net.scene import AIR_HU, F64, Scene, SynthConfig, draw_scene
from petbone.net.vessels import Front, with_vessels

PLACE_ORIGIN_MM = (0.0, -100.0, 1200.0)
PLACE_UNIT_MM = 100.0
ORGANS = (
    Tissue.LUNG,
    Tissue.MEDIASTINUM,
    Tissue.HEART,
    Tissue.LIVER,
    Tissue.SPLEEN,
    Tissue.KIDNEY,
    Tissue.STOMACH,
    Tissue.BOWEL,
)
SPINE_DEPTH_MM = 40.0  # from the middle of a vertebra to what lies in front of it


@dataclass(frozen=True, eq=False)
class Sample:
    """What the net is shown and should say, tensors over (X, Y, Z).

    `hu` float32; `bone` uint8 label (0 none); `place` (3, X, Y, Z) float32 in `PLACE_UNIT_MM`.
    """

    hu: Tensor
    bone: Tensor
    place: Tensor


class Synthesizer:
    """Renders scenes on a device; holds the anatomies' maps there."""

    def __init__(
        self, anatomies: Sequence[Anatomy], config: SynthConfig, device: torch.device | str = "cpu"
    ) -> None:
        if not anatomies:
            raise ValueError("no anatomy to draw from")
        self.anatomies = tuple(anatomies)
        self.config = config
        self.device = torch.device(device)
        self._dense = []
        self._sharp = []
        for anatomy in anatomies:
            maps = np.stack([anatomy.cortex, anatomy.spongiosa, anatomy.outside_mm])
            dense = torch.from_numpy(maps)[None].to(self.device).float()
            dense[:, :2] /= 255
            self._dense.append(dense)
            sharp = np.stack([anatomy.labels, anatomy.tissue])
            self._sharp.append(torch.from_numpy(sharp).to(self.device))
        self._spine = [torch.from_numpy(a.spine_y_mm()).float().to(self.device) for a in anatomies]
        self._front = [Front.of(a) for a in anatomies]
        self._marks = [ChestMarks.of(a) for a in anatomies]

    def sample(self, seed: int) -> Sample:
        """The sample of a seed: the same wherever and whenever it is drawn (on one kind of device)."""
        rng = np.random.default_rng(seed)
        return self.render(draw_scene(rng, self.anatomies, self.config))

    def render(self, scene: Scene) -> Sample:
        """Compute the sample of a scene."""
        noise = torch.Generator(device=self.device)
        noise.manual_seed(scene.seed)
        patient = self._patient_mm(scene)
        standard = self._standard_mm(scene, patient)
        cortex, spongiosa, outside, label, tissue = self._look_up(scene, standard)
        cortex, spongiosa, label, tissue = self._with_chest(scene, cortex, spongiosa, label, tissue, standard)
        for absent in (*scene.absent, *((59, 60) if scene.drop_arms else ())):
            here = label == absent
            cortex, spongiosa = cortex.masked_fill(here, 0), spongiosa.masked_fill(here, 0)
        cortex, spongiosa = cortex * scene.cortex_share, spongiosa + cortex * (1 - scene.cortex_share)
        tissue = self._with_vessels(scene, tissue, standard)
        hu = self._soft(scene, tissue, outside, patient, noise)
        hu = self._bones(scene, hu, cortex, spongiosa, label, noise)
        hu = _with_implant(scene, hu, standard)
        hu = self._scanner(scene, hu, patient, noise)
        bone = torch.where(cortex + spongiosa > self.config.bone_threshold, label, torch.zeros_like(label))
        origin = torch.tensor(PLACE_ORIGIN_MM, device=self.device)[:, None, None, None]
        return Sample(hu=hu, bone=bone, place=(standard - origin) / PLACE_UNIT_MM)

    def _with_vessels(self, scene: Scene, tissue: Tensor, standard: Tensor) -> Tensor:
        """The tissue with the scene's own vessels."""
        front, anatomy = self._front[scene.anatomy], self.anatomies[scene.anatomy]
        return with_vessels(scene.vessels, front, tissue, standard, anatomy)

    def _with_chest(
        self, scene: Scene, cortex: Tensor, spongiosa: Tensor, label: Tensor, tissue: Tensor, standard: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cortex, spongiosa, label and tissue with the sample's own sternum, ends of ribs, and ribs 12."""
        anatomy, marks, chest = self.anatomies[scene.anatomy], self._marks[scene.anatomy], scene.chest
        whole = cortex + spongiosa
        beyond = beyond_ends(chest, marks, label, standard)
        beside = beyond_sternum(chest, marks, anatomy, standard)
        if beside is not None:
            beyond = torch.where(label == STERNUM, beside, beyond)
        stays = (0.5 - beyond / FADE_MM).clamp(0, 1)
        # At the cut there is a new shell.
        shell = 0.6 * spongiosa * (1 - (beyond + 2).abs() / 3).clamp(0, 1)
        cortex, spongiosa = (cortex + shell) * stays, (spongiosa - shell) * stays
        tissue = torch.where((stays < 1) & (whole > 0.3), int(Tissue.CARTILAGE), tissue)
        cartilage = tissue == Tissue.CARTILAGE
        near = nnf.max_pool3d(cartilage[None, None].float(), 3, 1, 1)[0, 0] > 0
        added = added_ribs(chest, marks, near & (whole < 0.5), standard)
        if added is not None:
            share = self._share_of(scene, Tissue.CARTILAGE, standard.flatten(1)[:, added.index])
            share = torch.maximum(share, (0.5 + added.bridge_mm / FADE_MM).clamp(0, 1))
            share = share * (0.5 + added.left_mm / FADE_MM).clamp(0, 1)
            rim = torch.where(share < 0.9, 0.3 + chest.end_cortex, chest.end_cortex)
            cortex, spongiosa, label = cortex.flatten(), spongiosa.flatten(), label.flatten()
            better = share > cortex[added.index] + spongiosa[added.index]
            at, share, rim = added.index[better], share[better], rim[better]
            cortex[at], spongiosa[at], label[at] = share * rim, share * (1 - rim), added.label[better]
            cortex, spongiosa, label = (m.reshape(tissue.shape) for m in (cortex, spongiosa, label))
        moved = moved_ribs(chest, marks, standard)
        for rib in moved:
            own = label == rib.label
            cortex, spongiosa = cortex.masked_fill(own, 0), spongiosa.masked_fill(own, 0)
        for rib in moved:
            if not len(rib.index):
                continue
            shell, core, _, named, _ = self._look_up(scene, rib.standard[:, :, None, None])
            shell, core, named = shell.flatten(), core.flatten(), named.flatten()
            cortex, spongiosa, label = cortex.flatten(), spongiosa.flatten(), label.flatten()
            better = (named == rib.label) & (shell + core > cortex[rib.index] + spongiosa[rib.index])
            at = rib.index[better]
            cortex[at], spongiosa[at], label[at] = shell[better], core[better], rib.label
            cortex, spongiosa, label = (m.reshape(tissue.shape) for m in (cortex, spongiosa, label))
        return cortex, spongiosa, label, tissue

    def _share_of(self, scene: Scene, kind: Tissue, places: Tensor) -> Tensor:
        """Which part of 2 mm cubes round standard places (3, n) is a tissue in the anatomy's map."""
        anatomy, tissue = self.anatomies[scene.anatomy], self._sharp[scene.anatomy][1].reshape(-1)
        size = anatomy.labels.shape
        low = torch.tensor(anatomy.low_mm, device=self.device)[:, None]
        share = torch.zeros(places.shape[1], device=self.device)
        for corner in range(8):
            off = torch.tensor([(corner >> axis & 1) * 2.0 - 1.0 for axis in range(3)], device=self.device)
            index = ((places + off[:, None] - low) / anatomy.spacing_mm - 0.5).round().long()
            near = [index[axis].clamp(0, n - 1) for axis, n in enumerate(size)]
            share += (tissue[(near[0] * size[1] + near[1]) * size[2] + near[2]] == kind) / 8
        return share

    def _patient_mm(self, scene: Scene) -> Tensor:
        """(3, X, Y, Z) mm about the middle of the field."""
        axes = [
            (torch.arange(n, device=self.device, dtype=torch.float32) - (n - 1) / 2) * scene.spacing_mm
            for n in scene.shape
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def _standard_mm(self, scene: Scene, patient: Tensor) -> Tensor:
        """(3, X, Y, Z) standard coordinates of every voxel."""
        anatomy = self.anatomies[scene.anatomy]
        matrix = np.diag(1 / scene.scale) @ scene.rotation.T
        turn = torch.from_numpy(matrix).float().to(self.device)
        body = torch.tensordot(turn, patient, 1)
        body += torch.from_numpy(scene.centre_mm).float().to(self.device)[:, None, None, None]
        coarse = torch.from_numpy(scene.warp_mm).to(self.device)[None]
        # Trilinear twice is as smooth as needed and cheap: coarse to double, then to the field.
        warp = nnf.interpolate(coarse, scale_factor=2, mode="trilinear", align_corners=True)
        body += nnf.interpolate(warp, size=scene.shape, mode="trilinear", align_corners=True)[0]
        x, y, z = body[0], body[1], body[2]
        length = anatomy.labels.shape[2]

        def along(curve: F64 | Tensor, at_z: Tensor) -> Tensor:
            values = torch.as_tensor(curve, dtype=torch.float32, device=self.device)
            where = ((at_z - anatomy.low_mm[2]) / anatomy.spacing_mm - 0.5).clamp(0, length - 1.001)
            lower = where.long()
            part = where - lower
            return values[lower] * (1 - part) + values[lower + 1] * part

        spine_y = along(self._spine[scene.anatomy], along(scene.z_curve, z))
        from_spine = y - along(scene.y_bend_mm, z) - spine_y
        # Bending the spine tilts its vertebrae; the ribs slope more or less than in the standard pose.
        tilt = np.gradient(scene.y_bend_mm, anatomy.spacing_mm)
        roll = np.gradient(scene.x_bend_mm, anatomy.spacing_mm)
        z = z + along(tilt + scene.slope, z) * from_spine + along(roll, z) * x
        standard_z = along(scene.z_curve, z)
        if len(scene.wedge_mm) == length:
            # A vertebra's mean lies at the back of its body, which is about 25 mm deep.
            standard_z = standard_z + along(scene.wedge_mm, z) * (from_spine / 25).clamp(0, 1)
        if len(scene.belly) == length:
            before = (from_spine - SPINE_DEPTH_MM).clamp(min=0)
            from_spine = from_spine - before * (1 - along(scene.belly, z))
        return torch.stack(
            [
                (x - along(scene.x_bend_mm, z)) * along(scene.x_scale, z),
                spine_y + from_spine * along(scene.y_scale, z),
                standard_z,
            ]
        )

    def _look_up(self, scene: Scene, standard: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Cortex, spongiosa, outside_mm (linear); label, tissue (nearest)."""
        anatomy = self.anatomies[scene.anatomy]
        low = torch.tensor(anatomy.low_mm, device=self.device)[:, None, None, None]
        index = (standard - low) / anatomy.spacing_mm - 0.5
        size = torch.tensor(anatomy.labels.shape, device=self.device)[:, None, None, None]
        unit = (2 * index + 1) / size - 1
        # grid_sample reads the last axis first: (z, y, x) order of coordinates for (X, Y, Z) maps.
        where = unit.flip(0).permute(1, 2, 3, 0)[None]
        dense = nnf.grid_sample(
            self._dense[scene.anatomy], where, mode="bilinear", padding_mode="border", align_corners=False
        )[0]
        near = index.round().long().clamp(torch.zeros_like(size), size - 1)
        flat = (near[0] * size[1] + near[1]) * size[2] + near[2]
        label, tissue = (m.reshape(-1)[flat] for m in self._sharp[scene.anatomy])
        if len(scene.organs_mm) == anatomy.labels.shape[2]:
            slide = torch.from_numpy(scene.organs_mm / anatomy.spacing_mm).float().to(self.device)
            at_z = (near[2] + slide[near[2]].round().long()).clamp(torch.zeros_like(size[2]), size[2] - 1)
            slid = self._sharp[scene.anatomy][1].reshape(-1)[flat - near[2] + at_z]
            tissue = torch.where(_is_organ(tissue) & _is_organ(slid), slid, tissue)
        beyond = ((index < -1) | (index > size)).any(0)
        # Past the head, the thighs or the elbows the map ends: the border goes on for soft tissue only.
        bone = torch.where(beyond, torch.zeros_like(dense[:2]), dense[:2])
        return bone[0], bone[1], dense[2], label, tissue

    def _field(
        self, shape: tuple[int, ...], spacing_mm: float, size_mm: float, noise: torch.Generator
    ) -> Tensor:
        """Smooth normal noise of about unit variance with blobs of `size_mm`."""
        coarse = [max(2, int(np.ceil(n * spacing_mm / size_mm)) + 1) for n in shape]
        values = torch.randn((1, 1, *coarse), generator=noise, device=self.device)
        return nnf.interpolate(values, size=shape, mode="trilinear", align_corners=True)[0, 0] * 1.5

    def _soft(
        self, scene: Scene, tissue: Tensor, outside: Tensor, patient: Tensor, noise: torch.Generator
    ) -> Tensor:
        """HU of everything but bone."""
        wide = self._field(scene.shape, scene.spacing_mm, 50.0, noise)
        fine = self._field(scene.shape, scene.spacing_mm, 14.0, noise)
        index = tissue.long()
        mean = torch.from_numpy(scene.soft_hu).float().to(self.device)[index]
        texture = torch.from_numpy(scene.soft_texture_hu).float().to(self.device)[index]
        hu = mean + texture * (0.5 * wide + 0.5 * fine)
        loops = self._field(scene.shape, scene.spacing_mm, 26.0, noise)
        bowel = tissue == Tissue.BOWEL
        gas, contrast, fat = (float(np.sqrt(2) * _inverse_erf(1 - 2 * p)) for p in scene.bowel)
        hu = torch.where(
            bowel & (wide + 0.5 * fine < -fat * 0.9 + 0.6), float(scene.soft_hu[0]) + 6 * fine, hu
        )
        hu = torch.where(bowel & (loops > contrast), 120 + 120 * (loops - contrast) + 20 * fine, hu)
        hu = torch.where(bowel & (loops < -gas), torch.full_like(hu, -900.0), hu)
        lung = tissue == Tissue.LUNG
        hu = torch.where(lung & (fine > 2.1), scene.lung_vessels_hu - 150 + 60 * loops, hu)
        muscle = tissue == Tissue.MUSCLE
        streaky = float(np.sqrt(2) * _inverse_erf(1 - 2 * scene.infiltration))
        hu = torch.where(muscle & (fine > streaky), 0.5 * hu + 0.5 * float(scene.soft_hu[0]), hu)
        grown_over = float(np.sqrt(2) * _inverse_erf(1 - 2 * scene.bridging))
        hu = torch.where((tissue == Tissue.DISC) & (fine > grown_over), 220 + 60 * loops, hu)
        for kind, (share, bright) in scene.lime.items():
            hu = _limed(hu, tissue == kind, fine, share, bright)
        # Subcutaneous fat: thicker in some places, thinner on the back on which the patient lies.
        back = patient[1] < patient[1].mean() - 30
        thick = scene.fat_mm * (1 + 0.25 * wide).clamp(0.3, 2)
        thick = torch.where(back, thick * scene.fat_back, thick) + 2
        skin = (outside > 0.5) & (outside > thick - 2)
        hu = torch.where(skin, torch.full_like(hu, 10.0), hu)
        away = outside > thick
        hu = torch.where(away, torch.full_like(hu, AIR_HU), hu)
        hu = self._table(scene, hu, away, patient)
        return clutter.paint(scene.clutter, hu, outside - thick, patient, wide, noise)

    def _table(self, scene: Scene, hu: Tensor, away: Tensor, patient: Tensor) -> Tensor:
        """A table under the back: a plate or a trough with a skin and a foam core."""
        inside = torch.nonzero((~away).any(2).any(0))
        back_mm = patient[1, 0, int(inside[0]), 0] if len(inside) else patient[1].min()
        depth = back_mm + scene.table_curve * patient[0] ** 2 - patient[1]
        core = away & (depth > 2) & (depth < 2 + scene.table_mm) & (patient[0].abs() < 230)
        shell = core & ((depth < 6) | (depth > scene.table_mm - 2))
        if scene.table_hu == AIR_HU:
            return hu
        hu = torch.where(core, torch.full_like(hu, -930.0), hu)
        return torch.where(shell, torch.full_like(hu, scene.table_hu), hu)

    def _bones(
        self,
        scene: Scene,
        hu: Tensor,
        cortex: Tensor,
        spongiosa: Tensor,
        label: Tensor,
        noise: torch.Generator,
    ) -> Tensor:
        """Mix bone into soft tissue by its fractions."""
        fine = self._field(scene.shape, scene.spacing_mm, 10.0, noise)
        gain = torch.from_numpy(scene.bone_gain).float().to(self.device)[label.long()]
        core = scene.spongiosa_hu * gain * (1 + 0.25 * fine)
        shell = scene.cortex_hu * gain.sqrt() * (1 + 0.15 * fine)
        sclerotic, lytic = scene.lesions
        if sclerotic > 0:
            spots = self._field(scene.shape, scene.spacing_mm, 18.0, noise)
            high = float(np.sqrt(2) * _inverse_erf(1 - 2 * sclerotic))
            low = float(np.sqrt(2) * _inverse_erf(1 - 2 * lytic))
            core = torch.where(
                spots > high, core + 450, torch.where(spots < -low, torch.full_like(core, 45.0), core)
            )
            shell = torch.where(spots < -low, 0.4 * shell, shell)
        return hu * (1 - cortex - spongiosa) + shell * cortex + core * spongiosa

    def _scanner(self, scene: Scene, hu: Tensor, patient: Tensor, noise: torch.Generator) -> Tensor:
        """Metal, blur, noise, streaks, round field of view."""
        for _ in range(scene.metal):
            middle = torch.rand(3, generator=noise, device=self.device)[:, None, None, None]
            span = torch.tensor(scene.shape, device=self.device)[:, None, None, None] * scene.spacing_mm
            gap = (
                (
                    (patient - (middle - 0.5) * 0.6 * span)
                    / torch.tensor([5.0, 5.0, 9.0], device=self.device)[:, None, None, None]
                )
                .square()
                .sum(0)
            )
            hu = torch.where((gap < 1) & (hu > -200), torch.full_like(hu, 2500.0), hu)
        hu = hu[None, None]
        for axis, sigma in enumerate(scene.blur):
            hu = _blur(hu, axis, sigma)
        hu = hu[0, 0]
        grain = torch.randn(scene.shape, generator=noise, device=self.device)
        hu = hu + scene.noise_hu * grain
        if scene.streak_hu > 0:
            lines = torch.randn((1, 1, *scene.shape), generator=noise, device=self.device)
            lines = nnf.avg_pool3d(lines, (15, 1, 1), 1, (7, 0, 0))[0, 0] * 3.9
            hu = hu + scene.streak_hu * lines * (hu > -700)
        if scene.round_field:
            radius = min(scene.shape[0], scene.shape[1]) * scene.spacing_mm / 2
            outside = patient[0].square() + patient[1].square() > radius**2
            hu = torch.where(outside, torch.full_like(hu, AIR_HU), hu)
        return hu.clamp(-1024, 3071)


def _is_organ(tissue: Tensor) -> Tensor:
    """What fills the trunk: the same cavity may hold more or less of each."""
    found = torch.zeros_like(tissue, dtype=torch.bool)
    for kind in ORGANS:
        found |= tissue == kind
    return found


def _limed(hu: Tensor, mask: Tensor, spots: Tensor, share: float, bright: float) -> Tensor:
    """Lime in a tissue: along `share` of its rim, and in fewer spots inside."""
    around = nnf.avg_pool3d(mask.float()[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    rim = mask & (around < 0.7) & (spots > 2.2 - 3.5 * share)
    inner = mask & (spots > 2.4 - 1.5 * share)
    return torch.where(rim | inner, bright * (1 + 0.2 * spots).clamp(0.5, 1.5), hu)


def _with_implant(scene: Scene, hu: Tensor, standard: Tensor) -> Tensor:
    """Metal in a hip: the bone round it keeps its name, as the metal stands for bone."""
    if scene.implant is None:
        return hu
    head, neck, tip = (
        torch.from_numpy(p).float().to(hu.device)[:, None, None, None]
        for p in (scene.implant.head_mm, scene.implant.neck_mm, scene.implant.tip_mm)
    )
    share = (scene.implant.ball_mm - (standard - head).square().sum(0).sqrt()) / scene.spacing_mm
    for a, b in ((head, neck), (neck, tip)):
        part = ((standard - a) * (b - a)).sum(0) / (b - a).square().sum().clamp(min=1.0)
        gap = (standard - a - part.clamp(0, 1) * (b - a)).square().sum(0).sqrt()
        share = torch.maximum(share, (scene.implant.stem_mm - gap) / scene.spacing_mm)
    return hu + (3071 - hu) * (0.5 + share).clamp(0, 1)


def _blur(volume: Tensor, axis: int, sigma: float) -> Tensor:
    """Three-point blur of a (1, 1, X, Y, Z) tensor with the variance of a Gaussian of `sigma` voxels."""
    side = sigma**2 / 2
    shape = [1, 1, 1]
    shape[axis] = 3
    kernel = torch.tensor([side, 1 - 2 * side, side], device=volume.device).reshape(1, 1, *shape)
    padding = [0] * 6
    padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = 1
    return nnf.conv3d(nnf.pad(volume, padding, mode="replicate"), kernel)


def _inverse_erf(value: float) -> float:
    """Inverse error function; clipped so that a share of zero gives a far threshold."""
    return float(torch.erfinv(torch.tensor(min(max(value, -0.999999), 0.999999), dtype=torch.float64)))
