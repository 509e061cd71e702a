"""Real cases to train on: a patient's CT and mask on the net's 4 mm grid, and samples cut from them.

A folder of cases has one subfolder per patient with ``ct.nii.gz`` and ``labels.nii.gz``, a label map on the
grid of the CT. Each is read once, brought to 4 mm and kept as one .npz file; training reads only these, so
that it runs on a machine that reads no NIfTI.

Terms: *annotated* are the bones that whoever made the mask drew wherever they are visible. What a mask does
not label is *known* to be no bone only if every bone was annotated. Where some were not, an unlabelled voxel
may be one of those, and the net is not told that it is soft tissue, but for voxels

* below `SURE_HU` (fat, lung, air: no bone, marrow included, is on average that dark over 4 mm),
* that touch an annotated bone and are below `BORDER_HU` (its border: another bone so near would show its
  cortex there), and
* that the mask gives to an organ.

The rest takes no part in the loss. A net that sees nothing but such cases hardly learns what muscle, liver
and contrast medium are: mix with synthetic samples, or say that all bones were annotated where it is true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from petbone.anatomy import ALL_BONES, BONES, BY_NAME
from petbone.errors import InputError
from petbone.labels import LabelTable
from petbone.net.coarse import hu_on, net_grid
from petbone.resample import occupancy
from petbone.thinned import canonical
from petbone.volume import Grid, Unit, Volume

STEP_MM = 4.0
BONE_SHARE = 0.40  # of a voxel; that of synthetic samples
SURE_HU = 0.0
BORDER_HU = 100.0
SIZE_MULTIPLE = 16  # voxels: what a net of four levels halves four times
CT_FILE, MASK_FILE, ANNOTATED_FILE = "ct.nii.gz", "labels.nii.gz", "annotated.txt"
EVERY_BONE = frozenset(bone.id for bone in BONES)
_DOUBTFUL = 255  # labelled, but not as one bone that is to be learned
_VERSION = 1  # of what `prepare` makes: a change makes it afresh

U8 = npt.NDArray[np.uint8]


def mirrored_labels() -> U8:
    """(256,) label of every bone's counterpart on the other side; bones of the middle stay."""
    table = np.arange(256, dtype=np.uint8)
    for bone in ALL_BONES:
        if bone.side:
            other = {"left": "right", "right": "left"}[bone.side]
            table[bone.id] = BY_NAME[bone.name.replace(bone.side, other)].id
    return table


