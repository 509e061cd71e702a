"""Does damage to a PET's header ever give a wrong SUV without a word?

python benchmarks/suv_fuzz.py --headers 2000 --seed 0

Every trial writes a small DICOM series of a patient whose SUV is known, damages one to three things in it in
ways that leave the truth known (values lost, cut, garbled, in other units, times of other days, files cut
short), and reads it. Allowed are: refused in one line; right; another SUV with a warning. A traceback, or a
wrong SUV without a warning, is printed with the seed of its trial and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import collections
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from petbone.errors import InputError
from petbone.io import read_pet
from petbone.selftest.cases import BASE, HEADER, INJECTION
from petbone.selftest.series import STORED, write_series

GARBAGE = (
    b"",
    b" ",
    b"abc",
    b"-1",
    b"0",
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"9" * 16,
    b"12,5",
    b"\xff\xfe",
    b"?",
    b"0x10",
    b"1e",
    b"--3",
    b"1\\2",
    b"None",
)
TIME_GARBAGE = (b"", b"999999", b"11", b"1160", b"2400", b"11:00", b"abc", b"-10000", b"110000.0000000001")
INJECTED = ("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartDateTime")
NUMBERS = ("PatientWeight", "RescaleSlope", "RadionuclideTotalDose", "RadionuclideHalfLife")
UNUSED = (
    "PatientSize",
    "FrameReferenceTime",
    "ActualFrameDuration",
    "PatientSex",
    "Manufacturer",
    "SeriesType",
)
CODED = ("Units", "CorrectedImage", "DecayCorrection")
TIMES = ("SeriesTime", "AcquisitionTime", "SeriesDate", "AcquisitionDate", "RadiopharmaceuticalStartDateTime")
Damage = Callable[[np.random.Generator, list[Dataset]], str]


def _holder(dataset: Dataset, keyword: str) -> Dataset:
    if keyword not in INJECTED:
        return dataset
    items = dataset.get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    return items[0]


def _put(dataset: Dataset, keyword: str, value: bytes) -> None:
    """The bytes as they are, whether DICOM allows them or not."""
    tag = pydicom.tag.Tag(tag_for_keyword(keyword))
    value += b" " * (len(value) % 2)
    raw = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    _holder(dataset, keyword)[tag] = raw


def _some(rng: np.random.Generator, found: list[Dataset]) -> list[Dataset]:
    """All slices mostly, or one of them."""
    return found if rng.random() < 0.7 else [found[rng.integers(len(found))]]


def lost(rng: np.random.Generator, found: list[Dataset]) -> str:
    """An element is missing."""
    keyword = str(rng.choice([*NUMBERS, *UNUSED, *CODED, *TIMES, "RadiopharmaceuticalInformationSequence"]))
    for dataset in _some(rng, found):
        holder = _holder(dataset, keyword)
        if keyword in holder:
            delattr(holder, keyword)
    return f"{keyword} lost"


def garbled(rng: np.random.Generator, found: list[Dataset]) -> str:
    """An element holds something else."""
    keyword = str(rng.choice([*NUMBERS, *UNUSED, *CODED, *TIMES]))
    value = bytes(rng.choice(np.array(TIME_GARBAGE if keyword in TIMES else GARBAGE, object)))
    if keyword in UNUSED and keyword in ("SeriesType", "Manufacturer"):
        value = b"?"
    for dataset in _some(rng, found):
        _put(dataset, keyword, value)
    return f"{keyword} is {value!r}"


def in_other_units(rng: np.random.Generator, found: list[Dataset]) -> str:
    """The same amount in the unit that some scanners write."""
    what = int(rng.integers(3))
    for dataset in found:
        if what == 0:
            _put(dataset, "RadionuclideTotalDose", b"200")
        elif what == 1:
            _put(dataset, "PatientWeight", b"80000")
        else:
            _put(dataset, "PatientSize", b"180")
    return ("dose in MBq", "weight in g", "height in cm")[what]


def at_another_time(rng: np.random.Generator, found: list[Dataset]) -> str:
    """One of the times is of another hour or day than the others."""
    keyword = str(rng.choice(["SeriesTime", "SeriesDate", "AcquisitionDate"]))
    value = {
        "SeriesTime": f"{rng.choice([2, 9, 10, 12, 23]):02d}{rng.integers(10, 55)}00",
        "SeriesDate": f"202405{rng.choice([10, 29, 30])}",
        "AcquisitionDate": f"202405{rng.choice([10, 29, 30])}",
    }[keyword]
    for dataset in found:
        _put(dataset, keyword, value.encode())
    return f"{keyword} is {value}"


def undated(rng: np.random.Generator, found: list[Dataset]) -> str:
    """Dates wiped, or the injection by its clock alone."""
    for dataset in found:
        item = _holder(dataset, "RadionuclideTotalDose")
        if "RadiopharmaceuticalStartDateTime" in item:
            del item.RadiopharmaceuticalStartDateTime
        item.RadiopharmaceuticalStartTime = "100000"
        if rng.random() < 0.5:
            for keyword in ("SeriesDate", "AcquisitionDate"):
                if keyword in dataset:
                    delattr(dataset, keyword)
    return "injection without a date"


def injected_twice(rng: np.random.Generator, found: list[Dataset]) -> str:
    """The injection's sequence holds none or two."""
    count = int(rng.choice([0, 2]))
    for dataset in _some(rng, found):
        items = list(dataset.get("RadiopharmaceuticalInformationSequence") or [Dataset()])
        dataset.RadiopharmaceuticalInformationSequence = Sequence((items * 2)[:count])
    return f"{count} injections"


