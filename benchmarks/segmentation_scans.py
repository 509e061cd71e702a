"""The scans of the benchmark `segmentation.py`: where their files lie, and what is known of their bones."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from petbone.anatomy import ALL_BONES, BY_NAME
from petbone.errors import InputError
from petbone.io import read_ct, read_labels
from petbone.labels import LabelTable
from petbone.volume import Volume

_VERSE = {n: f"C{n}" for n in range(1, 8)} | {7 + n: f"T{n}" for n in range(1, 13)}
_VERSE |= {19 + n: f"L{n}" for n in range(1, 7)} | {26: "sacrum", 27: "sacrum", 28: "T13"}
VERSE = LabelTable("verse", "VerSe", {0: 0} | {label: BY_NAME[name].id for label, name in _VERSE.items()})
"""Vertebrae as the VerSe challenge numbers them (Sekuboyina et al., Med Image Anal 73:102166, 2021)."""


@dataclass(frozen=True)
class KnownScan:
    """A scan: `ct` is a file or a folder of DICOM packed in a .tar.xz; paths are within the folder of scans.

    With `mask`, of the label table `table`, or `landmarks`, or neither: then only what was found is told.
    """

    name: str
    ct: str
    mask: str = ""
    table: LabelTable | None = field(default=None, repr=False)
    landmarks: str = ""


def _scans() -> dict[str, KnownScan]:
    lidc, crop = "lidc_0001", "tptbox_l3/sub-ct"
    total = LabelTable.load("totalsegmentator")
    scans = [
        KnownScan(lidc, f"{lidc}/ct.nii.gz", f"{lidc}/totalsegmentator_labels.nii.gz", total),
        KnownScan("tptbox_l3", f"{crop}_label-22_ct.nii.gz", f"{crop}_seg-vert_label-22_msk.nii.gz", VERSE),
    ]
    for name in ("tcga_ov_abdomen", "tcga_thca_neck"):
        scans.append(KnownScan(name, f"{name}/ct.nii.gz", landmarks=f"landmarks/{name}.csv"))
    name = "acrin_flt_upper"
    scans.append(KnownScan(name, f"{name}.tar.xz", landmarks=f"landmarks/{name}.csv"))
    for number in ("002", "008", "012", "018", "024"):
        scans.append(KnownScan(f"STS_{number}", f"ibsi_sts/STS_{number}/CT_image.nii.gz"))
    return {scan.name: scan for scan in scans}


SCANS: Mapping[str, KnownScan] = _scans()


def load_ct(scan: KnownScan, folder: Path) -> Volume:
    """The CT of a scan. Raises InputError if it is not there or cannot be read."""
    path = folder / scan.ct
    if not path.name.endswith(".tar.xz"):
        return read_ct(path).volume
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(path) as archive:
            archive.extractall(unpacked, filter="data")
        return read_ct(Path(unpacked)).volume


def load_reference(scan: KnownScan, folder: Path, ct: Volume) -> Volume | None:
    """The reference bones on the grid of `ct` in petbone's labels, None for a scan without a mask.

    Raises InputError if the mask lies on another grid.
    """
    if scan.table is None:
        return None
    mask = scan.table.apply(read_labels(folder / scan.mask).volume)
    if not mask.grid.same_as(ct.grid, atol_mm=0.1):
        raise InputError(
            f"{scan.mask}: its grid is not that of {scan.ct}; expected a mask of the same voxels"
        )
    return mask


def families() -> dict[str, tuple[int, ...]]:
    """Labels by family: the groups of `petbone.anatomy`, ribs by their side."""
    found: dict[str, list[int]] = {}
    for bone in ALL_BONES:
        found.setdefault(f"ribs_{bone.side}" if bone.group == "ribs" else bone.group, []).append(bone.id)
    return {family: tuple(labels) for family, labels in found.items()}


FAMILY_OF: Mapping[int, str] = {label: family for family, labels in families().items() for label in labels}
