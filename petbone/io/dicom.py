"""DICOM series from a folder, a zip file or a DICOMDIR: which files belong together, and where they lie.

* *header* : a file's data set without its pixels
* *lps*    : DICOM's patient coordinates (left, posterior, superior); everything leaves here in RAS
* *normal* : the direction across the slices, from ImageOrientationPatient

Geometry follows DICOM PS3.3 C.7.6.2.1.1: positions come from ImagePositionPatient and never from
SliceThickness, which is the thickness of a slice and not the way to the next.
"""

from __future__ import annotations

import io
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from petbone.errors import InputError
from petbone.io.dicom_elements import coded, distinct, elements, number, words
from petbone.io.enhanced import frame_headers, is_enhanced
from petbone.io.grids import checked_grid
from petbone.volume import Grid

POSITION_MM = 0.1
"""A slice may be this far from its place in an even stack, or 3 % of the spacing if that is more.

Real tables jitter: the GE Discovery ST of the soft-tissue-sarcoma collection is 0.04 mm off between beds.
"""
SHEAR_DEG = 0.1
THREADS = 4
MODALITIES = frozenset(
    "CT PT MR NM CR DX MG US XA RF SC OT SEG SR RTSTRUCT RTDOSE RTPLAN PR KO REG RWV".split()
)

_STORAGE = "1.2.840.10008.5.1.4.1.1."  # SOP classes of images and of what belongs to them
_NAMED = ("SOPClassUID", "Modality", "SeriesInstanceUID")
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MALFORMED = (  # pydicom hands malformed values out as text, or raises one of these when they are looked at
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OverflowError,
    EOFError,
    OSError,
    struct.error,
    BytesLengthException,
)


@dataclass(frozen=True, eq=False)
class Slice:
    """One file of a series, or one frame of it: its header, where the file's pixels start, and its bytes."""

    header: Dataset
    pixel_offset: int
    read: Callable[[], bytes]
    frame: int = 0
    frames: int = 1


@dataclass(frozen=True, eq=False)
class Series:
    """The slices of one series in order of position, and the grid that they make."""

    slices: tuple[Slice, ...]
    grid: Grid
    warnings: tuple[str, ...]
    left: tuple[str, ...] = ()  # the other series that lay there

    @property
    def headers(self) -> list[Dataset]:
        """Headers in order of position."""
        return [s.header for s in self.slices]


@contextmanager
def careful(path: Path) -> Iterator[None]:
    """Silences pydicom and turns what it raises over malformed headers into an InputError without the value.

    Its warnings and errors quote values, and a value may name the patient. To be entered by the caller, not
    in the threads here, because Python's warning filters are shared by all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError:
            raise
        except _MALFORMED as error:
            raise InputError(
                f"{path}: a header is malformed ({type(error).__name__}); export the series again"
            ) from error


def find_series(path: Path, modality: str, wanted: str | None = None) -> Series:
    """The series of `modality` (CT or PT) in a folder, whatever its depth, in a zip file or in a DICOMDIR.

    `wanted` is the number or the UID of the one that is meant where there are several. Without it, a PET that
    is not corrected for attenuation is passed over where one that is lies beside it. Raises InputError if
    there is none or more than one, and where slices are missing, doubled or uneven.
    """
    if path.is_dir():
        found = _headers_of_files(sorted(f for f in path.rglob("*") if f.is_file()))
    elif zipfile.is_zipfile(path):
        found = _headers_of_zip(path)
    else:
        found = _headers_of_files(_files_of_directory(path))
    if not found:
        raise InputError(f"{path}: no DICOM file inside; expected a {modality} series")
    slices, left = _choose(path, found, modality, wanted)
    _refuse_unusual(path, [s.header for s in slices])
    order, grid, said = _stack(path, [s.header for s in slices])
    passed = [one for one in left if one.startswith(modality)]
    if passed:
        said = (f"other series of the same kind were left: {'; '.join(passed)}", *said)
    return Series(tuple(slices[n] for n in order), grid, said, tuple(left))


# Finding


def _headers_of_files(files: Sequence[Path]) -> list[Slice]:
    """Raises InputError for files that cannot be read, without their names, which may be the patient's."""
    files = [f for f in files if not f.name.startswith(".")]
    try:
        # One after the other: parsing holds the interpreter's lock, and threads waiting for it cost a third.
        return [f for s in map(_header_of_file, files) if s is not None for f in _frames(s)]
    except OSError as error:
        if error.errno is None:  # pydicom's own, of what the file holds
            raise
        folder = Path(error.filename).parent if error.filename else "a file"
        raise InputError(f"{folder}: a file cannot be read ({error.strerror}); copy it again") from None