def told_twice(rng: np.random.Generator, found: list[Dataset]) -> str:
    """The injection's clock time stands beside its date and time; one of them may be wrong or no time."""
    clock, full = rng.choice(["100000", "000000", "090000", "080000"]), rng.choice(["10", "00"])
    for dataset in _some(rng, found):
        item = _holder(dataset, "RadionuclideTotalDose")
        item.RadiopharmaceuticalStartTime = str(clock)
        item.RadiopharmaceuticalStartDateTime = f"20240531{full}0000"
    return f"injection at {full}:00 and at {clock}"


def with_offset(rng: np.random.Generator, found: list[Dataset]) -> str:
    """The injection's time in UTC, with or without the zone of the scan, and of its clock time."""
    zone, clock = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    for dataset in found:
        item = _holder(dataset, "RadionuclideTotalDose")
        item.RadiopharmaceuticalStartDateTime = "20240531080000.00+0000"
        if zone:
            dataset.TimezoneOffsetFromUTC = "+0200"
        if clock:
            item.RadiopharmaceuticalStartTime = "100000"
    return f"injection in UTC, zone {zone}, clock {clock}"


def past_midnight(rng: np.random.Generator, found: list[Dataset]) -> str:
    """The whole visit is thirteen hours later, so that two beds of it lie behind midnight."""
    for n, dataset in enumerate(found):
        _holder(dataset, "RadionuclideTotalDose").RadiopharmaceuticalStartDateTime = "20240531225700"
        dataset.SeriesTime = "235700"
        dataset.AcquisitionTime = "235700" if n < 2 else "000200"
        dataset.AcquisitionDate = "20240531" if n < 2 or rng.random() < 0.5 else "20240601"
        dataset.FrameReferenceTime = 0
    return "beds past midnight"


DAMAGES: tuple[Damage, ...] = (
    lost,
    told_twice,
    with_offset,
    past_midnight,
    garbled,
    garbled,
    in_other_units,
    at_another_time,
    undated,
    injected_twice,
)


def trial(seed: int, folder: Path) -> tuple[str, str]:
    """What was done to the series of a seed, and what came of it."""
    rng = np.random.default_rng(seed)
    shutil.rmtree(folder, ignore_errors=True)
    write_series(folder, HEADER, INJECTION)
    files = sorted(folder.iterdir())
    found = [pydicom.dcmread(file) for file in files]
    chosen = [DAMAGES[rng.integers(len(DAMAGES))] for _ in range(rng.integers(1, 4))]
    # Last, because of two times that contradict each other the truth is lost with one of them.
    done = [damage(rng, found) for damage in sorted(chosen, key=lambda one: one is told_twice)]
    for file, dataset in zip(files, found, strict=True):
        dataset.save_as(file)
    if rng.random() < 0.05:
        victim = files[rng.integers(len(files))]
        raw = victim.read_bytes()
        victim.write_bytes(raw[: rng.integers(len(raw))])
        done.append("a file cut short")
    what = "; ".join(done)
    try:
        scan = read_pet(folder)
    except InputError as error:
        return what, "refused" if "\n" not in str(error) else f"REFUSED IN SEVERAL LINES: {error}"
    except Exception:
        return what, "TRACEBACK\n" + traceback.format_exc()
    wanted = BASE * float(HEADER["RescaleSlope"]) * STORED
    if np.allclose(scan.volume.data, wanted, rtol=1e-5):
        return what, "right"
    if scan.warnings:
        return what, "another SUV, with a warning"
    share = float(scan.volume.data.mean()) / wanted
    return what, f"WRONG WITHOUT A WARNING: {share:.4g} of the truth"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--headers", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="trial n has the seed SEED + n")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom minds the damage
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as place:
        for seed in range(options.seed, options.seed + options.headers):
            what, result = trial(seed, Path(place) / "pet")
            counts[result.split(":")[0].split("\n")[0]] += 1
            if result[0].isupper():
                print(f"seed {seed}: {what}\n  {result}")
    for result, count in counts.most_common():
        print(f"{count:6d}  {result}")
    print(f"seeds {options.seed} to {options.seed + options.headers - 1}")
    if any(result[0].isupper() for result in counts):
        sys.exit(1)


if __name__ == "__main__":
    main()
