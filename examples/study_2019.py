"""The study of Lindgren Belal et al. 2019, made up: masks whose every figure is known in closed form.

python examples/study_2019.py OUT

Eur J Radiol 113, 2019, 89: 46 patients, five bones, masks by a network and by hand, both twice, and the
network's of a second CT. The masks written here have the paper's table: median and SD (n - 1) of the volumes,
median Dice, mean difference of two readings; and differences between two CTs as its text has them. Nothing
else is the paper's: patients, shapes and all that it does not print are made up.

    manual/           a reader's masks, case_01.nii.gz to case_46.nii.gz
    manual_again/     the same reader's once more
    cnn/              the network's, on the grid of the reader's
    cnn_again/        its second masks of the same CT
    cnn_second_ct/    its masks of a second CT, on a grid that lies elsewhere
    truth.csv         a row per bone: the figures, from counts of voxels
    counts.csv        those counts, a row per patient and bone

*Masks.* Each bone has a block of layers of 36 x 26 voxels of 2 x 2 x 2.5 mm (10 mm3), in petbone's labels.
The blocks lie upon each other as the bones do, that of the sternum in front.
Its voxels are numbered row by row, and a mask is a run of numbers: whole slabs and a broken layer at each
end. The reader's are 0 to n, the network's s to s + m with s = n - shared, so that volumes and overlap are
what was chosen. A second mask of the same CT begins at the same voxel.

*Design, without chance.* z(i) is the normal quantile of (i - 0.5) / 46. Volumes are median + SD z(i) / SD(z),
to whole voxels. Which patient has which is `mixed(k)`, a permutation: k i modulo 47, and 47 is a prime. A
reader's volume goes with the network's (weight 0.9 on the network's z, the rest on a permuted z; its order
gives the order of volumes). Dice is median + 0.02 z(i), the lowest for the patient whose two volumes differ
most. Differences of two readings are evenly spaced between 0 and twice their mean, in permuted order, and
every second one is a growth.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from petbone.anatomy import BY_NAME
from petbone.io import write_nifti
from petbone.volume import Grid, Unit, Volume

PATIENTS = 46
PRIME = 47
VOXEL_MM = (2.0, 2.0, 2.5)
VOXELS_PER_ML = 100
PLANE = (36, 26)  # voxels of a layer of bone
MARGIN = 2  # empty voxels around every block: no bone touches another or the end of the scan
LIKENESS = 0.9
DICE_SPREAD = 0.02
SECOND_CT_MM = (3.0, -2.0, 17.5)  # the patient lies otherwise
FOLDERS = ("manual", "manual_again", "cnn", "cnn_again", "cnn_second_ct")


@dataclass(frozen=True)
class Bone:
    """A row of the paper's table, and the mean difference between two CTs; mL and %."""

    name: str
    cnn_ml: tuple[float, float]  # median, SD
    manual_ml: tuple[float, float]
    dice: float
    cnn_again: float
    manual_again: float
    second_ct: float


BONES = (
    Bone("T7", (41, 3.8), (36, 5.1), 0.86, 2, 14, 5.2),
    Bone("L3", (76, 13), (75, 9.2), 0.85, 7, 8, 5.8),
    Bone("sacrum", (284, 40), (283, 26), 0.88, 1, 3, 2),
    Bone("rib_left_7", (33, 3.9), (31, 4.8), 0.84, 1, 6, 5.5),
    Bone("sternum", (80, 11), (72, 9.2), 0.83, 3, 5, 2.8),
)
"""The paper does not say the side of its rib 7. Between two CTs: 5 to 6 % for vertebrae and ribs, at most 3 %
else."""


UPWARDS = ("sacrum", "L3", "rib_left_7", "T7", "sternum")


