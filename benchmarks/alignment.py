"""How far a displaced PET is found from its CT, on patients whose displacement is known.

python benchmarks/alignment.py [COUNT] [FIRST_SEED] [--small]

Every patient is another one (size, fat, resolution of the PET, noise). His PET is moved through its frame by
up to 12 mm and turned by up to 5 degrees about the middle of the body: nothing is interpolated. Every fifth
is not moved. Printed per tracer: the error at every bone, how often the 95 % interval of its length holds the
truth, the error of the whole; and what `--align rigid` makes of the distance between PET and CT at the bones.
"""

import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from petbone.phantom import SMALL, PhantomSpec, make_patient
from petbone.pose import rigid
from petbone.register import align
from petbone.resample import occupancy
from petbone.shift import length_and_interval
from petbone.volume import Grid, Volume


@dataclass(frozen=True)
class Found:
    """One PET: per bone the error and whether its interval holds the truth; TRE as it is and corrected."""

    errors_mm: np.ndarray
    inside: np.ndarray
    inside_axes: np.ndarray
    whole_error_mm: float
    before_mm: float
    after_mm: float
    applied: bool
    seconds: float


def spec(seed: int, rng: np.random.Generator, small: bool) -> PhantomSpec:
    return replace(
        SMALL if small else PhantomSpec(),
        seed=seed,
        stature_mm=float(rng.uniform(1600, 1900)),
        width=float(rng.uniform(0.92, 1.1)),
        fat_mm=float(rng.uniform(8, 30)),
        psf_fwhm_mm=float(rng.uniform(4.5, 8)),
        noise=float(rng.uniform(0.5, 2.0)),
    )


def direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def measured(patient, tracer: str, motion: np.ndarray) -> Found:
    pet = patient.pets[tracer]
    moved = Volume(pet.data, Grid(pet.grid.shape, motion @ pet.grid.mm_from_ijk), pet.unit)
    bones = occupancy(patient.bones, moved.grid)
    started = time.perf_counter()
    found = align(moved, patient.ct, patient.bones, bones)
    seconds = time.perf_counter() - started
    place = np.array([shift.place_mm for shift in found.bones.values()])
    true = place @ motion[:3, :3].T + motion[:3, 3] - place
    by_bone = np.array([shift.mm for shift in found.bones.values()])
    by_whole = np.array([found.by_whole(one).mm for one in place])
    lengths = np.array([length_and_interval(shift) for shift in found.bones.values()])
    sds = np.sqrt([np.diag(shift.covariance) for shift in found.bones.values()])
    applied, _ = found.verdict()
    before = float(np.linalg.norm(true, axis=1).mean())
    return Found(
        np.linalg.norm(by_bone - true, axis=1),
        np.abs(lengths[:, 0] - np.linalg.norm(true, axis=1)) <= lengths[:, 1],
        np.abs(by_bone - true) <= 1.96 * sds,
        float(np.linalg.norm(by_whole - true, axis=1).mean()),
        before,
        float(np.linalg.norm(by_whole - true, axis=1).mean()) if applied else before,
        applied,
        seconds,
    )


def main(count: int, first: int, small: bool) -> None:
    found: dict[str, list[Found]] = {"naf": [], "choline": []}
    for seed in range(first, first + count):
        rng = np.random.default_rng([seed, 5])
        patient = make_patient(spec(seed, rng, small))
        middle = patient.bones.grid.mm((np.array(patient.bones.grid.shape) - 1) / 2)
        turn = direction(rng) * np.radians(rng.uniform(0, 5))
        motion = rigid(np.concatenate([direction(rng) * rng.uniform(0, 12), turn]), middle)
        if seed % 5 == 0:
            motion = np.eye(4)
        for tracer, results in found.items():
            results.append(measured(patient, tracer, motion))
        last = [results[-1] for results in found.values()]
        shown = ", ".join(
            f"{np.median(one.errors_mm):.2f} mm, {100 * one.inside.mean():.0f} % in, "
            + ("moved" if one.applied else "left")
            for one in last
        )
        print(f"{seed}: displaced {last[0].before_mm:.1f} mm; {shown}", flush=True)
    print(f"\n{count} patients, PET voxels of {6 if small else 4} mm")
    for tracer, results in found.items():
        errors = np.concatenate([one.errors_mm for one in results])
        inside = np.concatenate([one.inside for one in results])
        axes = np.concatenate([one.inside_axes.ravel() for one in results])
        worse = max(one.after_mm - one.before_mm for one in results)
        whole = np.array([one.whole_error_mm for one in results])
        before, after = (
            np.array([getattr(one, name) for one in results]) for name in ("before_mm", "after_mm")
        )
        print(
            f"{tracer}: {errors.size} bones, error median {np.median(errors):.2f}, 90 % "
            f"{np.quantile(errors, 0.9):.2f}, most {errors.max():.1f} mm; the interval of the length holds "
            f"the truth in {100 * inside.mean():.1f} %, those of the axes in {100 * axes.mean():.1f} %"
        )
        print(
            f"  whole: mean over bones {whole.mean():.2f}, most {whole.max():.2f} mm; applied "
            f"{sum(one.applied for one in results)} times, TRE before {before.mean():.1f}, after "
            f"{after.mean():.2f} mm, worse by at most {worse:.2f} mm; "
            f"{np.median([one.seconds for one in results]):.1f} s"
        )


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--small"]
    numbers = [*map(int, words), *(50, 1000)[len(words) :]]
    main(numbers[0], numbers[1], "--small" in sys.argv)