@dataclass(frozen=True, eq=False)
class Case:
    """One patient at 4 mm, arrays (X, Y, Z) along the axes closest to RAS.

    `hu` int16; `bone` uint8 petbone label, 0 none; `known` bool: whether the mask says if there is bone.
    Every voxel with a label is known. `made_from` tells the files and options that it was made from.
    """

    name: str
    hu: npt.NDArray[np.int16]
    bone: U8
    known: npt.NDArray[np.bool_]
    made_from: str = ""

    def __post_init__(self) -> None:
        if not (self.hu.shape == self.bone.shape == self.known.shape) or self.hu.ndim != 3:
            raise ValueError(f"case {self.name}: hu, bone and known must share one 3-D shape")
        if bool((self.bone[~self.known] > 0).any()):
            raise ValueError(f"case {self.name}: labelled voxels must be known")

    def digest(self) -> str:
        """SHA-256 of what training reads of the case."""
        found = hashlib.sha256(repr(self.hu.shape).encode())
        for array in (self.hu, self.bone, self.known):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """One compressed .npz without pickle, written whole or not at all."""
        partial = path.with_suffix(".partial")
        told = {"name": np.array(self.name), "made_from": np.array(self.made_from)}
        arrays = told | {"hu": self.hu, "bone": self.bone, "known": self.known}
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Case:
        """Read what `save` wrote. Raises InputError if it is something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("hu", "bone", "known")}
                return Case(name=str(file["name"]), made_from=str(file["made_from"]), **arrays)
        except (KeyError, ValueError, OSError, BadZipFile) as error:
            raise InputError(
                f"{path.name} is not a prepared case ({error}); remove it, `petbone train` makes it again"
            ) from error


def case_of(
    name: str, ct: Volume, mask: Volume, table: LabelTable, annotated: Collection[int], made_from: str = ""
) -> Case:
    """A case from a CT (Unit.HU) and a mask (Unit.LABEL) of labels of `table` on the same grid.

    `annotated` are the petbone labels of the bones that were drawn wherever they are visible: bones that
    are labelled and not in it are not learned; if it lacks one of the 62 bones, the unlabelled is known only
    where the module's text says so. What a label means several bones together is not learned either.

    Raises InputError where the grids differ, a label is not in the table, or no annotated bone is labelled.
    """
    if not mask.grid.same_as(ct.grid, atol_mm=0.1):
        raise InputError(
            f"case {name}: {MASK_FILE} {mask.grid.shape} is not on the grid of {CT_FILE} {ct.grid.shape}; "
            "expected a label map of that CT"
        )
    try:
        bones = table.apply(mask)
    except InputError as error:
        raise InputError(f"case {name}: {MASK_FILE}: {error}") from error
    learned = np.zeros(256, np.uint8)
    learned[list(annotated)] = list(annotated)
    coded = learned[bones.data]
    coded[(bones.data > 0) & (coded == 0)] = _DOUBTFUL
    coded[np.isin(mask.data, list(table.merged))] = _DOUBTFUL
    view, grid, _, _ = canonical(ct)
    target = net_grid(grid, STEP_MM, 2)
    hu = hu_on(view, grid, target)
    bone, doubtful = _most_of(Volume(coded, mask.grid, Unit.LABEL), target)
    if not bone.any():
        raise InputError(
            f"case {name}: {MASK_FILE} labels none of the annotated bones; is it the right table?"
        )
    known = _inside(ct.grid, target) & ~doubtful
    if not set(annotated) >= EVERY_BONE:
        organ = ((mask.data > 0) & (coded == 0)).astype(np.uint8)
        organs, _ = _most_of(Volume(organ, mask.grid, Unit.LABEL), target)
        touching = ndimage.binary_dilation(bone > 0, np.ones((3, 3, 3), bool))
        known &= (organs > 0) | (hu < SURE_HU) | (touching & (hu < BORDER_HU))
    known |= bone > 0
    return Case(name, np.round(hu).clip(-1024, 3071).astype(np.int16), bone, known, made_from)


def _most_of(labels: Volume, target: Grid) -> tuple[U8, npt.NDArray[np.bool_]]:
    """Label that fills most of each voxel of `target` where labels fill `BONE_SHARE` of it, else 0; and where
    the doubtful label has any part, which never wins."""
    parts = occupancy(labels, target)
    best, total = np.zeros(target.shape, np.float32).ravel(), np.zeros(target.shape, np.float32).ravel()
    label, doubtful = np.zeros(best.size, np.uint8), np.zeros(best.size, bool)
    for value in np.unique(parts.label):
        part = parts.of(int(value))
        voxel, fraction = parts.voxel[part], parts.fraction[part].astype(np.float32)
        if value == _DOUBTFUL:
            doubtful[voxel] = True
            continue
        total[voxel] += fraction
        more = fraction > best[voxel]
        label[voxel[more]] = value
        best[voxel[more]] = fraction[more]
    label[total <= BONE_SHARE] = 0
    return label.reshape(target.shape), doubtful.reshape(target.shape)


def _inside(field: Grid, target: Grid) -> npt.NDArray[np.bool_]:
    """Voxels of `target` whose middle lies in a voxel of `field`."""
    matrix = field.ijk_from_mm @ target.mm_from_ijk
    index = np.indices(target.shape, np.float32)
    inside = np.ones(target.shape, bool)
    for axis in range(3):
        at = np.tensordot(matrix[axis, :3], index, 1) + matrix[axis, 3]
        inside &= (at > -0.5) & (at < field.shape[axis] - 0.5)
    return inside


def bones_named(names: Sequence[str], where: str) -> frozenset[int]:
    """Labels of bones by their petbone names. Raises InputError for a name that is none, or no name."""
    unknown = [name for name in names if name not in BY_NAME]
    if unknown or not names:
        found = ", ".join(unknown[:5]) or "no bone"
        raise InputError(
            f"{where}: {found}; expected names of bones such as T7, rib_left_3, hip_right, sacrum"
        )
    return frozenset(BY_NAME[name].id for name in names)


def prepare(
    folder: Path,
    cache: Path,
    labels: str,
    annotated: str | Sequence[str] = "table",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Path, ...]:
    """Files of the cases in `folder`, made in `cache` where they are not there yet; sorted by name.

    `labels`: whose labels the masks have, a name that `LabelTable.load` knows or a CSV file. `annotated`:
    ``all`` bones, those that the ``table`` names, or a list of names; a file ``annotated.txt`` in a case's
    folder, a name per line, holds for that case instead. A folder of .npz files that this function made
    elsewhere is taken as it is.

    Raises InputError for a folder that is not laid out so, and for files that cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with a subfolder per case")
    made = tuple(sorted(folder.glob("*.npz")))
    if made:
        for path in made:
            Case.load(path)
        return made
    cases = _case_folders(folder)
    table = LabelTable.load(labels, MASK_FILE)
    in_table = frozenset(bone for bone in table.mapping.values() if bone)
    if isinstance(annotated, str) and annotated not in ("all", "table"):
        raise InputError(f"annotated = {annotated!r}; expected 'all', 'table' or a list of names of bones")
    every = frozenset(bone.id for bone in ALL_BONES)
    if isinstance(annotated, str):
        usual = every if annotated == "all" else in_table
    else:
        usual = bones_named(annotated, "annotated")
    cache.mkdir(parents=True, exist_ok=True)
    paths = []
    for case in cases:
        own = case / ANNOTATED_FILE
        drawn = (
            bones_named(own.read_text("utf-8").split(), f"{case.name}/{own.name}") if own.exists() else usual
        )
        path = cache / f"{case.name}.npz"
        made_from = _fingerprint(case, table, drawn)
        if not path.exists() or Case.load(path).made_from != made_from:
            say(f"reading {case.name}")
            _read(case, table, drawn, made_from, say).save(path)
        paths.append(path)
    return tuple(paths)


