"""The story of one case begins: what somebody has of a patient is read, and given to be measured."""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from petbone.beside import beside
from petbone.errors import InputError
from petbone.io import PetOptions, Scan, read_ct, read_labels, read_pet
from petbone.labels import LabelTable
from petbone.steps import Steps
from petbone.volume import Grid, Volume

if TYPE_CHECKING:
    from petbone.case import CaseResult
    from petbone.net.segment import Segmenter

KEPT_BYTES = 16 << 20
"""Memory of arrays up to this size goes to the next array and not back to the system, which has to clear it.

glibc learns the size from the largest piece that was given back; other C libraries are not moved by it."""
TRACERS = ("naf", "choline", "psma", "fdg", "other")


@dataclass(frozen=True)
class CaseFiles:
    """What somebody has of one patient: PETs, and a CT, or a bone map, or both."""

    pets: tuple[Path, ...]
    pet_options: tuple[PetOptions, ...]  # one for each PET
    ct: Path | None = None
    bones: Path | None = None
    labels: str | None = None  # a label table by name, or a CSV file; None: petbone's own
    ct_series: str | None = None  # number or UID, where the CT's folder holds several
    second: CaseFiles | None = None  # another examination of the patient, whose tracers are others


@dataclass(frozen=True)
class CaseOptions:
    """How a case is done."""

    index: str | None = None  # whose hotspots are listed; None: by the tracer
    rule: Path | None = None  # TOML with indices of the user's own
    device: str = "auto"
    threads: int | None = None
    weights: Path | None = None
    max_memory_gb: float | None = None  # None: what the machine has
    align: str = "report"  # or rigid: the PET is moved where that is surer than leaving it
    psf_mm: float | None = None  # FWHM of the PET's blur; None: partial volume is not corrected
    processes: int = 2  # 1: nothing is forked beside, since others have the cores; no number depends on it


def run_case(
    files: CaseFiles,
    options: CaseOptions,
    steps: Steps,
    load: Callable[[CaseOptions], Segmenter] | None = None,
) -> CaseResult:
    """Measure one patient, in one examination or two. Raises InputError when an input cannot be used.

    `load` gives the network where bones must be found; None: it is read from its file.
    """
    every = (files,) if files.second is None else (files, files.second)
    np.empty(KEPT_BYTES, np.uint8)
    with ExitStack() as started:
        with steps("read"):
            # The CT is the largest, and not needed at once.
            cts = [started.enter_context(_reading_ct(one, options.processes)) for one in every]
            with ThreadPoolExecutor() as pool:
                reading = [_reading(one, pool) for one in every]
                # What measures and writes takes as long to import as files take to be unpacked.
                from petbone.examination import all_indices, examined

                import_module("petbone.results")
                chosen = all_indices(options)
                scans = [(ct, *scan()) for ct, scan in zip(cts, reading, strict=True)]
        return examined(every, scans, options, chosen, steps, load)


Scans = tuple[Callable[[], Scan | None], Scan | None, list[Scan]]
"""What waits for the CT, the bone map, and the PETs of an examination."""


def _reading_ct(files: CaseFiles, processes: int) -> AbstractContextManager[Callable[[], Scan | None]]:
    if files.ct is None:
        return nullcontext(lambda: None)
    return beside(partial(read_ct, files.ct, files.ct_series), fork=False, processes=processes)


def _reading(files: CaseFiles, pool: ThreadPoolExecutor) -> Callable[[], tuple[Scan | None, list[Scan]]]:
    """Mask and PETs are read side by side from now on; what is returned waits for them."""
    mask = None if files.bones is None else pool.submit(read_labels, files.bones)
    pets = [pool.submit(read_pet, *pet) for pet in zip(files.pets, files.pet_options, strict=True)]
    return lambda: (None if mask is None else mask.result(), [pet.result() for pet in pets])


def bones_of(mask: Scan, path: Path, labels: str | None) -> tuple[Volume, LabelTable]:
    """A mask that was read from `path` in petbone's labels, and the table that says which these are.

    `labels` is a table's name or a CSV file; None: what the file says itself, else petbone's own. Raises
    InputError for labels that the table does not have.
    """
    try:
        if labels is None:
            names = {int(label): name for label, name in mask.source.get("label_names", {}).items()}
            table = LabelTable.for_file(mask.volume, names)
        else:
            table = LabelTable.load(labels, path.name)
        return table.apply(mask.volume), table
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def refuse_no_overlap(
    path: Path, grid: Grid, other: Path | None, other_grid: Grid, what: str = "PET"
) -> None:
    """Raise InputError when the fields of view of an image (`what`) and of another one do not meet."""
    ranges = [(one.corners_mm().min(axis=0), one.corners_mm().max(axis=0)) for one in (grid, other_grid)]
    (own_low, own_high), (low, high) = ranges
    if (np.minimum(own_high, high) <= np.maximum(own_low, low)).any():
        spans = [", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(*bounds, strict=True)) for bounds in ranges]
        raise InputError(
            f"{path}: does not overlap {other}: the {what} spans (x, y, z mm) {spans[0]}, the other "
            f"{spans[1]}; expected two images of one examination in one frame"
        )


def stated_options(files: CaseFiles, options: CaseOptions) -> dict[str, Any]:
    """The options as given, without a path: a file's name can name a patient."""
    stated: dict[str, Any] = {"index": options.index, "rule": options.rule is not None}
    stated["device"] = options.device
    stated["psf_mm"] = options.psf_mm
    stated["align"] = options.align
    stated |= {"threads": options.threads, "weights": options.weights is not None}
    labels = files.labels
    stated["labels"] = labels if labels is None or not Path(labels).suffix else "csv"
    # Nor a date: what SUV needs of the times is their distance, which stands with the PET's source.
    left_out = ("sidecar", "injected_at", "scan_start")
    stated["pets"] = [
        {key: value for key, value in asdict(pet).items() if value is not None and key not in left_out}
        for one in (files, files.second)
        if one is not None
        for pet in one.pet_options
    ]
    return stated


def versions() -> dict[str, str]:
    """Python and the packages whose arithmetic enters a result."""
    names = (
        "torch",
        "numpy",
        "scipy",
        "nibabel",
        "pydicom",
        "SimpleITK",
        "pandas",
        "connected-components-3d",
    )
    return {"python": platform.python_version()} | {name: version(name) for name in names}
