"""How good `petbone segment` is on real CT: what is found, what is named right, what is made up.

    python benchmarks/segmentation.py --scans ../shared/scans --out results [--pictures results/pictures]

Ten scans, none of them part of any training (segmentation_scans.py), are segmented one by one, each in a
process of its own so that seconds and peak memory are its own. Two have masks, which are of other tools and
no truth, three have landmarks placed by eye, five are crops of which only plausibility is judged. What
every column means stands with the functions of segmentation_scores.py. Peak memory is the operating
system's for the process, with Python and torch in it, until the segmentation is done.

`--out` gets four tables: scans.csv, families.csv, bones.csv, landmarks.csv. `--pictures` gets a picture
of each scan: the CT with outlined, named bones; landmarks are green crosses if hit, red if not.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from segmentation_scans import SCANS, KnownScan, load_ct, load_reference
from segmentation_scores import (
    Answer,
    Row,
    bone_rows,
    family_rows,
    is_hit,
    landmark_rows,
    misnamed,
    plausibility_row,
    skeleton_row,
)

from petbone.errors import InputError
from petbone.steps import peak_memory_mb
from petbone.volume import Volume

SCAN_COLUMNS = """scan seconds peak_memory_mb found_ml names unsure oversized soft_ml outside_ml reference_ml
bone_dice precision found_share named_share false_ml false_percent nowhere_sure nowhere_unsure
weights_sha256""".split()
FAMILY_COLUMNS = """scan family bones reference_ml found_ml dice surface_dice_2mm found_share named_share
misnamed_sure misnamed_unsure sure_points sure_hits plausible_points plausible_hits unsure_points unsure_hits
missed misnamed flagged offered hits_flagged""".split()
BONE_COLUMNS = """scan bone family reference_ml found_ml dice surface_dice_2mm found_share named_share
confidence name overlaps_most candidates_hold_truth""".split()
LANDMARK_COLUMNS = (
    "scan bone family kind certainty result found name confidence candidates_hold_truth".split()
)
DIGITS = 3


@dataclass(frozen=True)
class Options:
    """What a scan's process is told."""

    scans: Path
    weights: Path | None = None
    device: str = "auto"
    threads: int | None = None
    pictures: Path | None = None


@dataclass(frozen=True)
class Scores:
    """The rows of one scan, or of several."""

    scans: list[Row] = field(default_factory=list)
    families: list[Row] = field(default_factory=list)
    bones: list[Row] = field(default_factory=list)
    landmarks: list[Row] = field(default_factory=list)

    def add(self, other: Scores) -> None:
        """Append the rows of `other`."""
        for mine, theirs in zip(self.tables(), other.tables(), strict=True):
            mine.extend(theirs)

    def tables(self) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
        """In the order of the columns above."""
        return self.scans, self.families, self.bones, self.landmarks


def score(scan: KnownScan, ct: Volume, answer: Answer, reference: Volume | None, folder: Path) -> Scores:
    """All rows of a scan that was segmented; `folder` is that of the scans and holds the landmarks."""
    bones = bone_rows(answer, reference)
    points = landmark_rows(answer, folder / scan.landmarks) if scan.landmarks else []
    whole = plausibility_row(answer, ct)
    if reference is not None:
        whole |= skeleton_row(answer, reference)
        nowhere = [bone["name"] for bone in bones if bone["overlaps_most"] == "none"]
        whole |= {f"nowhere_{word}": nowhere.count(word) for word in ("sure", "unsure")}
    families = family_rows(bones, points)
    for row in (whole, *families, *bones, *points):
        row["scan"] = scan.name
    return Scores([whole], families, bones, points)


