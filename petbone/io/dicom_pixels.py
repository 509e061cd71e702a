"""The voxels of a DICOM series: every slice read once, hashed, and rescaled by its own slope and intercept.

Uncompressed pixels are taken from the bytes behind the header; compressed ones are left to pydicom and GDCM.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from petbone.errors import InputError, ResourceError
from petbone.io.dicom import THREADS, Series, Slice
from petbone.io.scan import Image

_NATIVE = {
    "1.2.840.10008.1.2": "<",  # implicit little endian
    "1.2.840.10008.1.2.1": "<",  # explicit little endian
    "1.2.840.10008.1.2.2": ">",  # explicit big endian
}
_IMPLICIT = "1.2.840.10008.1.2"


def read_image(path: Path, series: Series, whole_numbers: bool) -> Image:
    """Rescaled values of the series: each slice by its own slope and intercept (PET scales every slice).

    With `whole_numbers` int16 where every value is one and fits, otherwise float32. The hash is the SHA-256
    of the files' SHA-256 digests in order of position.
    """
    columns, rows, count = series.grid.shape
    whole = whole_numbers and all(_is_whole(h) for h in series.headers)
    try:
        data: npt.NDArray[Any] = np.empty((count, rows, columns), np.int16 if whole else np.float32)
    except MemoryError:
        raise ResourceError(f"{path}: {count} slices of {columns} x {rows} do not fit into memory") from None

    def fill(n: int) -> tuple[bytes, float, float]:
        """Write slice n into its place: (hash of its file, lowest, highest value)."""
        raw = series.slices[n].read()
        scaled = _rescaled(path, series.slices[n], raw)
        low, high = float(scaled.min()), float(scaled.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(f"{path}: a slice holds values that are not finite after rescaling")
        if whole and (low < -32768 or high > 32767):
            raise _DoesNotFitError
        data[n] = scaled
        # A file of several frames is hashed once.
        return b"" if series.slices[n].frame else hashlib.sha256(raw).digest(), low, high

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
        series_left=series.left,
    )


class _DoesNotFitError(Exception):
    """A rescaled value is outside int16."""


def _is_whole(header: Dataset) -> bool:
    return all(value.is_integer() for value in _scale(header))


def _scale(header: Dataset) -> tuple[float, float]:
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)


def _rescaled(path: Path, one: Slice, raw: bytes) -> npt.NDArray[Any]:
    """(rows, columns) values of one slice by its own slope and intercept."""
    slope, intercept = _scale(one.header)
    stored = _stored(path, one, raw)
    if slope == 0 and stored.any():
        raise InputError(
            f"{path}: a slice has RescaleSlope 0, but its pixels are not: export the series again"
        )
    # float64 on the way, because slope x stored of a large integer does not fit into float32 exactly.
    with np.errstate(over="ignore", invalid="ignore"):
        return stored if (slope, intercept) == (1, 0) else stored * slope + intercept


def _stored(path: Path, one: Slice, raw: bytes) -> npt.NDArray[Any]:
    """(rows, columns) stored values of one file; uncompressed files are not parsed a second time."""
    header = one.header
    rows, columns = int(header.Rows), int(header.Columns)
    bits, stored = int(header.BitsAllocated), int(header.get("BitsStored") or header.BitsAllocated)
    signed = int(header.get("PixelRepresentation") or 0)
    meta = getattr(header, "file_meta", Dataset())
    syntax = str(meta.get("TransferSyntaxUID", _IMPLICIT))
    if syntax not in _NATIVE or bits not in (8, 16, 32):
        return _decompressed(path, one, raw)
    wanted = rows * columns * bits // 8
    skip = one.pixel_offset + (8 if syntax == _IMPLICIT else 12) + one.frame * wanted
    if raw[one.pixel_offset : one.pixel_offset + 4] not in (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10"):
        raise InputError(f"{path}: a slice has no pixel data")
    if len(raw) < skip + wanted:
        raise InputError(f"{path}: a slice is cut short ({len(raw)} bytes of {skip + wanted}); copy it again")
    kind = np.dtype(f"{_NATIVE[syntax]}{'i' if signed else 'u'}{bits // 8}")
    values = np.frombuffer(raw, kind, rows * columns, skip).reshape(rows, columns)
    if signed and stored < bits:  # the sign is at bit `stored` - 1 and need not fill the rest
        values = (values << (bits - stored)) >> (bits - stored)
    return values


def _decompressed(path: Path, one: Slice, raw: bytes) -> npt.NDArray[Any]:
    """(rows, columns) stored values of a compressed file, by pydicom or, if it has no decoder, GDCM."""
    whole = pydicom.dcmread(io.BytesIO(raw), force=True)
    values: npt.NDArray[Any]
    try:
        values = pixel_array(whole, index=one.frame)
    except Exception:  # whatever a decoder raises
        values = _decompressed_by_gdcm(path, whole, one.frame)
    shape = (int(one.header.Rows), int(one.header.Columns))
    if values.shape != shape:
        raise InputError(f"{path}: a slice has shape {values.shape}; expected {shape}")
    return values


def _decompressed_by_gdcm(path: Path, whole: Dataset, frame: int) -> npt.NDArray[Any]:
    """Stored values through SimpleITK, which knows JPEG Lossless, reads only files, and rescales.

    It is given the pixels and what describes them alone, so that it finds no scale of its own to apply.
    """
    import SimpleITK as sitk

    bare = Dataset()
    bare.file_meta = whole.file_meta
    bare.update({e.tag: e for e in whole if e.tag.group in (0x0028, 0x7FE0) or e.keyword == "SOPClassUID"})
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        bare.pop(keyword, None)
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        bare.save_as(file)
        file.flush()
        try:
            values: npt.NDArray[Any] = sitk.GetArrayFromImage(
                sitk.ReadImage(file.name, imageIO="GDCMImageIO")
            )
        except RuntimeError:
            raise InputError(
                f"{path}: compressed pixels cannot be decoded; expected uncompressed DICOM: convert it"
            ) from None
    return values[frame] if values.ndim == 3 else values