@dataclass(frozen=True)
class Counts:
    """Voxels of a bone of every patient, (46,) each; `shared` by the first masks of reader and network."""

    manual: np.ndarray
    manual_again: np.ndarray
    cnn: np.ndarray
    cnn_again: np.ndarray
    cnn_second_ct: np.ndarray
    shared: np.ndarray


def quantiles() -> np.ndarray:
    """(46,) rising normal quantiles, the same on both sides of 0."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i - 0.5) / PATIENTS) for i in range(1, PATIENTS + 1)])


def mixed(stride: int) -> np.ndarray:
    """(46,) a permutation of 0 to 45: multiples of `stride` modulo 47."""
    return stride * np.arange(1, PRIME) % PRIME - 1


def volumes(median_sd: tuple[float, float]) -> np.ndarray:
    """(46,) rising numbers of voxels with this median and SD (n - 1), mL."""
    z = quantiles()
    return np.rint(VOXELS_PER_ML * (median_sd[0] + median_sd[1] * z / z.std(ddof=1))).astype(int)


def read_again(first: np.ndarray, mean_percent: float, stride: int) -> np.ndarray:
    """(46,) voxels of second masks: 100 |V1 - V2| / ((V1 + V2) / 2) is spaced evenly around its mean."""
    q = mean_percent / 100 * (2 * np.arange(1, PATIENTS + 1) - 1) / PATIENTS
    q = (q * np.where(np.arange(PATIENTS) % 2, 1, -1))[mixed(stride)]
    return np.rint(first * (2 + q) / (2 - q)).astype(int)


def counts_of(bone: Bone, place: int) -> Counts:
    """The design of one bone; `place`, 0 to 4, gives each bone other permutations."""
    z = quantiles()
    rank = mixed(5 + place)  # of the network's volume, by patient
    cnn = volumes(bone.cnn_ml)[rank]
    drawn = LIKENESS * z[rank] + np.sqrt(1 - LIKENESS**2) * z[mixed(11 + place)]
    manual = volumes(bone.manual_ml)[drawn.argsort().argsort()]
    highest = 2 * np.minimum(manual, cnn) / (manual + cnn)
    dice = (bone.dice + DICE_SPREAD * z)[highest.argsort(kind="stable").argsort()]
    shared = np.rint(dice * (manual + cnn) / 2).astype(int)
    assert (shared <= np.minimum(manual, cnn)).all(), f"{bone.name}: Dice too high for its volumes"
    return Counts(
        manual,
        read_again(manual, bone.manual_again, 17 + place),
        cnn,
        read_again(cnn, bone.cnn_again, 23 + place),
        read_again(cnn, bone.second_ct, 29 + place),
        shared,
    )


def design() -> dict[str, Counts]:
    """Counts of all bones by name."""
    return {bone.name: counts_of(bone, place) for place, bone in enumerate(BONES)}


def layers(counts: Counts) -> int:
    """Layers that the longest run of a bone needs."""
    first = counts.manual - counts.shared
    ends = [counts.manual, counts.manual_again]
    ends += [first + counts.cnn, first + counts.cnn_again, first + counts.cnn_second_ct]
    return -(-int(max(end.max() for end in ends)) // (PLANE[0] * PLANE[1]))


def masks_of(patient: int, studied: dict[str, Counts]) -> dict[str, Volume]:
    """The five maps of one patient (0 to 45)."""
    thick = {name: layers(counts) for name, counts in studied.items()}
    height = sum(thick.values()) + MARGIN * (len(thick) + 1)
    shape = (PLANE[0] + 2 * MARGIN, 2 * PLANE[1] + 3 * MARGIN, height)
    # The last axis slowest, so that a run of numbers is a run of layers.
    maps = {folder: np.zeros(shape[::-1], np.uint8) for folder in FOLDERS}
    low = MARGIN
    for name in UPWARDS:
        counts = studied[name]
        back = MARGIN if name != "sternum" else 2 * MARGIN + PLANE[1]
        manual, shared = int(counts.manual[patient]), int(counts.shared[patient])
        for folder, labels in maps.items():
            start = 0 if folder.startswith("manual") else manual - shared
            run = np.zeros(thick[name] * PLANE[0] * PLANE[1], np.uint8)
            run[start : start + int(getattr(counts, folder)[patient])] = BY_NAME[name].id
            block = labels[low : low + thick[name], back : back + PLANE[1], MARGIN:-MARGIN]
            block[...] = run.reshape(block.shape)
        low += thick[name] + MARGIN
    matrix = np.diag([*VOXEL_MM, 1.0])
    matrix[:3, 3] = -40.0, -30.0, -120.0
    moved = matrix.copy()
    moved[:3, 3] += SECOND_CT_MM
    return {
        folder: Volume(labels.T, Grid(shape, moved if folder == "cnn_second_ct" else matrix), Unit.LABEL)
        for folder, labels in maps.items()
    }


def percent(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return 200 * np.abs(one - two) / (one + two)


def truth(studied: dict[str, Counts]) -> list[dict[str, object]]:
    """A row per bone, from counts alone; columns are called as in `agreement.csv` and `table.csv`."""
    rows: list[dict[str, object]] = []
    for name, c in studied.items():
        manual_ml, cnn_ml = c.manual / VOXELS_PER_ML, c.cnn / VOXELS_PER_ML
        difference = cnn_ml - manual_ml
        rows.append(
            {
                "bone": name,
                "n": PATIENTS,
                "median_predicted_ml": np.median(cnn_ml),
                "sd_predicted_ml": cnn_ml.std(ddof=1),
                "median_reference_ml": np.median(manual_ml),
                "sd_reference_ml": manual_ml.std(ddof=1),
                "median_dice": np.median(2 * c.shared / (c.manual + c.cnn)),
                "bias_ml": difference.mean(),
                "sd_ml": difference.std(ddof=1),
                "mean_volume_difference_percent": percent(c.manual, c.cnn).mean(),
                "repeat_predicted_percent": percent(c.cnn, c.cnn_again).mean(),
                "repeat_reference_percent": percent(c.manual, c.manual_again).mean(),
                "second_ct_percent": percent(c.cnn, c.cnn_second_ct).mean(),
            }
        )
    return rows


def write_rows(rows: list[dict[str, object]], path: Path) -> None:
    """A table with all digits of its numbers."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(
            {k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()} for row in rows
        )


