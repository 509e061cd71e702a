"""Compare what petbone found in the phantom patient with what is in it.

python examples/compare_with_truth.py PATIENT RESULTS
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd


def main(patient: Path, results: Path) -> None:
    truth = json.loads((patient / "truth.json").read_text())
    for tracer, expected in truth["indices"].items():
        suffix = f"_{tracer}" if (results / f"bones_{tracer}.csv").exists() else ""
        found = pd.read_csv(results / f"indices{suffix}.csv").set_index("index")
        spots = pd.read_csv(results / f"hotspots{suffix}.csv")
        print(f"\n{tracer}: index, true, found")
        for name, index in expected.items():
            if name in found.index:
                print(f"  {name:8} {index['value']:10.3f} {found.value[name]:10.3f} {index['unit']}")
        print(f"{tracer}: hotspot, true SUV after blur, found SUVmax, found bone")
        for spot in truth["hotspots"]:
            if spot["tracer"] != tracer:
                continue
            away_mm = np.linalg.norm(spots[["x_mm", "y_mm", "z_mm"]] - np.array(spot["centre_mm"]), axis=1)
            near = spots[away_mm <= spot["radius_mm"] + 6]
            line = "not listed" if near.empty else f"{near.suv_max.iloc[0]:8.2f}  {near.bone.iloc[0]}"
            print(f"  {spot['bone']:14} {spot['expected_suv_max']:8.2f}  {line}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
