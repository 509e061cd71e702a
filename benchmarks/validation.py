"""Time and memory of comparing every bone of two maps, side by side with other tools, and how far they agree.

python benchmarks/validation.py [small|default|large] [TOOL ...]     (PYTHONPATH: where the other tools are)

Tools: petbone, surface-distance, SimpleITK, MedPy; each in a process of its own, those not installed are left
out. The maps are the bones of the phantom, and the same with every slice displaced by up to a voxel in its
plane. surface-distance is given whole masks, for it looks for their box itself; SimpleITK (figures of its
Hausdorff filter) and MedPy are given the box of a label. Peak memory (Linux only) has the maps in it.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

from petbone.metrics import Ruler, compare_labels
from petbone.phantom import spec_of_size
from petbone.phantom.patient import anatomy

TOLERANCE_MM = 2.0
MODULES = {
    "petbone": "petbone", "surface-distance": "surface_distance", "SimpleITK": "SimpleITK", "MedPy": "medpy",
}  # fmt: skip
Figures = dict[int, dict[str, float]]


def make_maps(size: str, folder: Path) -> None:
    spec = spec_of_size(size)
    one = np.ascontiguousarray(anatomy(spec).bones)
    rng = np.random.default_rng(0)
    two = np.empty_like(one)
    for k in range(one.shape[2]):
        two[..., k] = np.roll(one[..., k], rng.integers(-1, 2, 2), (0, 1))
    np.savez(folder / "maps.npz", one=one, two=two, spacing=np.array(spec.ct_spacing_mm))


def boxed(one: np.ndarray, two: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for label, box in enumerate(ndimage.find_objects(np.maximum(one, two)), start=1):
        if box is not None:
            wide = tuple(slice(max(s.start - 4, 0), s.stop + 4) for s in box)
            yield label, one[wide] == label, two[wide] == label


def by_petbone(one: np.ndarray, two: np.ndarray, spacing: tuple[float, ...]) -> Figures:
    return {n: vars(row) for n, row in compare_labels(one, two, Ruler(spacing, TOLERANCE_MM)).items()}


def by_surface_distance(one: np.ndarray, two: np.ndarray, spacing: tuple[float, ...]) -> Figures:
    np.inf = np.inf  # it was written for numpy 1
    import surface_distance as sd

    found = {}
    for label in np.union1d(np.unique(one), np.unique(two))[1:]:
        a, b = one == label, two == label
        between = sd.compute_surface_distances(a, b, spacing)
        means = sd.compute_average_surface_distance(between)
        found[int(label)] = {
            "dice": sd.compute_dice_coefficient(a, b),
            "surface_dice": sd.compute_surface_dice_at_tolerance(between, TOLERANCE_MM),
            "hausdorff_mm": sd.compute_robust_hausdorff(between, 100),
            "hd95_mm": sd.compute_robust_hausdorff(between, 95),
            "one_to_two_mm": means[0],
            "two_to_one_mm": means[1],
        }
    return found


def by_simpleitk(one: np.ndarray, two: np.ndarray, spacing: tuple[float, ...]) -> Figures:
    import SimpleITK as sitk

    found = {}
    for label, a, b in boxed(one, two):
        images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (a, b)]
        for image in images:
            image.SetSpacing(spacing[::-1])
        overlap, border = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
        overlap.Execute(*images)
        border.Execute(*images)
        found[label] = {"dice": overlap.GetDiceCoefficient(), "hausdorff_mm": border.GetHausdorffDistance()}
    return found


def by_medpy(one: np.ndarray, two: np.ndarray, spacing: tuple[float, ...]) -> Figures:
    from medpy.metric import binary

    return {
        label: {
            "dice": binary.dc(a, b),
            "hausdorff_mm": binary.hd(a, b, spacing),
            "hd95_mm": binary.hd95(a, b, spacing),
            "masd_mm": binary.assd(a, b, spacing),
        }
        for label, a, b in boxed(one, two)
    }


TOOLS = dict(zip(MODULES, (by_petbone, by_surface_distance, by_simpleitk, by_medpy), strict=True))


def one_tool(tool: str, folder: Path) -> None:
    maps = np.load(folder / "maps.npz")
    one, two, spacing = maps["one"], maps["two"], tuple(float(s) for s in maps["spacing"])
    started = time.perf_counter()
    found = TOOLS[tool](one, two, spacing)
    seconds = time.perf_counter() - started
    # Not ru_maxrss: it would begin at the peak of the process that made the maps.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak_gb = int(status.partition("VmHWM:")[2].split()[0]) / 1e6
    print(f"{tool:17} {len(found)} labels, {seconds:7.2f} s, peak {peak_gb:.2f} GB", flush=True)
    np.save(folder / f"{tool}.npy", np.array(found, dtype=object))


def differences(tool: str, folder: Path) -> None:
    ours, theirs = (np.load(folder / f"{t}.npy", allow_pickle=True).item() for t in ("petbone", tool))
    assert ours.keys() == theirs.keys()
    for name in next(iter(theirs.values())):
        largest = max(abs(row[name] - ours[label][name]) for label, row in theirs.items())
        print(f"    largest difference from {tool} in {name:14} {largest:.2g}")


def main(size: str = "small", *wanted: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_maps(size, folder)
        tools = [tool for tool in wanted or MODULES if find_spec(MODULES[tool])]
        for tool in tools:
            done = subprocess.run([sys.executable, __file__, "--one", tool, place], check=False)
            if done.returncode == 0 and tool != "petbone" and "petbone" in tools:
                differences(tool, folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one_tool(sys.argv[2], Path(sys.argv[3]))
    else:
        main(*sys.argv[1:])