def _frames(one: Slice) -> list[Slice]:
    """The frames of an enhanced object as slices that share the file's bytes; others as they are."""
    if not is_enhanced(one.header):
        return [one]
    headers = frame_headers(one.header)
    read = lru_cache(1)(one.read)
    return [Slice(h, one.pixel_offset, read, n, len(headers)) for n, h in enumerate(headers)]


def _files_of_directory(path: Path) -> list[Path]:
    """The files that a DICOMDIR lists, or an enhanced object itself, which is a whole series.

    Raises InputError if `path` is neither, or a file is missing.
    """
    header: Dataset
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:  # what begins as a zip file and is none
        header = Dataset()
    if is_enhanced(header):
        return [path]
    records = header.get("DirectoryRecordSequence")
    if records is None:
        raise InputError(f"{path}: a single DICOM file; expected the folder (or zip file) of its series")
    listed = [
        _on_disk(path.parent, [str(part) for part in parts])
        for r in records
        if (parts := elements(r, "ReferencedFileID"))
    ]
    missing = sum(not file.is_file() for file in listed)
    if missing:
        raise InputError(
            f"{path}: {missing} of the {len(listed)} files that it lists are not there; expected the whole "
            "medium: copy it again, or give the folder"
        )
    return listed


def _on_disk(folder: Path, parts: Sequence[str]) -> Path:
    """A file that a DICOMDIR names in capitals, as a disk may have it in small letters."""
    file = folder.joinpath(*parts)
    lower = folder.joinpath(*(part.lower() for part in parts))
    return lower if not file.is_file() and lower.is_file() else file


def _header_of_file(file: Path) -> Slice | None:
    with file.open("rb") as stream:
        return _header(stream, file.read_bytes)


def _headers_of_zip(path: Path) -> list[Slice]:
    with _whole_zip(path):
        archive = zipfile.ZipFile(path)
        entries = [i.filename for i in archive.infolist() if not i.is_dir()]
        names = sorted(n for n in entries if not PurePosixPath(n).name.startswith("."))

    def member(name: str) -> bytes:
        with _whole_zip(path):
            return archive.read(name)

    # Read again for the pixels: keeping every file would hold the series twice.
    found = [_header(io.BytesIO(member(name)), partial(member, name)) for name in names]
    return [f for s in found if s is not None for f in _frames(s)]


@contextmanager
def _whole_zip(path: Path) -> Iterator[None]:
    """Turns what zipfile raises into an InputError without its words: they quote names of members, which may
    be the patient's."""
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        kind = type(error).__name__
        raise InputError(f"{path}: the zip file is damaged, encrypted or cut short ({kind})") from None