def case_name(patient: int) -> str:
    return f"case_{patient + 1:02d}"


def write_study(out: Path, patients: range = range(PATIENTS)) -> dict[str, Counts]:
    """All folders and tables into `out`; of `patients` alone if asked (the tables are always of all)."""
    studied = design()
    for folder in FOLDERS:
        (out / folder).mkdir(parents=True, exist_ok=True)
    for patient in patients:
        for folder, volume in masks_of(patient, studied).items():
            write_nifti(volume, out / folder / f"{case_name(patient)}.nii.gz")
    write_rows(truth(studied), out / "truth.csv")
    names = (*FOLDERS, "shared")
    rows: list[dict[str, object]] = [
        {"case": case_name(n), "bone": bone} | {name: int(getattr(counts, name)[n]) for name in names}
        for n in range(PATIENTS)
        for bone, counts in studied.items()
    ]
    write_rows(rows, out / "counts.csv")
    return studied


def main() -> None:
    parser = argparse.ArgumentParser(description="The study of 2019, made up: masks with known figures.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    write_study(out)
    print(f"{PATIENTS} patients in {out}. What must come out is in {out / 'truth.csv'}; to see it:")
    print(
        f"petbone validate {out}/manual {out}/cnn --repeat {out}/manual_again "
        f"--repeat-predicted {out}/cnn_again -o {out}/validation"
    )
    print(f"petbone compare-segmentations {out}/cnn {out}/cnn_second_ct -o {out}/two_cts")


if __name__ == "__main__":
    main()
