"""`petbone quantify` beside the time of reading and unzipping its files, on a patient of clinical size.

python benchmarks/quantify.py FOLDER     (makes the patient there the first time: CT 512 x 512 x 458)
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from petbone.io import PetOptions, read_labels, read_pet


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def petbone(*words: object) -> tuple[float, float]:
    """Wall seconds and peak memory (GB) of a command in a process of its own."""
    command = [sys.executable, "-c", "from petbone.cli import main; main()", *map(str, words)]
    took = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


def main(folder: Path) -> None:
    if not (folder / "truth.json").exists():
        petbone("phantom", "--size", "large", "-o", folder)
    bones, pet, ct = folder / "bones.nii.gz", folder / "naf.nii.gz", folder / "ct.nii.gz"

    theirs = seconds(lambda: [np.asarray(nib.load(path).dataobj) for path in (bones, pet)])
    ours = seconds(lambda: (read_labels(bones), read_pet(pet, PetOptions("suv"))))
    print(f"reading bones and PET: nibabel {theirs:.2f} s, petbone {ours:.2f} s")
    with tempfile.TemporaryDirectory() as scratch:
        words = ("--units", "suv", "--tracer", "naf", "-o")
        took, gigabytes = petbone("quantify", bones, pet, *words, Path(scratch) / "quantify")
        print(f"quantify: {took:.2f} s ({took / theirs:.2f} x nibabel's reading), peak {gigabytes:.2f} GB")
        took, gigabytes = petbone("run", ct, pet, *words, Path(scratch) / "run")
        print(f"run: {took:.2f} s, peak {gigabytes:.2f} GB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