def _case_folders(folder: Path) -> list[Path]:
    """The subfolders, each with its two files; everything else is refused."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    layout = f"expected a subfolder per case with {CT_FILE} and {MASK_FILE}"
    loose = [path.name for path in inside if path.name.endswith((".nii", ".nii.gz", ".nrrd", ".mha", ".dcm"))]
    if loose:
        raise InputError(f"{folder}: holds images itself, such as {loose[0]}; {layout}")
    cases = [path for path in inside if path.is_dir()]
    if not cases:
        raise InputError(f"{folder}: no cases in it; {layout}")
    for case in cases:
        missing = [name for name in (CT_FILE, MASK_FILE) if not (case / name).is_file()]
        if missing:
            raise InputError(f"{case}: has no {' and no '.join(missing)}; {layout}")
    return cases


def _fingerprint(case: Path, table: LabelTable, annotated: frozenset[int]) -> str:
    """What a prepared case depends on, the files by their sizes and times."""
    files = [(case / name).stat() for name in (CT_FILE, MASK_FILE)]
    told = [(f.st_size, f.st_mtime_ns) for f in files]
    meaning = (sorted(table.mapping.items()), sorted(table.merged.items()), sorted(annotated))
    return hashlib.sha256(repr((_VERSION, told, meaning)).encode()).hexdigest()


def _read(
    case: Path, table: LabelTable, annotated: frozenset[int], made_from: str, say: Callable[[str], None]
) -> Case:
    from petbone.io import (
        read_ct,
        read_labels,
    )  # where training runs on prepared cases there may be no nibabel

    mask = read_labels(case / MASK_FILE).volume
    for note in table.notes(mask):
        say(f"{case.name}: {note}")
    return case_of(case.name, read_ct(case / CT_FILE).volume, mask, table, annotated, made_from)


@dataclass(frozen=True)
class CaseConfig:
    """How samples of real cases vary: less than synthetic ones, since patients differ by themselves.

    `sizes` are voxels of 4 mm; `log_scale` the ends of the logarithm of a factor for all axes; a mirrored
    sample has left and right exchanged in its names too.
    """

    sizes_x: tuple[int, ...] = (64, 80, 96)
    sizes_y: tuple[int, ...] = (48, 64)
    sizes_z: tuple[int, ...] = (48, 64, 80, 96)
    rotation_deg: float = 8.0
    log_scale: tuple[float, float] = (-0.12, 0.12)
    mirror_share: float = 0.5
    shift_hu: float = 12.0
    gain: float = 0.03
    noise_hu: tuple[float, float] = (1.0, 20.0)


@dataclass(frozen=True, eq=False)
class CaseSample:
    """As `synth.Sample`, of a real case: tensors over (X, Y, Z). `hu` float32; `bone` uint8 label; `known`
    bool. There is no place: nobody knows where in the standard skeleton a patient's voxel lies."""

    hu: Tensor
    bone: Tensor
    known: Tensor


