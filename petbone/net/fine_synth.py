"""Patches for the fine net: synthetic CT at 2 mm, the truth, and what the coarse net might say of it.

The scene is that of the coarse net (`scene.draw_scene`) with a field of 128 mm placed where borders are hard:
beside a bone, in an organ full of contrast medium, in costal cartilage, behind the back. The bones are
rendered from their depth map, so cortex, marrow and calcifications vary from patch to patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from petbone.anatomy import BY_NAME
from petbone.net.anatomies import Tissue
from petbone.net.chest import STERNUM, ChestMarks, added_ribs, beyond_ends, beyond_sternum, moved_ribs
from petbone.net.fine_anatomy import BASE_MAPS, DEPTH_STEP_MM, DEPTH_ZERO, SKIN, FineAnatomy
from petbone.net.fine_detail import Detail, FineSynthConfig, draw_detail
from petbone.net.scene import Scene, draw_scene
from petbone.net.synth import Synthesizer
from petbone.net.vessels import Front

Map = np.ndarray | Tensor
CLAVICLES = (BY_NAME["clavicle_left"].id, BY_NAME["clavicle_right"].id)
LOGIT_LIMIT = 6.0
REACH_MM = 45.0  # from a vertebra's rim to its middle, at most
LATTICE_MM = 5.0
BRIGHT = {  # tissues that take contrast medium or lime, and how often a patch is centred in them
    Tissue.CARTILAGE: 5.0,
    Tissue.KIDNEY: 3.0,
    Tissue.VEIN: 2.0,
    Tissue.ARTERY: 2.0,
    Tissue.HEART: 2.0,
    Tissue.BOWEL: 2.0,
    Tissue.STOMACH: 1.0,
    Tissue.LIVER: 1.0,
    Tissue.SPLEEN: 1.0,
    Tissue.BLADDER: 1.0,
    Tissue.LUNG: 1.0,
    Tissue.THYROID: 1.0,
    Tissue.CANAL: 1.0,
}


@dataclass(frozen=True, eq=False)
class FineSample:
    """`hu` and `coarse` (logit) float32, `bone` float32 (the part of a voxel that is bone) and `label` uint8,
    0 where less than half of a voxel is bone; all (X, Y, Z). `middle` (256, 3): the middle of every vertebra
    by its label, in voxels of the patch; NaN where it is not near. `told` (X/2, Y/2, Z/2) uint8 are made-up
    coarse names, `told_middle` (256, 3) the middles that go with them."""

    hu: Tensor
    bone: Tensor
    coarse: Tensor
    label: Tensor
    middle: Tensor
    told: Tensor
    told_middle: Tensor


class FineSynthesizer(Synthesizer):
    """Renders fine patches. On a CPU it holds no map in memory but those that the system keeps of the files;
    another device holds them all (0.4 GB a body): cutting and sending them for each patch takes long."""

    def __init__(
        self,
        anatomies: Sequence[FineAnatomy],
        config: FineSynthConfig | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not anatomies:
            raise ValueError("no anatomy to draw from")
        self.fine = tuple(anatomies)
        self.anatomies = tuple(a.base for a in anatomies)
        self.options = config or FineSynthConfig()
        self.config = self.options.scene
        self.device = torch.device(device)
        self._spine = [torch.from_numpy(np.array(a.spine_y_mm)).float().to(self.device) for a in anatomies]
        self._front = [Front.of(a.base) for a in anatomies]
        self._marks = [ChestMarks.of(a.base) for a in anatomies]
        self._maps = [self._held(a) for a in anatomies]

    def _held(self, anatomy: FineAnatomy) -> dict[str, Map]:
        """The maps by name: as they are on a CPU, on the device otherwise."""
        maps: dict[str, Map] = {name: getattr(anatomy.base, name) for name in BASE_MAPS}
        maps["depth"] = anatomy.depth
        if self.device.type == "cpu":
            return maps
        return {name: torch.from_numpy(np.array(m)).to(self.device) for name, m in maps.items()}

    def _part(self, volume: Map, box: tuple[slice, slice, slice]) -> Tensor:
        """Part of a map, on the device."""
        if isinstance(volume, Tensor):
            return volume[box].contiguous()
        return torch.from_numpy(np.ascontiguousarray(volume[box])).to(self.device)

    def patch(self, seed: int) -> FineSample:
        """The patch of a seed."""
        rng = np.random.default_rng(seed)
        scene = self.place(rng, draw_scene(rng, self.anatomies, self.config))
        return self.render_patch(scene, draw_detail(rng, self.options, self.device))

    def place(self, rng: np.random.Generator, scene: Scene) -> Scene:
        """The scene with its field moved to a place worth seeing."""
        anatomy = self.fine[scene.anatomy]
        which = rng.random()
        points, kinds = anatomy.tissue_points, anatomy.tissue_points[:, 3]
        if which < self.options.bone_share:
            points = anatomy.bone_points
        elif which < self.options.bone_share + self.options.skin_share and (kinds == SKIN).any():
            points = points[kinds == SKIN]
        else:
            there = [t for t in BRIGHT if (kinds == t).any()]
            if there:
                weight = np.array([BRIGHT[t] for t in there])
                points = points[kinds == int(rng.choice(there, p=weight / weight.sum()))]
        wanted = points[rng.integers(len(points)), :3] + rng.uniform(-1, 1, 3) * self.options.jitter_mm
        own = np.random.default_rng([scene.seed, 4])
        places = self._marks[scene.anatomy].places_mm()
        if len(places) and own.random() < self.options.chest_share:
            wanted = places[own.integers(len(places))] + own.uniform(-1, 1, 3) * self.options.jitter_mm
        return self._centred(scene, torch.from_numpy(wanted).float().to(self.device))

    def _centred(self, scene: Scene, wanted: Tensor) -> Scene:
        """The scene whose middle is at a standard place: bends and slopes are undone by iteration."""
        here = torch.zeros((3, 1, 1, 1), device=self.device)
        centre = wanted.double().cpu().numpy()
        for _ in range(6):
            point = replace(
                scene, shape=(1, 1, 1), centre_mm=centre, warp_mm=np.zeros((3, 2, 2, 2), np.float32)
            )
            gap = wanted - self._standard_mm(point, here)[:, 0, 0, 0]
            centre = centre + gap.double().cpu().numpy()
        return replace(scene, centre_mm=centre)

    def render_patch(self, scene: Scene, detail: Detail) -> FineSample:
        """Compute the patch of a scene."""
        noise = torch.Generator(device=self.device)
        noise.manual_seed(scene.seed)
        patient = self._patient_mm(scene)
        standard = self._standard_mm(scene, patient)
        depth, outside, label, tissue = self._look_up_fine(scene, standard)
        depth, label, tissue = self._with_chest_fine(scene, depth, label, tissue, standard)
        if scene.drop_arms:
            depth = depth.masked_fill((label == 59) | (label == 60), -9.0)
        if detail.boneless:
            depth = torch.full_like(depth, -9.0)
        step = scene.spacing_mm
        shell = detail.cortex_mm[label.long()] * scene.cortex_share
        whole = (0.5 + depth / step).clamp(0, 1)
        core = torch.minimum(whole, (0.5 + (depth - shell) / step).clamp(0, 1))
        tissue = self._with_vessels(scene, tissue, standard)
        hu = self._soft(scene, tissue, outside, patient, noise)
        hu = self._lime(scene, detail, hu, tissue, noise)
        soft = hu
        hu = self._bones(scene, hu, whole - core, core, label, noise)
        hu = hu + core * self._marrow(scene, detail, depth - shell, label, noise)
        solid = depth > 0
        coarse = self._coarse(scene, detail, solid, soft, noise)
        hu = self._read(detail, hu, noise, step)
        # The scanner of the coarse samples adds metal, streaks and a kernel's blur; its noise is done, and
        # the edge of a round field is nearly straight within a patch.
        hu = self._scanner(replace(scene, noise_hu=0.0, round_field=False), hu, patient, noise)
        middle = self._middles(scene)
        spread = detail.told_middle_mm / step
        return FineSample(
            hu=hu,
            bone=whole,
            coarse=coarse,
            label=torch.where(solid, label, torch.zeros_like(label)),
            middle=middle,
            told=self._told(scene, detail, label, coarse, noise),
            told_middle=middle + spread * torch.randn(middle.shape, generator=noise, device=self.device),
        )

    def _told(
        self, scene: Scene, detail: Detail, label: Tensor, coarse: Tensor, noise: torch.Generator
    ) -> Tensor:
        """Made-up coarse names: the truth with its borders moved, pieces of it called by a neighbour's name,
        round what the coarse answer calls bone."""
        x, y, z = (n // 2 for n in scene.shape)
        count, step = (x, y, z), 2 * scene.spacing_mm
        slip = detail.told_slip_mm * (self._field(count, step, 24.0, noise) > 1.0)
        axes = torch.meshgrid(*[torch.arange(n, device=self.device) for n in count], indexing="ij")
        at = []
        for axis, n in zip(axes, scene.shape, strict=True):
            off_mm = (detail.told_shift_mm + slip) * self._field(count, step, 35.0, noise)
            at.append((2 * axis + 0.5 + off_mm / scene.spacing_mm).round().long().clamp(0, n - 1))
        told = label[at[0], at[1], at[2]]
        there = (nnf.avg_pool3d(coarse[None, None], 2) > 0).float()
        near = nnf.max_pool3d(there, 3, 1, 1)[0, 0] > 0
        # What passes for bone far from any has a name all the same.
        told = torch.where(told > 0, told, label.max())
        return torch.where(near, told, torch.zeros_like(told))

    def _middles(self, scene: Scene) -> Tensor:
        """Middles of the vertebrae in and round the patch, (256, 3) in its voxels: means over a lattice that
        reaches half a vertebra further than the patch."""
        size = [round((n * scene.spacing_mm + 2 * REACH_MM) / LATTICE_MM) for n in scene.shape]
        wide = replace(
            scene,
            shape=(size[0], size[1], size[2]),
            spacing_mm=LATTICE_MM,
            warp_mm=np.zeros((3, 2, 2, 2), np.float32),
        )
        patient = self._patient_mm(wide)
        standard = self._standard_mm(wide, patient)
        label, cortex, spongiosa = self._nearest(scene, standard, ("labels", "cortex", "spongiosa"))
        solid = cortex.int() + spongiosa.int() > 128
        flat = torch.where(solid, label, torch.zeros_like(label)).flatten().long()
        count = torch.bincount(flat, minlength=256)
        middle = torch.stack([torch.bincount(flat, axis.flatten(), minlength=256) for axis in patient], 1)
        middle = middle / count[:, None] / scene.spacing_mm
        middle = middle + (torch.tensor(scene.shape, device=self.device) - 1) / 2
        return middle.masked_fill((count < 8)[:, None], torch.nan).float()

    def _look_up_fine(self, scene: Scene, standard: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Depth in mm, outside_mm (linear); label, tissue (nearest). Cuts the maps round the patch first."""
        base, maps = self.fine[scene.anatomy].base, self._maps[scene.anatomy]
        depth_mm = self._depth_mm(scene, standard)
        outside = self._linear(maps["outside_mm"], base.low_mm, base.spacing_mm, standard, None)
        label, tissue = self._nearest(scene, standard, ("labels", "tissue"))
        return depth_mm, outside, label, tissue

    def _depth_mm(self, scene: Scene, standard: Tensor) -> Tensor:
        """Depth in bone at standard places."""
        anatomy = self.fine[scene.anatomy]
        packed = self._linear(
            self._maps[scene.anatomy]["depth"], anatomy.low_mm, anatomy.spacing_mm, standard, 0
        )
        return (packed - DEPTH_ZERO) * DEPTH_STEP_MM * float(scene.scale.mean())

    def _with_chest_fine(
        self, scene: Scene, depth: Tensor, label: Tensor, tissue: Tensor, standard: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Depth, label and tissue with the sample's own sternum, ends of ribs, and ribs 12."""
        base, marks, chest = self.fine[scene.anatomy].base, self._marks[scene.anatomy], scene.chest
        scale = float(scene.scale.mean())
        beyond = beyond_ends(chest, marks, label, standard)
        beside = beyond_sternum(chest, marks, base, standard)
        if beside is not None:
            beyond = torch.where(label == STERNUM, beside, beyond)
        tissue = torch.where((beyond > 0) & (depth > 0), int(Tissue.CARTILAGE), tissue)
        depth = torch.minimum(depth, -beyond * scale).clamp(min=-9.6)
        depth, label = self._with_added_ribs(scene, depth, label, tissue, standard)
        moved = moved_ribs(chest, marks, standard)
        for rib in moved:
            depth = depth.masked_fill(label == rib.label, -9.0)
        for rib in moved:
            if not len(rib.index):
                continue
            places = rib.standard[:, :, None, None]
            own = self._depth_mm(scene, places).flatten()
            named = self._nearest(scene, places, ("labels",))[0].flatten()
            flat, names = depth.flatten(), label.flatten()
            better = (named == rib.label) & (own > flat[rib.index])
            at = rib.index[better]
            flat[at], names[at] = own[better], rib.label
            depth, label = flat.reshape(depth.shape), names.reshape(depth.shape)
        return depth, label, tissue

    def _with_added_ribs(
        self, scene: Scene, depth: Tensor, label: Tensor, tissue: Tensor, standard: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Depth and label with the ribs that go on: their depth is that in the cartilage."""
        cartilage = (tissue == Tissue.CARTILAGE)[None, None].float()
        near = (nnf.max_pool3d(cartilage, 5, 1, 2)[0, 0] > 0) & (depth < 2)
        added = added_ribs(scene.chest, self._marks[scene.anatomy], near, standard)
        if added is None:
            return depth, label
        step, scale = scene.spacing_mm, float(scene.scale.mean())
        # The part of a cube that is cartilage tells where its surface lies; what is whole lies deeper.
        smooth = nnf.avg_pool3d(cartilage, 3, 1, 1, count_include_pad=False)
        inner = 1 - nnf.max_pool3d(1 - cartilage, 3, 1, 1)
        core = 1 - nnf.max_pool3d(1 - inner, 3, 1, 1)
        own = (step * (smooth - 0.55) * 1.6 + step * (0.4 * inner + core))[0, 0].flatten()[added.index]
        own = torch.minimum(torch.maximum(own, added.bridge_mm * scale), added.left_mm * scale)
        flat, names = depth.flatten(), label.flatten()
        better = own > flat[added.index]
        at = added.index[better]
        flat[at], names[at] = own[better], added.label[better]
        return flat.reshape(depth.shape), names.reshape(depth.shape)

    def _nearest(self, scene: Scene, standard: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Nearest look-up in maps of the scene's anatomy, of which only the part round the places is read."""
        base, maps = self.fine[scene.anatomy].base, self._maps[scene.anatomy]
        index, box = _crop(base.labels.shape, base.low_mm, base.spacing_mm, standard)
        size = [s.stop - s.start for s in box]
        near = index.round().long()
        for axis, n in enumerate(size):
            near[axis].clamp_(0, n - 1)
        flat = (near[0] * size[1] + near[1]) * size[2] + near[2]
        return [self._part(maps[name], box).reshape(-1)[flat] for name in names]

    def _linear(
        self,
        volume: Map,
        low_mm: tuple[float, ...],
        spacing_mm: float,
        standard: Tensor,
        beyond: int | None,
    ) -> Tensor:
        """Linear look-up in a map, of which only the part round the patch is read; past its end `beyond`, or
        (None) its border."""
        index, box = _crop(volume.shape, low_mm, spacing_mm, standard)
        part = self._part(volume, box).float()
        size = torch.tensor(part.shape, device=self.device)[:, None, None, None]
        where = ((2 * index + 1) / size - 1).flip(0).permute(1, 2, 3, 0)[None]
        found = nnf.grid_sample(
            part[None, None], where, mode="bilinear", padding_mode="border", align_corners=False
        )
        if beyond is None:
            return found[0, 0]
        outside = ((index < -1) | (index > size)).any(0)
        return found[0, 0].masked_fill(outside, float(beyond))

    def _lime(
        self, scene: Scene, detail: Detail, hu: Tensor, tissue: Tensor, noise: torch.Generator
    ) -> Tensor:
        """Calcified rims and spots of costal cartilage and of arteries, medium in the renal pelvis."""
        spots = self._field(scene.shape, scene.spacing_mm, 6.0, noise)
        for kind, on in ((Tissue.CARTILAGE, detail.lime is not None), (Tissue.ARTERY, detail.vessel_lime)):
            mask = tissue == kind
            if not on or not bool(mask.any()):
                continue
            share, bright = detail.lime or (0.3, 500.0)
            around = nnf.avg_pool3d(mask.float()[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
            rim = mask & (around < 0.85) & (spots > 2.2 - 3.5 * share)
            inner = mask & (spots > 2.4 - 1.5 * share)
            hu = torch.where(rim | inner, bright * (1 + 0.15 * spots).clamp(0.5, 1.5), hu)
        kidney = tissue == Tissue.KIDNEY
        if detail.vessel_lime and bool(kidney.any()):
            hu = torch.where(kidney & (spots > 1.6), 300 + 200 * spots, hu)
        return hu

    def _marrow(
        self, scene: Scene, detail: Detail, depth: Tensor, label: Tensor, noise: torch.Generator
    ) -> Tensor:
        """What spongiosa differs by from the scene's: dark in the middle, fat in shafts, trabeculae."""
        rough = self._field(scene.shape, scene.spacing_mm, 3.5, noise)
        change = detail.trabecular * rough
        if detail.dark_hu is not None:
            change = change + (detail.dark_hu - scene.spongiosa_hu) * (depth / detail.dark_mm).clamp(0, 1)
        shaft = (label >= 59) & (label <= 62) & (depth > 2)  # humerus and femur
        if detail.fatty_clavicle:
            for clavicle in CLAVICLES:
                shaft |= (label == clavicle) & (depth > 1)
        return torch.where(shaft, detail.shaft_hu - scene.spongiosa_hu + change, change)

    def _read(self, detail: Detail, hu: Tensor, noise: torch.Generator, step_mm: float) -> Tensor:
        """Slices of a thickness, noise with a grain, and linear interpolation back to the net's voxels."""
        x, y, z = hu.shape
        slices = max(8, round(z * step_mm / max(detail.slice_mm, step_mm)))
        thick = nnf.adaptive_avg_pool3d(hu[None, None], (x, y, slices)) if slices < z else hu[None, None]
        grain = torch.randn(thick.shape, generator=noise, device=self.device)
        if detail.grain > 0:
            side = detail.grain
            kernel = torch.tensor([side, 1.0, side], device=self.device)
            kernel = kernel / kernel.square().sum().sqrt()  # keeps the variance of white noise
            grain = nnf.conv3d(grain, kernel.reshape(1, 1, 3, 1, 1), padding=(1, 0, 0))
            grain = nnf.conv3d(grain, kernel.reshape(1, 1, 1, 3, 1), padding=(0, 1, 0))
        thick = thick + detail.noise_hu * grain
        if slices < z:
            thick = nnf.interpolate(thick, size=(x, y, z), mode="trilinear", align_corners=False)
        return thick[0, 0]

    def _coarse(
        self, scene: Scene, detail: Detail, bone: Tensor, soft: Tensor, noise: torch.Generator
    ) -> Tensor:
        """A made-up answer of the coarse net: truth at 4 mm, blurred, scaled, with its usual mistakes."""
        if detail.zeros:
            return torch.zeros(scene.shape, device=self.device)
        x, y, z = (max(4, round(n * scene.spacing_mm / 4)) for n in scene.shape)
        count = (x, y, z)
        moved = torch.roll(bone.float(), detail.shift, (0, 1, 2))[None, None]
        share = nnf.adaptive_avg_pool3d(moved, count)
        solid = (share > detail.coarse_share).float()
        side = (detail.coarse_blur_mm / 4 / 2.355) ** 2 / 2
        for axis in range(3):
            solid = _soften(solid, axis, side)
        sure = 2 * solid[0, 0] - 1
        logit = torch.where(sure > 0, detail.gain[0] * sure, detail.gain[1] * sure)
        if detail.false > 0:
            bright = nnf.adaptive_avg_pool3d(((soft - 60) / 150).clamp(0, 1)[None, None], count)[0, 0]
            blobs = self._field(count, 4.0, 22.0, noise)
            logit = logit + detail.false * bright * (blobs > 0.3)
        if detail.missing > 0:
            holes = self._field(count, 4.0, 24.0, noise)
            logit = logit - detail.missing * (holes > 0.8)
        logit = logit + detail.coarse_noise * self._field(count, 4.0, 10.0, noise)
        fine = nnf.interpolate(logit[None, None], size=scene.shape, mode="trilinear", align_corners=False)
        return fine[0, 0].clamp(-LOGIT_LIMIT, LOGIT_LIMIT)


def _crop(
    shape: tuple[int, ...], low_mm: tuple[float, ...], spacing_mm: float, standard: Tensor
) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """Voxel coordinates (3, X, Y, Z) of places in the part of a map that holds them, and that part."""
    low = torch.tensor(low_mm, device=standard.device)[:, None, None, None]
    index = (standard - low) / spacing_mm - 0.5
    box = []
    for axis, n in enumerate(shape):
        first = min(max(int(index[axis].min().floor()) - 1, 0), n - 2)
        last = max(min(int(index[axis].max().ceil()) + 2, n), first + 2)
        box.append(slice(first, last))
    starts = torch.tensor([s.start for s in box], device=standard.device)[:, None, None, None]
    return index - starts, (box[0], box[1], box[2])


def _soften(volume: Tensor, axis: int, side: float) -> Tensor:
    """Blur of a (1, 1, X, Y, Z) tensor by weights `side`, 1 - 2 `side`, `side` along an axis."""
    volume = volume.movedim(2 + axis, 0)
    before = torch.cat([volume[:1], volume[:-1]])
    after = torch.cat([volume[1:], volume[-1:]])
    return ((1 - 2 * side) * volume + side * (before + after)).movedim(0, 2 + axis)
