"""NRRD and MetaImage files, through SimpleITK."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from petbone.errors import InputError
from petbone.io.grids import checked_grid
from petbone.io.scan import Image


def read_itk(path: Path, dtypes: Sequence[type[np.generic]]) -> Image:
    """Image of an .nrrd, .nhdr, .mha or .mhd file in the first of `dtypes` that holds every value.

    These formats have no rescaling and always an orientation (LPS, turned to RAS here). Raises InputError for
    what SimpleITK cannot read, for other than three dimensions, and for values that are not finite.
    """
    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(f"{path}: cannot be read as {path.suffix[1:].upper()}; it may be damaged") from None
    dimensions, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dimensions != 3 or components != 1:
        raise InputError(
            f"{path}: {dimensions} dimensions with {components} values per voxel; expected 3 with one value"
        )
    values: Any = sitk.GetArrayFromImage(image).T  # SimpleITK counts axes backwards
    if values.dtype.kind == "f" and (bad := int(values.size - np.isfinite(values).sum())):
        raise InputError(f"{path}: {bad} of {values.size} voxels are not a number or infinite")
    low, high = float(values.min()), float(values.max())
    lps_from_ijk = np.eye(4)
    lps_from_ijk[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    lps_from_ijk[:3, 3] = image.GetOrigin()
    ras_from_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    grid = checked_grid(path, values.shape, ras_from_lps @ lps_from_ijk)
    for dtype in map(np.dtype, dtypes):
        if dtype.kind == "f" or _fits(values, low, high, dtype):
            break
    else:
        raise InputError(
            f"{path}: values from {low:g} to {high:g} are not all labels (whole numbers from 0 on)"
        )
    return Image(
        data=values.astype(dtype, copy=False),
        grid=grid,
        low=low,
        high=high,
        whole_numbers=values.dtype.kind in "iu",
        format=path.suffix[1:].upper(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _fits(values: Any, low: float, high: float, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    return whole and low >= limits.min and high <= limits.max
