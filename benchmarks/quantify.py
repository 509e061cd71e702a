"""`petbone quantify` and `run` on a patient of clinical size, beside what a notebook does for the same table.

python benchmarks/quantify.py FOLDER     (makes the patient there the first time: CT 512 x 512 x 458,
                                          PET 200 x 200 x 330)
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy import ndimage

from petbone.io import PetOptions, read_ct, read_labels, read_pet


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def petbone(*words: object) -> tuple[float, float]:
    """Wall seconds and peak memory (GB) of a command in a process of its own."""
    command = [sys.executable, "-c", "from petbone.cli import main; main()", *map(str, words)]
    took = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


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


def main(folder: Path) -> None:
    if not (folder / "truth.json").exists():
        petbone("phantom", "--size", "large", "-o", folder)
    bones, pet, ct = folder / "bones.nii.gz", folder / "naf.nii.gz", folder / "ct.nii.gz"

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
        words = ("--units", "suv", "--tracer", "naf", "-o")
        for name, command in {
            "quantify": ("quantify", bones, pet),
            "quantify with the CT": ("quantify", bones, pet, "--ct", ct),
            "run": ("run", ct, pet),
        }.items():
            took, gigabytes = petbone(*command, *words, Path(scratch) / name)
            print(f"petbone {name}: {took:.2f} s, largest memory so far {gigabytes:.2f} GB")
    print(f"petbone --help: {petbone('--help')[0]:.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
