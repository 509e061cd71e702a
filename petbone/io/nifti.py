"""NIfTI files: read once, hashed and unpacked on the way, and written so that equal volumes give equal bytes.

* *stored* : what lies in the file, before scl_slope and scl_inter
* *slab*   : a run of voxels small enough for the processor's cache; the file is decoded slab by slab, so that
  memory holds one array and not two

The header is nibabel's business; the bytes are not, because reading through nibabel unpacks with zlib and
makes a float64 copy of everything (figures: benchmarks/reading.py).
"""

from __future__ import annotations

import hashlib
import html
import io
import os
import re
import zlib
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib

from petbone.errors import InputError, ResourceError
from petbone.io import memory
from petbone.io.grids import checked_grid
from petbone.io.scan import Image
from petbone.volume import Grid, Unit, Volume

SLAB_VOXELS = 1 << 20
AGREE_MM = 0.1
DISAGREE_MM = 1.0
SHEAR_DEG = 0.1
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI xyzt_units: unknown, metre, millimetre, micron


def read_nifti(path: Path, dtypes: Sequence[type[np.generic]], order: Literal["F", "C"] = "F") -> Image:
    """Image of a .nii or .nii.gz file in the first of `dtypes` that holds every value exactly.

    A float type as the last resort takes any value, rounded to its precision. `order` in memory: that of the
    file, or numpy's own, in which flat indices count. Raises InputError for whatever
    is not a three-dimensional NIfTI with a usable orientation and finite values.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); expected a NIfTI image")
    with path.open("rb") as raw:
        hashed = _Hashed(raw)
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = igzip.open(hashed) if packed else hashed  # type: ignore[no-untyped-call]
        try:
            header, label_names = _read_header(path, stream)
            _refuse_impossible_size(path, header, path.stat().st_size, packed)
            grid, warnings = _grid(path, header)
            voxels = _decode(path, stream, header, dtypes, order)
            _drain(stream)
        except (EOFError, OSError, zlib.error, igzip_lib.IsalError) as error:  # type: ignore[misc]
            raise InputError(
                f"{path}: the compressed data is damaged or cut short ({error}); copy the file again"
            ) from None
        _drain(hashed)
    return Image(
        data=voxels.data.reshape(grid.shape, order=order),
        grid=grid,
        low=voxels.low,
        high=voxels.high,
        whole_numbers=voxels.whole_numbers,
        format="NIfTI",
        sha256=hashed.sha256.hexdigest(),
        warnings=warnings,
        label_names=label_names,
    )


class _Hashed(io.RawIOBase):
    """A file whose bytes pass through SHA-256 on their way to the reader."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self.raw.readinto(buffer)  # type: ignore[attr-defined]
        self.sha256.update(memoryview(buffer)[:count])
        return count


def _drain(stream: Any) -> None:
    """Reads to the end, so that the checksum is tested and the hash covers the whole file."""
    while stream.read(1 << 20):
        pass


