"""Writes a small DICOM series of one value, header as told: what the self-test reads back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

SHAPE = (4, 5, 4)  # columns, rows, slices
SPACING_MM = (2.0, 3.0, 4.0)
STORED = 1000
Private = tuple[int, int, str, str, str]
"""Group, offset in the block, creator, value representation, value."""


def write_series(
    folder: Path,
    header: Mapping[str, Any],
    injection: Mapping[str, Any],
    private: Sequence[Private] = (),
    slices: Mapping[str, Sequence[Any]] | None = None,
    stored: npt.NDArray[Any] | None = None,
) -> None:
    """A PET series of `stored` (i, j, k) 16-bit integers, by default `SHAPE` voxels that all hold `STORED`.

    `slices` has values that differ from one to the next. An element whose value is None is left out;
    RadionuclideCode is the meaning of the nuclide's code.
    """
    folder.mkdir(parents=True)
    series = generate_uid()
    voxels = np.full(SHAPE, STORED, np.uint16) if stored is None else stored
    for k in range(voxels.shape[2]):
        one = dict(header) | {keyword: values[k] for keyword, values in (slices or {}).items()}
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SOPClassUID = PositronEmissionTomographyImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.Modality = series, 1, "PT"
        for keyword, value in one.items():
            if value is not None:
                setattr(dataset, keyword, value)
        dataset.RadiopharmaceuticalInformationSequence = DicomSequence([_injection(injection)])
        for group, offset, creator, kind, value in private:
            dataset.private_block(group, creator, create=True).add_new(offset, kind, value)
        dataset.Columns, dataset.Rows = voxels.shape[:2]
        dataset.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [10.0, -20.0, 30.0 + SPACING_MM[2] * k]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, int(voxels.dtype.kind == "i")
        dataset.PixelData = np.ascontiguousarray(voxels[:, :, k].T).tobytes()
        dataset.save_as(folder / f"{k}.dcm", enforce_file_format=True)


def _injection(fields: Mapping[str, Any]) -> Dataset:
    item = Dataset()
    for keyword, value in fields.items():
        if keyword == "RadionuclideCode" and value is not None:
            code = Dataset()
            code.CodeMeaning = value
            item.RadionuclideCodeSequence = DicomSequence([code])
        elif value is not None:
            setattr(item, keyword, value)
    return item
