"""How fast and how large: reading a CT and a PET from .nii.gz, beside nibabel and SimpleITK.

    python benchmarks/reading.py [--slices 458]

Every reader runs in a process of its own, so that the peak of memory is its own; seconds are of the reading
alone, best of three. Peak memory is what reading added to the process (imports not counted), read from /proc,
so Linux only.

Last run, two busy cores with AVX2: CT 512 x 512 x 458 int16 (114 MiB of gzip): petbone 1.5 s and 232 MiB,
nibabel 5.8 s and 458 MiB (get_fdata 1145 MiB), SimpleITK 3.1 s and 462 MiB; PET 200 x 200 x 330 float32:
petbone 0.22 s and 56 MiB, nibabel 0.50 s and 101 MiB, SimpleITK 0.39 s and 105 MiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from petbone.io import write_nifti
from petbone.volume import Grid, Unit, Volume

READ = """
import sys, time
path, way = sys.argv[1:]
import numpy, nibabel, SimpleITK, petbone.io
def read():
    if way == "petbone":
        scan = petbone.io.read_ct(path) if "ct" in path.split("/")[-1] else petbone.io.read_pet(path)
        return scan.volume.data
    if way == "nibabel dataobj":
        return numpy.asarray(nibabel.load(path).dataobj)
    if way == "nibabel get_fdata":
        return nibabel.load(path).get_fdata()
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
def peak_mb():
    # Not getrusage: its ru_maxrss starts at what the parent process held.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
before, best = peak_mb(), 1e9
for _ in range(3):
    started = time.perf_counter()
    data = read()
    best = min(best, time.perf_counter() - started)
    kind, megabytes = data.dtype, data.nbytes / 2**20
    if _ == 0:
        added = peak_mb() - before
    del data
print(f"{way:18} {best:7.2f} s {added:8.0f} MiB at the peak, array of {kind} {megabytes:.0f} MiB")
"""


def body(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise over a smooth body: compresses about as well as a scan does."""
    i, j = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    inside = (i / 0.8) ** 2 + (j / 0.6) ** 2 < 1
    slices = [np.where(inside, 40, -1000) + rng.normal(0, 12, shape[:2]) for _ in range(shape[2])]
    return np.stack(slices, axis=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=458)
    slices = parser.parse_args().slices
    rng = np.random.default_rng(0)
    ct_grid = Grid((512, 512, slices), np.diag([0.98, 0.98, 2.0, 1.0]))
    ct = Volume(body(ct_grid.shape, rng).astype(np.int16), ct_grid, Unit.HU)
    pet_grid = Grid((200, 200, 330), np.diag([4.07, 4.07, 3.0, 1.0]))
    activity = body(pet_grid.shape, rng).clip(0) / 10
    pet = Volume(activity.astype(np.float32), pet_grid, Unit.SUV)
    with tempfile.TemporaryDirectory() as folder:
        for name, volume in (("ct", ct), ("pet", pet)):
            path = Path(folder) / f"{name}.nii.gz"
            write_nifti(volume, path)
            size = path.stat().st_size / 2**20
            print(f"{name}: {volume.grid.shape} {volume.data.dtype}, {size:.0f} MiB compressed")
            for way in ("petbone", "nibabel dataobj", "nibabel get_fdata", "SimpleITK"):
                command = [sys.executable, "-c", READ, str(path), way]
                print(
                    "  " + subprocess.run(command, check=True, capture_output=True, text=True).stdout, end=""
                )


if __name__ == "__main__":
    main()
