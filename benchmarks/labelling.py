"""Connected hotspots: petbone beside scipy, SimpleITK and connected-components-3d, on one volume.

    python benchmarks/labelling.py FOLDER     (the patient that benchmarks/quantify.py made there)

Every one labels the voxels of bone above SUV 3 in the PET of 200 x 200 x 330, and in the box that holds them;
best of five. petbone calls connected-components-3d, on the box, as `find_hotspots` does.

Last run, two cores: whole image petbone 10 ms, cc3d 10, SimpleITK 40, scipy 82; box 0.7, 0.6, 2.5 and 5.6 ms.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cc3d
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from petbone.components import connected
from petbone.io import PetOptions, read_labels, read_pet
from petbone.resample import occupancy


def best_of_five(work: Callable[[], object]) -> float:
    """Seconds."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    suv = read_pet(folder / "naf.nii.gz", PetOptions("suv")).volume
    bones = occupancy(read_labels(folder / "bones.nii.gz").volume, suv.grid)
    hot = np.zeros(suv.data.size, bool)
    hot[bones.voxel] = suv.data.reshape(-1)[bones.voxel] > 3
    whole = hot.reshape(suv.grid.shape)
    used = np.argwhere(whole)
    box = tuple(slice(low, high + 1) for low, high in zip(used.min(0), used.max(0), strict=True))
    for name, mask in (("whole image", whole), ("box", np.ascontiguousarray(whole[box]))):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        ways: dict[str, Callable[[], object]] = {
            "petbone": lambda mask=mask: connected(mask, 26),
            "cc3d": lambda mask=mask: cc3d.connected_components(mask, connectivity=26),
            "scipy": lambda mask=mask: ndimage.label(mask, np.ones((3, 3, 3))),
            "SimpleITK": lambda image=image: sitk.ConnectedComponent(image, True),
        }
        found = {int(np.max(connected(mask, 26))), int(ndimage.label(mask, np.ones((3, 3, 3)))[1])}
        print(f"{name} {mask.shape}, {mask.sum()} hot voxels, {found} components")
        for way, work in ways.items():
            print(f"  {way:10} {1000 * best_of_five(work):7.1f} ms")


if __name__ == "__main__":
    main()