def _header(stream: Any, read: Callable[[], bytes]) -> Slice | None:
    """Header and pixel offset, or None for what is not DICOM. Files without preamble exist and are read."""
    start = stream.read(132)
    stream.seek(0)
    bare = start[:1] in (b"\x02", b"\x08") and start[1:2] == b"\0"
    marked = start[128:132] == b"DICM"
    if not marked and not bare:
        return None
    try:
        header = pydicom.dcmread(stream, stop_before_pixels=True, force=bare)
    except (InvalidDicomError, *_MALFORMED) as error:
        if marked or getattr(error, "errno", None):  # left out in silence, it would shorten the series
            raise
        return None
    if "DirectoryRecordSequence" in header or (bare and not marked and "SOPClassUID" not in header):
        return None
    last: Any = header.get_item(max(header.keys())) if header else None
    ends_early = isinstance(last, RawDataElement) and len(last.value or b"") < last.length < 0xFFFFFFFF
    kind = str(header.get("SOPClassUID") or getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID"))
    of_no_series = pydicom.uid.UID(kind).type == "SOP Class" and not kind.startswith(_STORAGE)
    if of_no_series and "SeriesInstanceUID" not in header:  # a hanging protocol, a template
        return None
    if ends_early or (marked and any(k not in header for k in _NAMED)):
        raise ValueError("cut short")
    return Slice(header, stream.tell(), read)


def _choose(
    path: Path, found: Sequence[Slice], modality: str, wanted: str | None
) -> tuple[list[Slice], list[str]]:
    """The slices of the series that is meant, and what else lay there; scouts and reports do not count."""
    every: dict[tuple[str, str], list[Slice]] = {}
    for one in found:
        header = one.header
        localizer = "LOCALIZER" in [str(v).upper() for v in elements(header, "ImageType")]
        kind = "localizer" if localizer else coded(header, "Modality", MODALITIES)
        every.setdefault((kind, str(header.get("SeriesInstanceUID", ""))), []).append(one)
    fitting = {key: slices for key, slices in every.items() if key[0] == modality}
    if not fitting:
        have = sorted({coded(s.header, "Modality", MODALITIES) for s in found})
        raise InputError(
            f"{path}: {len(found)} DICOM files of modality {', '.join(have)}; expected a {modality} series"
        )
    meant = fitting
    if wanted is not None:
        meant = {
            key: slices
            for key, slices in fitting.items()
            if wanted in (key[1], str(slices[0].header.get("SeriesNumber", "")).strip())
        }
    elif modality == "PT":
        for use in (_is_volume, _is_corrected):
            meant = {key: slices for key, slices in meant.items() if use(slices[0].header)} or meant
    if len(meant) != 1:
        listed = "; ".join(map(_described, (meant or fitting).values()))
        count = len(meant or fitting)
        flag = "--series" if modality == "PT" else "--ct-series"
        many = "series" if wanted is None or not meant else f"series of number {wanted}"
        raise InputError(
            f"{path}: {count} {modality} {many}: {listed}; expected one: pick it by its number or UID "
            f"({flag}), or give its folder"
        )
    chosen = next(iter(meant))
    left = [f"{key[0]} {_described(slices)}" for key, slices in every.items() if key != chosen]
    return meant[chosen], sorted(left)


def _is_corrected(header: Dataset) -> bool:
    return header.get("Modality") != "PT" or "ATTN" in words(header, "CorrectedImage")


def _is_volume(header: Dataset) -> bool:
    """Not a projection (MIP) or a coloured picture, which some scanners store beside the images."""
    kinds = {*words(header, "SeriesType"), *words(header, "ImageType")}
    one_value = number(header.get("SamplesPerPixel")) in (None, 1.0)
    return one_value and not kinds & {"REPROJECTION", "MIP", "MAX_IP", "MIN_IP", "PROJECTION"}


def _described(slices: Sequence[Slice]) -> str:
    """A series by its number and size. Never by its description, which people write names into."""
    header = slices[0].header
    number = str(header.get("SeriesNumber", "?")).strip()
    return (
        f"number {number if number.isdigit() else '?'} with {len(slices)} slices"
        f"{'' if _is_volume(header) else ', projections or pictures'}"
        f"{'' if _is_corrected(header) else ' without attenuation correction'}"
    )


def _refuse_unusual(path: Path, headers: Sequence[Dataset]) -> None:
    first = headers[0]
    if without := sum("Rows" not in h or "Columns" not in h for h in headers):
        raise InputError(
            f"{path}: {without} of {len(headers)} files of the series hold no image or are cut short"
        )
    if any(int(h.get("NumberOfFrames") or 1) > 1 for h in headers):
        raise InputError(
            f"{path}: several frames without functional groups; expected an enhanced object or one file per "
            "slice: convert it"
        )
    if any(int(h.get("SamplesPerPixel") or 1) != 1 for h in headers):
        raise InputError(f"{path}: the pixels have colours; expected one value per pixel")
    keywords = ("SeriesType", "ImageType") if first.get("Modality") == "PT" else ("SeriesType",)
    kinds = {word for k in keywords for h in distinct(headers, k) for word in words(h, k)}
    unusual = sorted({"DYNAMIC", "GATED", "REPROJECTION", "MAX_IP", "MIN_IP"} & kinds)
    if unusual:
        raise InputError(
            f"{path}: a PET series of type {'/'.join(unusual)}; expected STATIC or WHOLE BODY images: which "
            "frames or gates to average is a choice to be made first"
        )
    _refuse_scale(path, headers)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        without = sum(len(elements(h, keyword)) == 0 for h in headers)
        if without:
            raise InputError(f"{path}: {without} of {len(headers)} slices have no {keyword}")
    for keyword in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        unlike = distinct(headers, keyword)
        values = {tuple(np.round(np.asarray(elements(h, keyword), float), 3)) for h in unlike}
        if len(values) > 1:
            raise InputError(
                f"{path}: {len(values)} different values of {keyword} in one series; expected one"
            )


def _refuse_scale(path: Path, headers: Sequence[Dataset]) -> None:
    """A CT may have no scale at all (its values are judged later); a PET has one in every slice."""
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        without = sum(len(elements(h, keyword)) == 0 for h in headers)
        needed = keyword == "RescaleSlope" and headers[0].get("Modality") == "PT"
        if without and (needed or without < len(headers)):
            raise InputError(
                f"{path}: {without} of {len(headers)} slices have no {keyword}; expected it in every slice: "
                "export the series again"
            )
    # A PET whose slice is empty may have a slope of 0, which changes nothing.
    if any(float(v) < 0 for h in headers for v in elements(h, "RescaleSlope")):
        raise InputError(f"{path}: a RescaleSlope below 0; expected a positive one: export the series again")


# Geometry


def _stack(path: Path, headers: Sequence[Dataset]) -> tuple[list[int], Grid, tuple[str, ...]]:
    """(order of the slices, grid, warnings). The step between slices is measured, so a tilt stays a tilt."""
    if len(headers) < 2:
        raise InputError(f"{path}: 1 slice; expected at least 2, the distance between slices is not known")
    first = headers[0]
    along_row, along_column = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(along_row, along_column)
    positions = np.array([h.ImagePositionPatient for h in headers], dtype=float)
    heights = positions @ normal
    order = [int(n) for n in np.argsort(heights, kind="stable")]
    positions, heights = positions[order], heights[order]
    step = (positions[-1] - positions[0]) / (len(headers) - 1)
    tolerance_mm = max(POSITION_MM, 0.03 * float(np.median(np.diff(heights))))
    _refuse_doubled(path, heights, tolerance_mm)
    off_mm = np.abs(positions - (positions[0] + np.arange(len(headers))[:, None] * step)).max()
    if off_mm > tolerance_mm:
        _refuse_uneven(path, heights, tolerance_mm)
        raise InputError(
            f"{path}: slices are shifted sideways by up to {off_mm:.2f} mm; expected a straight stack: two "
            "series are mixed"
        )
    between_rows, between_columns = (float(v) for v in first.PixelSpacing)
    lps_from_ijk = np.eye(4)
    lps_from_ijk[:3, 0] = along_row * between_columns
    lps_from_ijk[:3, 1] = along_column * between_rows
    lps_from_ijk[:3, 2] = step
    lps_from_ijk[:3, 3] = positions[0]
    shape = (int(first.Columns), int(first.Rows), len(headers))
    grid = checked_grid(path, shape, _RAS_FROM_LPS @ lps_from_ijk)
    said: tuple[str, ...] = ()
    if grid.shear_deg > SHEAR_DEG:
        said = (f"the slices are tilted by {grid.shear_deg:.2f} degrees (gantry tilt)",)
    return order, grid, said


def _refuse_doubled(path: Path, heights: npt.NDArray[np.float64], tolerance_mm: float) -> None:
    doubled = int((np.diff(heights) < tolerance_mm).sum())
    if doubled:
        raise InputError(
            f"{path}: {doubled} of {len(heights)} slices share their position with another (time frames, two "
            "reconstructions or copies); expected one slice per position"
        )


def _refuse_uneven(path: Path, heights: npt.NDArray[np.float64], tolerance_mm: float) -> None:
    """Raises for gaps that differ along the normal, naming the missing slices where they can be counted."""
    gaps = np.diff(heights)
    spacing = float(np.median(gaps))
    if (np.abs(gaps - spacing) <= tolerance_mm).all():
        return
    missing = gaps / spacing - 1
    if (np.abs(missing - np.round(missing)) * spacing <= tolerance_mm).all():
        raise InputError(
            f"{path}: {int(np.round(missing).sum())} slices are missing (a gap of {gaps.max():.2f} mm where "
            f"the spacing is {spacing:.2f} mm); export the series again"
        )
    raise InputError(
        f"{path}: slices are unevenly spaced, {gaps.min():.2f} to {gaps.max():.2f} mm; expected one spacing: "
        "slices are missing or two series are mixed"
    )