def run_scan(name: str, options: Options) -> Scores:
    """Segment a scan and score it; meant for a process of its own."""
    from petbone.net.segment import LOW_CONFIDENCE, Segmenter  # torch: not in the process that waits

    scan = SCANS[name]
    segmenter = Segmenter.load(options.weights, options.device, options.threads)
    ct = load_ct(scan, options.scans)
    started = time.perf_counter()
    result = segmenter.segment(ct)
    seconds, peak_mb = time.perf_counter() - started, peak_memory_mb()
    answer = Answer(result.bones, result.confidence, result.candidates, LOW_CONFIDENCE)
    scores = score(scan, ct, answer, load_reference(scan, options.scans, ct), options.scans)
    scores.scans[0] |= {
        "seconds": seconds,
        "peak_memory_mb": round(peak_mb),
        "weights_sha256": result.weights_sha256[:12],
    }
    if options.pictures is not None:
        draw(scan, ct, answer, scores.landmarks, options)
    return scores


def draw(scan: KnownScan, ct: Volume, answer: Answer, points: Sequence[Row], options: Options) -> None:
    """Write the picture of a scan."""
    from segmentation_pictures import Spot, overlay

    spots = []
    if scan.landmarks:
        with (options.scans / scan.landmarks).open(newline="", encoding="utf-8") as file:
            for row, point in zip(csv.DictReader(file), points, strict=True):
                at_mm = (float(row["x_mm"]), float(row["y_mm"]), float(row["z_mm"]))
                spots.append(Spot(at_mm, point["bone"], is_hit(point)))
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        overlay(ct, answer, spots).save(options.pictures / f"{scan.name}.png")


def shown(value: object) -> str:
    """A cell of a table."""
    if value is None:
        return ""
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else str(value)


def write(folder: Path, scores: Scores) -> None:
    """The four tables as CSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("scans", "families", "bones", "landmarks")
    columns = (SCAN_COLUMNS, FAMILY_COLUMNS, BONE_COLUMNS, LANDMARK_COLUMNS)
    for name, header, rows in zip(names, columns, scores.tables(), strict=True):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows([shown(row.get(column)) for column in header] for row in rows)


def table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Rows as text, without the columns that are empty in all of them."""
    used = [column for column in columns if any(shown(row.get(column)) for row in rows)]
    cells = [used, *([shown(row.get(column)) for column in used] for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(used))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def summary(scores: Scores) -> str:
    """What is printed in the end."""
    with_mask = [row for row in scores.families if "bones" in row]
    with_points = [row for row in scores.families if "missed" in row]
    parts = [table(SCAN_COLUMNS, scores.scans)]
    parts += [table(FAMILY_COLUMNS, rows) for rows in (with_mask, with_points) if rows]
    wrong = [bone for bone in misnamed(scores.bones) if bone["name"] == "sure"]
    if wrong:
        said = ", ".join(f"{bone['scan']} {bone['bone']} on {bone['overlaps_most']}" for bone in wrong)
        parts.append(f"named wrong and sure: {said}")
    nowhere = [b for b in scores.bones if b.get("overlaps_most") == "none" and b["name"] == "sure"]
    if nowhere:
        said = ", ".join(f"{bone['scan']} {bone['bone']} {bone['found_ml']:.1f} mL" for bone in nowhere)
        parts.append(f"sure where the reference has no bone: {said}")
    return "\n\n".join(part for part in parts if part)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True, help="the folder of scans")
    parser.add_argument("--weights", type=Path, help="default: the packaged weights")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", action="append", choices=list(SCANS), metavar="SCAN", help=", ".join(SCANS))
    parser.add_argument("--out", type=Path, help="folder for the tables")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """0, or 3 if a scan could not be segmented; the others are scored all the same."""
    given = arguments(words)
    options = Options(given.scans, given.weights, given.device, given.threads, given.pictures)
    scores, failed = Scores(), False
    for name in given.only or SCANS:
        print(f"{name} ...", file=sys.stderr)
        # A fresh process, not a fork: its peak of memory must not start at another scan's.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                scores.add(process.submit(run_scan, name, options).result())
            except (InputError, BrokenProcessPool) as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed = True
    print(summary(scores))
    if given.out is not None:
        write(given.out, scores)
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
