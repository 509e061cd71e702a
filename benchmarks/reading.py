"""How fast and how large: reading a CT and a PET, .nii.gz and DICOM, beside nibabel, SimpleITK and pydicom.

    python benchmarks/reading.py [--slices 458]

Every reader runs in a process of its own, so that the peak of memory is its own; seconds are of the reading
alone, best of three. Peak memory is what reading added to the process (imports not counted), read from /proc,
so Linux only.

Last run, two cores with AVX512: CT 512 x 512 x 458 int16 (114 MiB of gzip): petbone 0.52 s and 233 MiB,
nibabel 1.22 s and 458 MiB (get_fdata 1145 MiB), SimpleITK 0.83 s and 461 MiB; as 458 DICOM files petbone
0.50 s and 262 MiB, SimpleITK 0.64 s and 1151 MiB, a loop over pydicom 1.3 s and 2299 MiB. PET 200 x 200 x
330 float32: petbone 0.09 s and 56 MiB, nibabel 0.19 s and 101 MiB, SimpleITK 0.13 s and 104 MiB; as 330
DICOM files petbone, to SUV, 0.30 s and 65 MiB, SimpleITK 0.24 s and 231 MiB, pydicom 0.30 s and 258 MiB,
both to Bq/mL.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from petbone.io import write_nifti
from petbone.selftest.cases import HEADER, INJECTION
from petbone.selftest.series import write_series
from petbone.volume import Grid, Unit, Volume

CT_HEADER = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "SeriesType": None}
READ = """
import sys, time
path, way = sys.argv[1:]
from pathlib import Path
import numpy, nibabel, SimpleITK, pydicom, petbone.io, petbone.io.dicom_pixels
def notebook(folder):
    slices = [pydicom.dcmread(f) for f in Path(folder).iterdir()]
    slices.sort(key=lambda s: s.ImagePositionPatient[2])
    return numpy.stack([s.pixel_array * s.RescaleSlope + s.RescaleIntercept for s in slices])
def read():
    if way == "pydicom":
        return notebook(path)
    if way == "SimpleITK" and Path(path).is_dir():
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(path))
        return SimpleITK.GetArrayFromImage(reader.Execute())
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
            compare(path, ("petbone", "nibabel dataobj", "nibabel get_fdata", "SimpleITK"))
        series = Path(folder) / "ct_dicom"
        write_series(
            series, HEADER | CT_HEADER, INJECTION, stored=(ct.data.clip(-1024) + 1024).astype(np.uint16)
        )
        print(f"ct: {ct.grid.shape}, {slices} DICOM files")
        compare(series, ("petbone", "SimpleITK", "pydicom"))
        series = Path(folder) / "pt_dicom"
        slopes = {"RescaleSlope": list(rng.uniform(0.5, 2, pet.grid.shape[2]).round(6))}
        stored = (activity * 1000).astype(np.uint16)
        write_series(series, HEADER, INJECTION, slices=slopes, stored=stored)
        print(
            f"pet: {pet.grid.shape}, {stored.shape[2]} DICOM files, a slope for each; the peers leave Bq/mL"
        )
        compare(series, ("petbone", "SimpleITK", "pydicom"))


def compare(path: Path, ways: tuple[str, ...]) -> None:
    """Every reader in a process of its own."""
    for way in ways:
        command = [sys.executable, "-c", READ, str(path), way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print("  " + done.stdout, end="")


if __name__ == "__main__":
    main()
