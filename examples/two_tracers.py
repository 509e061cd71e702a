"""Two tracers on two days, from files to a figure: a phantom patient whose foci are known.

python examples/two_tracers.py OUT [--segment]

Makes NaF PET/CT of one day and choline PET/CT of another, on other grids and with the patient lying
otherwise, runs `petbone run` on the files, and prints beside each other which foci both tracers show by the
truth and by `hotspot_matches.csv`. The bones are the phantom's own masks; with --segment petbone's network
finds them in both CTs (a minute or two more).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from petbone.anatomy import SKELETON_49
from petbone.io import write_nifti
from petbone.phantom import PhantomSpec, make_patient
from petbone.volume import Grid, Volume

DAYS = {
    "naf": PhantomSpec(tracers=("naf",), ct_spacing_mm=(2.0, 2.0, 2.5)),
    "choline": PhantomSpec(
        tracers=("choline",), seed=1, ct_spacing_mm=(2.1, 2.1, 2.0), pet_spacing_mm=(4.5, 4.5, 4.2)
    ),
}


def lying_otherwise() -> np.ndarray:
    """From the first day to the second: turned by 9 degrees on the table, and some 40 mm away."""
    angle = np.radians(9.0)
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = 25.0, -12.0, 30.0
    return motion


def make_days(folder: Path) -> dict[str, tuple[dict, np.ndarray]]:
    """Write CT, bones and PET of both days; by tracer the truth, and where its coordinates went."""
    told = {}
    for (tracer, spec), motion in zip(DAYS.items(), (np.eye(4), lying_otherwise()), strict=True):
        patient = make_patient(spec)
        (folder / tracer).mkdir(parents=True, exist_ok=True)
        images = {"ct": patient.ct, "bones": patient.bones, "pet": patient.pets[tracer]}
        for name, image in images.items():
            # The header moves, not the voxels: so lies a patient otherwise in a scanner.
            grid = Grid(image.grid.shape, motion @ image.grid.mm_from_ijk)
            write_nifti(Volume(image.data, grid, image.unit), folder / tracer / f"{name}.nii.gz")
        told[tracer] = patient.truth, motion
    return told


def run_petbone(folder: Path, results: Path, segment: bool) -> None:
    """What is typed as `petbone run ...`, by the Python that runs this."""
    naf, choline = folder / "naf", folder / "choline"
    words = ["run", naf / "ct.nii.gz", naf / "pet.nii.gz", "--ct2", choline / "ct.nii.gz"]
    words += ["--pet2", choline / "pet.nii.gz", "--tracer", "naf", "--tracer", "choline", "--units", "suv"]
    if not segment:
        words += ["--bones", naf / "bones.nii.gz", "--bones2", choline / "bones.nii.gz"]
    words += ["-o", results, "--overwrite"]
    subprocess.run(
        [sys.executable, "-c", "from petbone.cli import main; main()", *map(str, words)], check=True
    )


def found_at(truth: dict, motion: np.ndarray, spots: pd.DataFrame) -> dict[str, int]:
    """By bone of a focus, the number of the hotspot that lies there."""
    numbers = {}
    for focus in truth["hotspots"]:
        centre = motion[:3, :3] @ focus["centre_mm"] + motion[:3, 3]
        away_mm = np.linalg.norm(spots[["x_mm", "y_mm", "z_mm"]] - centre, axis=1)
        near = spots[away_mm <= focus["radius_mm"] + 6]
        if len(near):
            numbers[focus["bone"]] = int(near["hotspot"].iloc[0])
    return numbers


def compare(told: dict[str, tuple[dict, np.ndarray]], results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text())
    threshold = {pet["tracer"]: pet["rule"]["threshold"] for pet in summary["pets"]}
    matches = pd.read_csv(results / "hotspot_matches.csv")
    height = {
        tracer: {focus["bone"]: focus["expected_suv_max"] for focus in truth["hotspots"]}
        for tracer, (truth, _) in told.items()
    }
    labels = {bone: known["id"] for bone, known in told["naf"][0]["bones"].items()}
    numbers = {
        tracer: found_at(truth, motion, pd.read_csv(results / f"hotspots_{tracer}.csv"))
        for tracer, (truth, motion) in told.items()
    }
    rules = ", ".join(f"{tracer} SUV {value:.3g}" for tracer, value in threshold.items())
    print("\nFoci of the phantom: true SUV after blur, and who shows it. By the truth a tracer does if past")
    print(f"the threshold ({rules}) in one of the 49 bones that the rules search (no limbs):")
    print(f"  {'bone':14} {'naf':>6} {'choline':>8}  {'truth':12}  found")
    right = 0
    bones = list(dict.fromkeys([*height["naf"], *height["choline"]]))
    for bone in bones:
        shows = [
            tracer
            for tracer in height
            if height[tracer].get(bone, 0) >= threshold[tracer] and labels[bone] in SKELETON_49
        ]
        truth = "both" if len(shows) == 2 else f"{shows[0]} only" if shows else "neither"
        one, two = (numbers[tracer].get(bone) for tracer in ("naf", "choline"))
        rows = matches[(matches["hotspot_1"] == one) | (matches["hotspot_2"] == two)]
        pair = rows[(rows["hotspot_1"] == one) & (rows["hotspot_2"] == two)]
        words = {"first only": "naf only", "second only": "choline only"}
        found = "both" if len(pair) else "neither" if rows.empty else words.get(rows["relation"].iloc[0], "?")
        right += truth == found
        values = (f"{height[t][bone]:.1f}" if bone in height[t] else "-" for t in ("naf", "choline"))
        print("  {:14} {:>6} {:>8}  {:12}  {}".format(bone, *values, truth, found))
    print(f"{right} of {len(bones)} as in the truth")
    for tracer in numbers:
        spots = pd.read_csv(results / f"hotspots_{tracer}.csv")
        other = spots[~spots["hotspot"].isin(numbers[tracer].values())]
        if len(other):
            flagged = other["flags"].notna().sum()
            print(f"{len(other)} more hotspots in {tracer} are no focus; {flagged} flagged (hot liver)")
    row = pd.read_csv(results / "tracer_agreement.csv").iloc[0]
    print(
        f"{row.bones_compared} bones that both have searched: agreement {row.agreement_percent:.0f} %, "
        f"kappa {row.kappa:.2f} (95 % {row.kappa_low:.2f} to {row.kappa_high:.2f})"
    )
    print(f"The figure: {results / 'concordance.svg'} (also in {results / 'report.html'})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Two tracers on two days, from files to a figure.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--segment", action="store_true", help="let the network find the bones")
    given = parser.parse_args()
    told = make_days(given.out / "days")
    run_petbone(given.out / "days", given.out / "results", given.segment)
    compare(told, given.out / "results")


if __name__ == "__main__":
    main()
