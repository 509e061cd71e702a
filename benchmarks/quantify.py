"""`petbone quantify` and `run` on a patient of clinical size, beside what a notebook does for the same table.

python benchmarks/quantify.py FOLDER     (makes the patient there the first time: CT 512 x 512 x 458,
                                          PET 200 x 200 x 330)
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy import ndimage

from petbone.io import PetOptions, read_ct, read_labels, read_pet, write_nifti
from petbone.resample import occupancy


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def petbone(*words: object, times: int = 5) -> tuple[list[float], float]:
    """Wall seconds of a command in processes of its own, and the peak memory (GB) of one more run of it."""
    command = [sys.executable, "-c", "from petbone.cli import main; main()", *map(str, words)]
    again = [*command, "--overwrite"] if "-o" in words else command
    runs = [command, *[again] * (times - 1)]
    took = [seconds(lambda run=run: subprocess.run(run, check=True, capture_output=True)) for run in runs]
    return took, peak_gb(again)


def said(took: list[float]) -> str:
    return f"{statistics.median(took):.2f} s (median of {len(took)}: {min(took):.2f} to {max(took):.2f})"


def peak_gb(command: list[str]) -> float:
    """Most memory that a command and the processes that it starts have at once; what they share counts once.

    Linux only, from proportional set sizes; 0 elsewhere.
    """
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most_kb = 0
    while running.poll() is None:
        most_kb = max(most_kb, sum(map(own_kb, family(running.pid))))
        time.sleep(0.03)
    return most_kb / 1e6


def family(pid: int) -> list[int]:
    """A process and all that come of it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def own_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def notebook(bones: Path, pet: Path) -> np.ndarray:
    """The usual notebook: labels to the PET by nearest neighbour, then mean, maximum and volume per label.

    Returns the volumes in mL. No hotspots, indices, images on disk or report.
    """
    image = nib.load(pet)
    labels = np.asarray(resample_from_to(nib.load(bones), image, order=0).dataobj).astype(np.uint8)
    suv = image.get_fdata()
    every = np.arange(1, 63)
    ndimage.mean(suv, labels, every)
    ndimage.maximum(suv, labels, every)
    return np.bincount(labels.ravel(), minlength=63)[1:63] * abs(np.linalg.det(image.affine)) / 1000


def with_foci(bones: Path, pet: Path, count: int) -> Path:
    """The PET with as many more foci of 9 mm and SUV 25 in bone, as far apart as bone allows."""
    made = pet.with_name(f"foci_{count}.nii.gz")
    if made.exists():
        return made
    labels, suv = read_labels(bones).volume, read_pet(pet, PetOptions("suv")).volume
    bone = occupancy(labels, suv.grid)
    voxel, fraction = bone.total(range(1, 50))
    rng = np.random.default_rng(0)
    places = np.array(np.unravel_index(rng.permutation(voxel[fraction > 0.7]), suv.grid.shape)).T
    chosen = places[:1]
    for place in places[1:]:
        if len(chosen) == count:
            break
        if np.linalg.norm((chosen - place) * suv.grid.spacing_mm, axis=1).min() > 14:
            chosen = np.vstack([chosen, place])
    data = suv.data.copy()
    around = np.indices((5, 5, 5)).reshape(3, -1).T - 2
    for offset in around[np.linalg.norm(around * suv.grid.spacing_mm, axis=1) <= 4.5]:
        at = np.clip(chosen + offset, 0, np.array(data.shape) - 1)
        data[tuple(at.T)] = 25
    write_nifti(suv.with_data(data), made)
    return made


def main(folder: Path) -> None:
    if not (folder / "truth.json").exists():
        petbone("phantom", "--size", "large", "-o", folder, times=1)
    bones, pet, ct = folder / "bones.nii.gz", folder / "naf.nii.gz", folder / "ct.nii.gz"

    # What a machine takes to give memory that was never written to: much, where it is a virtual one.
    print(f"1 GB of memory, written to for the first time: {seconds(lambda: np.ones(1 << 27)):.2f} s")
    small = [bones, pet]
    for files in (small, [*small, ct]):
        theirs = seconds(lambda files=files: [np.asarray(nib.load(path).dataobj) for path in files])
        print(f"nibabel reads {', '.join(path.name for path in files)}: {theirs:.2f} s")
    ours = seconds(lambda: (read_labels(bones), read_pet(pet, PetOptions("suv")), read_ct(ct)))
    print(f"petbone reads the same three: {ours:.2f} s")

    started = time.perf_counter()
    volumes_ml = notebook(bones, pet)
    print(f"notebook's table, once its packages are imported: {time.perf_counter() - started:.2f} s")
    labels = read_labels(bones).volume
    true_ml = np.bincount(labels.data[labels.data > 0], minlength=63)[1:63] * labels.grid.voxel_ml
    error = 100 * np.abs(volumes_ml - true_ml)[17:41] / true_ml[17:41]
    print(f"  its volumes of ribs are off by {error.mean():.1f} % on average, {error.max():.1f} % at worst")

    with tempfile.TemporaryDirectory() as scratch:
        foci = with_foci(bones, pet, 300)
        words = ("--units", "suv", "--tracer", "naf", "-o")
        for name, command in {
            "quantify": ("quantify", bones, pet),
            "quantify with the CT": ("quantify", bones, pet, "--ct", ct),
            "quantify with 300 more foci and --psf-mm": ("quantify", bones, foci, "--psf-mm", "5"),
            "the same, everything on": (
                *("quantify", bones, foci, "--psf-mm", "5", "--ct", ct, "--align", "rigid"),
            ),
            "run": ("run", ct, pet),
        }.items():
            took, gigabytes = petbone(*command, *words, Path(scratch) / name, times=3 if name == "run" else 5)
            found = len((Path(scratch) / name / "hotspots.csv").read_text().splitlines()) - 1
            print(f"petbone {name}: {said(took)}, memory {gigabytes:.2f} GB, {found} hotspots")
    print(f"petbone --help: {said(petbone('--help')[0])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