class CaseSampler:
    """Cuts samples from prepared cases. Reads a file per sample, so memory does not grow with the cases."""

    def __init__(self, paths: Sequence[Path], config: CaseConfig, device: torch.device | str = "cpu") -> None:
        self.paths = tuple(paths)
        self.config = config
        self.device = torch.device(device)
        self._mirrored = torch.from_numpy(mirrored_labels()).to(self.device)

    def sample(self, seed: int) -> CaseSample:
        """The sample of a seed: the same wherever and whenever it is drawn (on one kind of device)."""
        config = self.config
        rng = np.random.default_rng(seed)
        case = Case.load(self.paths[int(rng.integers(len(self.paths)))])
        chosen = [int(rng.choice(sizes)) for sizes in (config.sizes_x, config.sizes_y, config.sizes_z)]
        size = np.array(case.hu.shape)
        shape = np.minimum(chosen, -(-size // SIZE_MULTIPLE) * SIZE_MULTIPLE)
        # Anywhere as far as the field lies in the scan; where it is wider, about the scan's middle.
        slack = np.maximum(size - shape, 0)
        middle = (size - 1) / 2 + rng.uniform(-0.5, 0.5, 3) * slack
        turn = Rotation.from_euler(
            "xyz", rng.uniform(-1, 1, 3) * config.rotation_deg, degrees=True
        ).as_matrix()
        mirror = rng.random() < config.mirror_share
        scale = np.exp(rng.uniform(*config.log_scale))
        gain, shift = np.exp(rng.normal(0, config.gain)), rng.normal(0, config.shift_hu)
        noise_hu = np.exp(rng.uniform(*np.log(config.noise_hu)))
        # Columns of the matrix are the steps in the case's voxels along the sample's axes.
        matrix = turn @ np.diag([-1.0 if mirror else 1.0, 1.0, 1.0]) / scale
        index = self._index(shape, matrix, middle)
        hu, bone, known = self._look_up(case, index)
        if mirror:
            bone = self._mirrored[bone.long()]
        grain = torch.Generator(device=self.device).manual_seed(int(rng.integers(2**31)))
        noise = torch.randn(hu.shape, generator=grain, device=self.device) * noise_hu
        # Air stays air: what a scanner's calibration moves is tissue.
        hu = torch.where(hu > -900, (hu + 1000) * gain - 1000 + shift, hu) + noise
        return CaseSample(hu.clamp(-1024, 3071), bone, known)

    def _index(
        self, shape: npt.NDArray[np.int64], matrix: npt.NDArray[np.float64], middle: npt.NDArray[np.float64]
    ) -> Tensor:
        """(3, X, Y, Z) where each voxel of the sample lies, in voxels of the case."""
        axes = [
            torch.arange(int(n), device=self.device, dtype=torch.float32) - (int(n) - 1) / 2 for n in shape
        ]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        turned: Tensor = torch.tensordot(torch.from_numpy(matrix).float().to(self.device), grid, 1)
        return turned + torch.from_numpy(middle).float().to(self.device)[:, None, None, None]

    def _look_up(self, case: Case, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """HU (linear; past the border of the scan it goes on), label and whether it is known (nearest)."""
        size = torch.tensor(case.hu.shape, device=self.device)[:, None, None, None]
        unit = (2 * index + 1) / size - 1
        where = unit.flip(0).permute(1, 2, 3, 0)[None]  # grid_sample reads the last axis first
        image = torch.from_numpy(case.hu.astype(np.float32)).to(self.device)[None, None]
        hu = nnf.grid_sample(image, where, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]
        near = index.round().long()
        inside = ((near >= 0) & (near < size)).all(0)
        near = near.clamp(torch.zeros_like(size), size - 1)
        flat = (near[0] * size[1] + near[1]) * size[2] + near[2]
        bone = torch.from_numpy(case.bone).to(self.device).reshape(-1)[flat]
        known = torch.from_numpy(case.known).to(self.device).reshape(-1)[flat]
        return hu, bone * inside, known & inside