def _exactly(stream: Any, count: int) -> bytes:
    parts = []
    while count and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _read_header(path: Path, stream: Any) -> tuple[Any, dict[int, str]]:
    start = _exactly(stream, 348)
    size = {start[:4]} & {b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"}
    if len(start) < 348 or not size:
        raise InputError(f"{path}: not a NIfTI image (no NIfTI header at its start)")
    two = size <= {b"\x1c\x02\0\0", b"\0\0\x02\x1c"}
    kind: Any = nib.Nifti2Header if two else nib.Nifti1Header
    start += _exactly(stream, 540 - 348) if two else b""
    try:
        header = kind(start, check=False)
    except Exception:  # nibabel raises several kinds for a header that cannot be one
        raise InputError(f"{path}: the NIfTI header is damaged") from None
    magic = bytes(header["magic"].tobytes()).split(b"\0")[0].rstrip(b"\r\n\x1a")
    if magic not in (b"n+1", b"n+2"):
        found = "half of an .hdr/.img pair" if magic in (b"ni1", b"ni2") else "an Analyze 7.5 header"
        raise InputError(f"{path}: {found}; expected a single-file NIfTI (.nii or .nii.gz): convert it")
    gap = int(header["vox_offset"]) - len(start)
    if not 0 <= gap <= 1 << 26:
        raise InputError(f"{path}: the NIfTI header puts the voxels at byte {float(header['vox_offset']):g}")
    return header, _label_names(_exactly(stream, gap))


def _label_names(extensions: bytes) -> dict[int, str]:
    """Names of labels that some tools (TotalSegmentator among them) store in the header as Caret XML."""
    if b"<LabelTable>" not in extensions:
        return {}
    pattern = re.compile(r'<Label\s+Key="(\d+)"[^>]*>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))\s*</Label>')
    found = pattern.findall(extensions.decode("utf-8", "replace"))
    return {int(key): (cdata or html.unescape(text)).strip() for key, cdata, text in found}


def _shape(path: Path, header: Any) -> tuple[int, int, int]:
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise InputError(f"{path}: the NIfTI header says {count} dimensions")
    shape = [int(n) for n in header["dim"][1 : count + 1]]
    if len(shape) < 3 or min(shape) < 1:
        raise InputError(f"{path}: shape {'x'.join(map(str, shape))}; expected a three-dimensional image")
    if max(shape[3:], default=1) > 1:
        frames = int(np.prod(shape[3:]))
        raise InputError(
            f"{path}: shape {'x'.join(map(str, shape))}, that is {frames} frames (0 to {frames - 1}); "
            "expected one static volume: extract or average the frames wanted"
        )
    return shape[0], shape[1], shape[2]


def _refuse_impossible_size(path: Path, header: Any, file_bytes: int, packed: bool) -> None:
    """A damaged header may ask for terabytes; deflate cannot expand more than 1032-fold."""
    needed = int(np.prod(_shape(path, header), dtype=object)) * header["bitpix"].item() // 8
    if needed > file_bytes * (1032 if packed else 1):
        raise InputError(
            f"{path}: the header announces {needed} bytes of voxels but the file has {file_bytes}"
            f"{' (compressed)' if packed else ''}; it is cut short: copy it again"
        )


def _grid(path: Path, header: Any) -> tuple[Grid, tuple[str, ...]]:
    """Grid from sform or qform, which must not contradict each other, and what there is to say about it."""
    shape = _shape(path, header)
    warnings: list[str] = []
    scale = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if scale is None:
        raise InputError(f"{path}: unknown unit of length {int(header['xyzt_units']) & 7} in xyzt_units")
    to_mm = np.diag([scale, scale, scale, 1.0])
    try:
        sform = header.get_sform(coded=True)[0]
        qform = header.get_qform(coded=True)[0]
    except Exception as error:  # nibabel: HeaderDataError for an impossible quaternion
        raise InputError(f"{path}: the orientation in the header is damaged ({error})") from None
    if sform is None and qform is None:
        raise InputError(
            f"{path}: no orientation (sform and qform codes are both 0), left and right would be a guess; "
            "convert the scan again from DICOM, or set the sform if you know it"
        )
    matrices = [to_mm @ m for m in (sform, qform) if m is not None]
    grids = [checked_grid(path, shape, matrix) for matrix in matrices]
    grid = grids[0]
    if len(grids) == 2:
        apart_mm = float(np.linalg.norm(grids[0].corners_mm() - grids[1].corners_mm(), axis=1).max())
        if apart_mm > DISAGREE_MM:
            raise InputError(
                f"{path}: sform and qform disagree by {apart_mm:.1f} mm, one of them is wrong; "
                "find out which and set both to it"
            )
        if apart_mm > AGREE_MM:
            warnings.append(f"sform and qform disagree by {apart_mm:.2f} mm; the sform is used")
    if scale != 1:
        warnings.append(f"the header gives lengths in units of {scale:g} mm; they were converted")
    if grid.shear_deg > SHEAR_DEG:
        warnings.append(f"the axes are {grid.shear_deg:.2f} degrees off right angles (gantry tilt)")
    return grid, tuple(warnings)


@dataclass
class _Voxels:
    """Voxels of a file on their way to memory, in the `order` of the file or in numpy's own."""

    shape: tuple[int, int, int]
    order: Literal["F", "C"]
    data: npt.NDArray[Any]  # flat
    is_map: bool  # of labels, in memory that takes none for background
    low: float = float("inf")
    high: float = float("-inf")
    whole_numbers: bool = True

    @property
    def slab_voxels(self) -> int:
        plane = self.shape[0] * self.shape[1]
        return SLAB_VOXELS if self.order == "F" else max(1, SLAB_VOXELS // plane) * plane

    def holds_as_stored(self, stored: _Stored) -> bool:
        """Whether the file can be unpacked to where its voxels stay."""
        return self.order == "F" and not self.is_map and stored.plain and self.data.dtype == stored.dtype

    def put(self, start: int, slab: npt.NDArray[Any]) -> None:
        """Voxels from the file's `start` on."""
        place = self.data[start : start + slab.size]
        if self.order == "C":
            plane = self.shape[0] * self.shape[1]
            planes = slice(start // plane, (start + slab.size) // plane)
            turned = slab.reshape((*self.shape[:2], -1), order="F")
            self.data.reshape(self.shape)[:, :, planes] = turned
        elif self.is_map:
            memory.put(slab.astype(np.uint8, copy=False), place)
        elif not np.shares_memory(slab, self.data):
            place[...] = slab

    def widen(self, path: Path, start: int, dtype: np.dtype[Any]) -> None:
        """Another type for all, those before `start` included."""
        wider = memory.empty(path, self.data.size, dtype)
        done = slice(start if self.order == "F" else self.data.size)
        wider[done] = self.data[done]
        self.data, self.is_map = wider, False


@dataclass(frozen=True)
class _Stored:
    """How voxels lie in the file."""

    dtype: np.dtype[Any]
    slope: float
    inter: float
    whole_scale: bool = field(init=False)

    def __post_init__(self) -> None:
        whole = all(float(v).is_integer() and abs(v) < 2**31 for v in (self.slope, self.inter))
        object.__setattr__(self, "whole_scale", whole)

    @property
    def plain(self) -> bool:
        return self.slope == 1 and self.inter == 0

    def values(self, slab: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Rescaled values: integers where storage and scale are, else float64."""
        if self.plain:
            return slab
        if self.whole_scale and np.issubdtype(self.dtype, np.integer) and self.dtype.itemsize <= 4:
            return slab.astype(np.int64) * int(self.slope) + int(self.inter)
        return slab.astype(np.float64) * self.slope + self.inter


def _stored(path: Path, header: Any) -> _Stored:
    try:
        dtype = header.get_data_dtype()
    except Exception:  # nibabel: HeaderDataError for an unknown code
        raise InputError(f"{path}: unknown data type code {int(header['datatype'])}") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path}: voxels of type {dtype}; expected integers or real numbers")
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:  # NIfTI: a slope of 0 means that there is no scaling
        slope, inter = 1.0, 0.0
    return _Stored(dtype, slope, inter if np.isfinite(inter) else 0.0)


def _decode(
    path: Path, stream: Any, header: Any, dtypes: Sequence[type[np.generic]], order: Literal["F", "C"]
) -> _Voxels:
    """All voxels, flat, in the first of `dtypes` that holds them; widens when a slab does not fit."""
    stored = _stored(path, header)
    shape = _shape(path, header)
    total = int(np.prod(shape))
    choices = [np.dtype(t) for t in dtypes]
    is_map = choices[0] == np.uint8 and order == "F"
    data = memory.empty_map(path, total) if is_map else memory.empty(path, total, choices[0])
    out = _Voxels(shape, order, data, is_map)
    out.whole_numbers = stored.dtype.kind in "iu" and stored.whole_scale
    not_finite = 0
    with closing(_slabs(path, stream, stored, out)) as slabs:
        for start, slab in slabs:
            if slab.dtype.kind == "f" and (bad := int(slab.size - np.isfinite(slab).sum())):
                not_finite += bad
                continue
            low, high = slab.min(), slab.max()
            out.low, out.high = min(out.low, float(low)), max(out.high, float(high))
            while not _holds(choices[0], slab, float(low), float(high)):
                if len(choices) == 1:
                    raise InputError(f"{path}: {_misfit(choices[0], slab, float(low), float(high))}")
                choices.pop(0)
                out.widen(path, start, choices[0])
            out.put(start, slab)
    if not_finite:
        raise InputError(
            f"{path}: {not_finite} of {total} voxels are not a number or infinite; "
            "expected finite values everywhere: find out where they come from before replacing them"
        )
    return out


def _slabs(
    path: Path, stream: Any, stored: _Stored, out: _Voxels
) -> Generator[tuple[int, npt.NDArray[Any]], None, None]:
    """(index of the first voxel, rescaled values) of every slab, in place where `holds_as_stored`."""
    total, size = out.data.size, out.slab_voxels
    buffer = np.empty(min(size, total), stored.dtype)
    fresh = out.data if out.holds_as_stored(stored) else out.data[:0]
    touched = 0
    with closing(memory.touched_ahead(fresh)) as ahead:
        for start in range(0, total, size):
            count = min(size, total - start)
            slab = out.data[start : start + count] if out.holds_as_stored(stored) else buffer[:count]
            while touched < min(start + count, fresh.size):
                touched = next(ahead)
            _fill(path, stream, slab, start, total)
            yield start, stored.values(slab)


def _fill(path: Path, stream: Any, slab: npt.NDArray[Any], start: int, total: int) -> None:
    """The file's voxels from `start` on. Raises InputError where the file ends before `slab` is full."""
    bytes_wanted = memoryview(cast("Any", slab.view(np.uint8)))
    filled = 0
    while filled < len(bytes_wanted):
        got = stream.readinto(bytes_wanted[filled:])
        if not got:
            have = start * slab.itemsize + filled
            raise InputError(
                f"{path}: the voxels end after {have} of {total * slab.itemsize} bytes; "
                "the file is cut short: copy it again"
            )
        filled += got


def _holds(dtype: np.dtype[Any], slab: npt.NDArray[Any], low: float, high: float) -> bool:
    if slab.dtype == dtype:
        return True
    smallest, largest = _limits(dtype)
    if low < smallest or high > largest:
        return False
    return dtype.kind == "f" or slab.dtype.kind != "f" or bool((slab == np.rint(slab)).all())


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def _misfit(dtype: np.dtype[Any], slab: npt.NDArray[Any], low: float, high: float) -> str:
    smallest, largest = _limits(dtype)
    if low < smallest or high > largest:
        return f"values from {low:g} to {high:g}; expected {smallest:g} to {largest:g}"
    example = slab[slab != np.rint(slab)][0]
    return f"the value {example:g} is not a whole number; expected a label map"


def write_nifti(volume: Volume, path: Path, compression: int = 1) -> None:
    """Writes `volume` as .nii or .nii.gz (by the name), whole or not at all.

    Labels become uint8 (uint16 above 255), HU int16 where it was, everything else float32. sform and qform
    are both set, unless the axes are not at right angles, which only an sform can say. No time, no file name,
    no description: equal volumes give equal bytes, but for one .gz in some ten thousand, which isal packs
    otherwise (docs/state.md). `compression` is isal's level, 0 (fast) to 3 (small).
    """
    data = volume.data.astype(_dtype_on_disk(volume), copy=False)
    header = _header(volume, data.dtype)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as raw:
            if path.name.endswith(".gz"):
                # The path of a GzipFile opened on a file object would be stored inside, hence the empty name.
                stream: Any = igzip.IGzipFile("", "wb", compression, raw, mtime=0)  # type: ignore[no-untyped-call]
                with stream:
                    _write_body(stream, header, data)
            else:
                _write_body(raw, header, data)
        os.replace(part, path)  # noqa: PTH105
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)


def _dtype_on_disk(volume: Volume) -> np.dtype[Any]:
    if volume.unit is Unit.LABEL:
        high = int(volume.data.max())
        if int(volume.data.min()) < 0 or high > 65535:
            raise ValueError(f"labels on disk are 0 to 65535, got {int(volume.data.min())} to {high}")
        return np.dtype(np.uint8 if high <= 255 else np.uint16)
    if volume.unit is Unit.HU and volume.data.dtype == np.int16:
        return np.dtype(np.int16)
    return np.dtype(np.float32)


def _header(volume: Volume, dtype: np.dtype[Any]) -> bytes:
    header: Any = nib.Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    header.set_data_dtype(dtype)
    header.set_data_shape(volume.grid.shape)
    matrix = volume.grid.mm_from_ijk
    header.set_sform(matrix, code="scanner")
    qform_code = "scanner" if volume.grid.shear_deg < 1e-3 else "unknown"
    header.set_qform(matrix, code=qform_code, strip_shears=True)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 352
    if volume.unit is Unit.LABEL:
        header["intent_code"] = 1002  # NIFTI_INTENT_LABEL
    return bytes(header.binaryblock) + b"\0\0\0\0"


def _write_body(stream: Any, header: bytes, data: npt.NDArray[Any]) -> None:
    stream.write(header)
    thick = max(1, SLAB_VOXELS // max(1, data.shape[0] * data.shape[1]))
    turned = data.T
    slab = np.empty((thick, *turned.shape[1:]), data.dtype.newbyteorder("<"))
    for k in range(0, len(turned), thick):
        part = slab[: len(turned) - k]
        part[...] = turned[k : k + thick]
        stream.write(part.data)
