"""DICOM series from a folder or a zip file: which files belong together, where they lie, what they hold.

* *header* : a file's data set without its pixels
* *lps*    : DICOM's patient coordinates (left, posterior, superior); everything leaves here in RAS
* *normal* : the direction across the slices, from ImageOrientationPatient

Geometry follows DICOM PS3.3 C.7.6.2.1.1: positions come from ImagePositionPatient and never from
SliceThickness, which is the thickness of a slice and not the way to the next.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from petbone.errors import InputError, ResourceError
from petbone.io.scan import Image
from petbone.volume import Grid

POSITION_MM = 0.1
"""A slice may be this far from its place in an even stack, or 3 % of the spacing if that is more.

Real tables jitter: the GE Discovery ST of the soft-tissue-sarcoma collection is 0.04 mm off between beds.
"""
SHEAR_DEG = 0.1
THREADS = 4

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NATIVE = {
    "1.2.840.10008.1.2": "<",  # implicit little endian
    "1.2.840.10008.1.2.1": "<",  # explicit little endian
    "1.2.840.10008.1.2.2": ">",  # explicit big endian
}
_IMPLICIT = "1.2.840.10008.1.2"


@dataclass(frozen=True, eq=False)
class Slice:
    """One file of a series: its header, where its pixels start, and how to get its bytes."""

    header: Dataset
    pixel_offset: int
    read: Callable[[], bytes]


@dataclass(frozen=True, eq=False)
class Series:
    """The slices of one series in order of position, and the grid that they make."""

    slices: tuple[Slice, ...]
    grid: Grid
    warnings: tuple[str, ...]

    @property
    def headers(self) -> list[Dataset]:
        """Headers in order of position."""
        return [s.header for s in self.slices]


def is_dicom(path: Path) -> bool:
    """True for a folder, a zip file, and a single DICOM file: what `find_series` is to look at."""
    if path.is_dir():
        return True
    with path.open("rb") as file:
        start = file.read(132)
    return start[:4] == b"PK\x03\x04" or start[128:132] == b"DICM"


def find_series(path: Path, modality: str) -> Series:
    """The one series of `modality` (CT or PT) in a folder, whatever its depth, or in a zip file.

    Raises InputError if there is none or more than one, and where slices are missing, doubled or uneven.
    """
    if path.is_dir():
        found = _headers_of_folder(path)
    elif zipfile.is_zipfile(path):
        found = _headers_of_zip(path)
    else:
        raise InputError(f"{path}: a single DICOM file; expected the folder (or zip file) of its series")
    if not found:
        raise InputError(f"{path}: no DICOM file inside; expected a {modality} series")
    slices = _choose(path, found, modality)
    _refuse_unusual(path, [s.header for s in slices])
    order, grid, said = _stack(path, [s.header for s in slices])
    return Series(tuple(slices[n] for n in order), grid, said)


# Finding


def _headers_of_folder(path: Path) -> list[Slice]:
    files = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
    with ThreadPoolExecutor(THREADS) as pool:
        return [s for s in pool.map(_header_of_file, files) if s is not None]


def _header_of_file(file: Path) -> Slice | None:
    with file.open("rb") as stream:
        return _header(stream, file.read_bytes)


def _headers_of_zip(path: Path) -> list[Slice]:
    try:
        archive = zipfile.ZipFile(path)
        names = sorted(i.filename for i in archive.infolist() if not i.is_dir())
        # Read again for the pixels: keeping every file would hold the series twice.
        found = [_header(io.BytesIO(archive.read(n)), lambda n=n: archive.read(n)) for n in names]  # type: ignore[misc]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise InputError(f"{path}: the zip file is damaged, encrypted or cut short ({error})") from None
    return [s for s in found if s is not None]


def _header(stream: Any, read: Callable[[], bytes]) -> Slice | None:
    """Header and pixel offset, or None for what is not DICOM. Files without preamble exist and are read."""
    start = stream.read(132)
    stream.seek(0)
    bare = start[:1] in (b"\x02", b"\x08") and start[1:2] == b"\0"
    if start[128:132] != b"DICM" and not bare:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that do not matter here
            header = pydicom.dcmread(stream, stop_before_pixels=True, force=bare)
    except (InvalidDicomError, EOFError, ValueError, NotImplementedError, KeyError, AttributeError):
        return None
    return Slice(header, stream.tell(), read)


def _choose(path: Path, found: Sequence[Slice], modality: str) -> list[Slice]:
    """The slices of the only series of the modality; scouts and reports do not count."""
    series: dict[str, list[Slice]] = {}
    for one in found:
        header = one.header
        localizer = "LOCALIZER" in [str(v).upper() for v in _many(header, "ImageType")]
        if header.get("Modality") == modality and not localizer and "Rows" in header:
            series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(one)
    if not series:
        have = sorted({str(s.header.get("Modality", "unknown")) for s in found})
        raise InputError(
            f"{path}: {len(found)} DICOM files of modality {', '.join(have)}; expected a {modality} series"
        )
    if len(series) > 1:
        raise InputError(
            f"{path}: {len(series)} {modality} series: {'; '.join(map(_described, series.values()))}; "
            "expected one: give the folder of the series that is meant"
        )
    return next(iter(series.values()))


def _described(slices: Sequence[Slice]) -> str:
    """A series by its number and size. Never by its description, which people write names into."""
    header = slices[0].header
    corrected = "ATTN" in _many(header, "CorrectedImage") if header.get("Modality") == "PT" else True
    return (
        f"number {header.get('SeriesNumber', '?')} with {len(slices)} slices"
        f"{'' if corrected else ' without attenuation correction'}"
    )


def _refuse_unusual(path: Path, headers: Sequence[Dataset]) -> None:
    first = headers[0]
    if any(int(h.get("NumberOfFrames") or 1) > 1 for h in headers):
        raise InputError(
            f"{path}: an enhanced (multi-frame) DICOM object; expected one file per slice: convert it to "
            "single-frame DICOM or to NIfTI"
        )
    if any(int(h.get("SamplesPerPixel") or 1) != 1 for h in headers):
        raise InputError(f"{path}: the pixels have colours; expected one value per pixel")
    kind = [str(v).upper() for v in _many(first, "SeriesType")]
    if {"DYNAMIC", "GATED", "REPROJECTION"} & set(kind):
        raise InputError(
            f"{path}: a PET series of type {'/'.join(kind)}; expected STATIC or WHOLE BODY images"
        )
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        without = sum(len(_many(h, keyword)) == 0 for h in headers)
        if without:
            raise InputError(f"{path}: {without} of {len(headers)} slices have no {keyword}")
    for keyword in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        values = {tuple(np.round(np.asarray(_many(h, keyword), float), 3)) for h in headers}
        if len(values) > 1:
            raise InputError(
                f"{path}: {len(values)} different values of {keyword} in one series; expected one"
            )


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
    try:
        grid = Grid((int(first.Columns), int(first.Rows), len(headers)), _RAS_FROM_LPS @ lps_from_ijk)
    except ValueError as error:
        raise InputError(f"{path}: the geometry of the slices makes no volume: {error}") from None
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


# Pixels


def read_image(path: Path, series: Series, whole_numbers: bool) -> Image:
    """Rescaled values of the series: each slice by its own slope and intercept (PET scales every slice).

    With `whole_numbers` int16 where every value is one and fits, otherwise float32. The hash is the SHA-256
    of the files' SHA-256 digests in order of position.
    """
    columns, rows, count = series.grid.shape
    whole = whole_numbers and all(_scale(h) == tuple(map(round, _scale(h))) for h in series.headers)
    try:
        data: npt.NDArray[Any] = np.empty((count, rows, columns), np.int16 if whole else np.float32)
    except MemoryError:
        raise ResourceError(f"{path}: {count} slices of {columns} x {rows} do not fit into memory") from None

    def fill(n: int) -> tuple[bytes, float, float]:
        raw = series.slices[n].read()
        slope, intercept = _scale(series.headers[n])
        values = _pixels(path, series.slices[n], raw)
        # float64 on the way, because slope x stored of a large integer does not fit into float32 exactly.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = values if (slope, intercept) == (1, 0) else values * slope + intercept
        low, high = float(scaled.min()), float(scaled.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(f"{path}: a slice holds values that are not finite after rescaling")
        if whole and (low < -32768 or high > 32767):
            raise _DoesNotFitError
        data[n] = scaled
        return hashlib.sha256(raw).digest(), low, high

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            done = list(pool.map(fill, range(count)))
    except _DoesNotFitError:
        return read_image(path, series, whole_numbers=False)
    return Image(
        data=data.T,
        grid=series.grid,
        low=min(low for _, low, _ in done),
        high=max(high for _, _, high in done),
        whole_numbers=whole,
        format="DICOM",
        sha256=hashlib.sha256(b"".join(digest for digest, _, _ in done)).hexdigest(),
        warnings=series.warnings,
    )


class _DoesNotFitError(Exception):
    """A rescaled value is outside int16."""


def _scale(header: Dataset) -> tuple[float, float]:
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)


def _pixels(path: Path, one: Slice, raw: bytes) -> npt.NDArray[Any]:
    """(rows, columns) stored values of one file; uncompressed files are not parsed a second time."""
    header = one.header
    rows, columns = int(header.Rows), int(header.Columns)
    bits, stored = int(header.BitsAllocated), int(header.get("BitsStored") or header.BitsAllocated)
    signed = int(header.get("PixelRepresentation") or 0)
    meta = getattr(header, "file_meta", Dataset())
    syntax = str(meta.get("TransferSyntaxUID", _IMPLICIT))
    if syntax not in _NATIVE or bits not in (8, 16, 32):
        return _decompressed(path, raw, (rows, columns))
    skip = one.pixel_offset + (8 if syntax == _IMPLICIT else 12)
    wanted = rows * columns * bits // 8
    if raw[one.pixel_offset : one.pixel_offset + 4] not in (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10"):
        raise InputError(f"{path}: a slice has no pixel data")
    if len(raw) < skip + wanted:
        raise InputError(f"{path}: a slice is cut short ({len(raw)} bytes of {skip + wanted}); copy it again")
    kind = np.dtype(f"{_NATIVE[syntax]}{'i' if signed else 'u'}{bits // 8}")
    values = np.frombuffer(raw, kind, rows * columns, skip).reshape(rows, columns)
    if signed and stored < bits:  # the sign is at bit `stored` - 1 and need not fill the rest
        return (values << (bits - stored)) >> (bits - stored)
    return values


def _decompressed(path: Path, raw: bytes, shape: tuple[int, int]) -> npt.NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(raw), force=True)
            values: npt.NDArray[Any] = dataset.pixel_array
        except Exception as error:  # whatever a decoder raises
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{path}: compressed pixels cannot be decoded ({first_line[:120]}); convert the series to "
                "uncompressed DICOM or to NIfTI"
            ) from None
    if values.shape != shape:
        raise InputError(f"{path}: a slice has shape {values.shape}; expected {shape}")
    return values


def _many(header: Dataset, keyword: str) -> list[Any]:
    """Value of an element as a list; empty when it is missing or empty."""
    value = header.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
