"""Multi-frame DICOM: objects that highdicom converted, and objects born enhanced, against single slices."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage, LegacyConvertedEnhancedPETImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from petbone.io import read_ct, read_pet
from test_io_dicom import FACTOR, SHAPE, pet_series, refused, write

FRAMES = SHAPE[2]
STORED = np.random.default_rng(4).integers(0, 20000, SHAPE).astype(np.uint16)


def converted(folder: Path, kind: type, file: Path) -> Path:
    """One multi-frame file of a series of single slices, by highdicom."""
    sets = []
    for n, path in enumerate(sorted(folder.iterdir())):
        one = pydicom.dcmread(path)
        modality = "1.2.840.10008.5.1.4.1.1.128" if one.Modality == "PT" else "1.2.840.10008.5.1.4.1.1.2"
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = modality
        one.StudyInstanceUID, one.FrameOfReferenceUID, one.InstanceNumber = "1.2.3", "1.2.4", n + 1
        for keyword in ("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "Manufacturer"):
            if keyword not in one:
                setattr(one, keyword, "")
        for keyword in ("PositionReferenceIndicator", "Laterality", "PatientSex"):
            if keyword not in one:
                setattr(one, keyword, "")
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.StudyDate, one.ContentDate, one.ContentTime = "20240531", "20240531", "110000"
        sets.append(one)
    kind(sets, generate_uid(), 1, generate_uid(), 1).save_as(file)
    return file


def test_converted_ct_is_its_slices(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct", {"RescaleIntercept": -24})
    ours = read_ct(converted(folder, LegacyConvertedEnhancedCTImage, tmp_path / "enhanced.dcm")).volume
    theirs = read_ct(folder).volume
    assert np.array_equal(ours.data, theirs.data)
    assert ours.grid.same_as(theirs.grid)


def test_converted_pet_is_its_slices(tmp_path: Path) -> None:
    """A slope for every slice, and all that SUV needs, come through the conversion."""
    folder = pet_series(tmp_path, RescaleSlope=[0.5, 1.5, 2.5, 3.5])
    ours = read_pet(converted(folder, LegacyConvertedEnhancedPETImage, tmp_path / "enhanced.dcm"))
    theirs = read_pet(folder)
    assert ours.suv is not None
    assert theirs.suv is not None
    assert ours.suv.factor == theirs.suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert np.array_equal(ours.volume.data, theirs.volume.data)
    assert ours.volume.grid.same_as(theirs.volume.grid)
    assert len(ours.source["sha256"]) == 64


def item(**fields: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in fields.items():
        setattr(dataset, keyword, value)
    return dataset


def mapping(code: str, slope: float) -> Dataset:
    unit = item(CodingSchemeDesignator="UCUM", CodeMeaning=code)
    setattr(unit, "CodeValue" if len(code) <= 16 else "LongCodeValue", code)  # PS3.3 8.1
    return item(
        RealWorldValueSlope=slope, RealWorldValueIntercept=0.0, MeasurementUnitsCodeSequence=Sequence([unit])
    )


def born(
    file: Path, units: tuple[str, ...] = ("Bq/ml",), change: Callable[[Dataset], None] | None = None
) -> Path:
    """An enhanced PET as PS3.3 A.56 has it, frames in reverse order; slope of a frame 1 + its slice."""
    whole = Dataset()
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.130"
    whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    whole.SOPClassUID, whole.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.130", generate_uid()
    whole.SeriesInstanceUID, whole.SeriesNumber, whole.Modality = generate_uid(), 3, "PT"
    whole.PatientWeight = 80
    whole.AttenuationCorrected, whole.DecayCorrected = "YES", "YES"
    whole.DecayCorrectionDateTime = "20240531110000"
    whole.RadiopharmaceuticalInformationSequence = Sequence(
        [
            item(
                RadionuclideTotalDose=200e6,
                RadionuclideHalfLife=6586.2,
                RadiopharmaceuticalStartDateTime="20240531100000",
            )
        ]
    )
    plane = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    measures = item(PixelSpacing=[2.0, 1.5], SliceThickness=99)
    shared = item(PlaneOrientationSequence=Sequence([plane]), PixelMeasuresSequence=Sequence([measures]))
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for k in reversed(range(FRAMES)):
        content = item(FrameAcquisitionDateTime="20240531110500", FrameAcquisitionDuration=120000.0)
        place = item(ImagePositionPatient=[-12.0, 34.0, 560.0 + 3 * k])
        groups.append(
            item(
                FrameContentSequence=Sequence([content]),
                PlanePositionSequence=Sequence([place]),
                RealWorldValueMappingSequence=Sequence([mapping(code, 1.0 + k) for code in units]),
            )
        )
    whole.PerFrameFunctionalGroupsSequence = Sequence(groups)
    whole.NumberOfFrames = FRAMES
    whole.Columns, whole.Rows = SHAPE[:2]
    whole.SamplesPerPixel, whole.PhotometricInterpretation = 1, "MONOCHROME2"
    whole.BitsAllocated = whole.BitsStored = 16
    whole.HighBit, whole.PixelRepresentation = 15, 0
    whole.PixelData = np.ascontiguousarray(STORED.T[::-1]).tobytes()
    if change:
        change(whole)
    whole.save_as(file, enforce_file_format=True)
    return file


@pytest.mark.parametrize("compressed", [False, True])
def test_born_enhanced_pet(tmp_path: Path, compressed: bool) -> None:
    change = (lambda whole: whole.compress(RLELossless)) if compressed else None
    born(tmp_path / "pet.dcm", ("1", "Bq/ml"), change)
    for path in (tmp_path, tmp_path / "pet.dcm"):
        scan = read_pet(path)
        assert scan.suv is not None
        assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)
        assert scan.source["suv"]["tags"]["scan start from"] == "DecayCorrectionDateTime"
        assert np.allclose(scan.volume.data, STORED * (1.0 + np.arange(FRAMES)) * FACTOR, rtol=1e-6)
        assert scan.volume.grid.mm([0, 0, 0]) == pytest.approx([12, -34, 560])
        assert scan.volume.grid.spacing_mm == pytest.approx([1.5, 2.0, 3.0])


@pytest.mark.parametrize(("unit", "scale"), [("kBq/ml", 1e3), ("kBq/cm3", 1e3), ("Bq/cm3", 1.0)])
def test_activity_in_other_units(tmp_path: Path, unit: str, scale: float) -> None:
    scan = read_pet(born(tmp_path / "pet.dcm", (unit,)))
    assert np.allclose(scan.volume.data, STORED * (1.0 + np.arange(FRAMES)) * FACTOR * scale, rtol=1e-6)


@pytest.mark.parametrize("unit", ["MBq/ml", "mBq/ml", "{counts}"])
def test_units_that_are_not_read(tmp_path: Path, unit: str) -> None:
    assert "have no RescaleSlope" in refused(lambda: read_pet(born(tmp_path / "pet.dcm", (unit,))))


def test_only_enhanced_objects_are_asked_for_their_moment(tmp_path: Path) -> None:
    scan = read_pet(pet_series(tmp_path, DecayCorrectionDateTime="20240531120000"))
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)


def test_born_enhanced_in_suv(tmp_path: Path) -> None:
    scan = read_pet(born(tmp_path / "pet.dcm", ("{SUVbw}g/ml",)))
    assert scan.suv is not None
    assert scan.suv.factor == 1.0
    assert np.allclose(scan.volume.data, STORED * (1.0 + np.arange(FRAMES)), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("StandardizedUptakeValueLeanBodyMassJames", 80 / (1.07 * 80 - 148 * (80 / 180) ** 2)),
        ("StandardizedUptakeValueLeanBodyMassJames128Multiplier", 80 / (1.07 * 80 - 148 * (80 / 180) ** 2)),
        ("StandardizedUptakeValueLeanBodyMassJanma", (8780 + 244 * 80 / 1.8**2) / 9270),
        ("StandardizedUptakeValueIdealBodyWeight", 80 / (45.5 + 0.91 * 28)),
        ("StandardizedUptakeValueBodySurfaceArea", 80e3 / (71.84 * 180**0.725 * 80**0.425)),
    ],
)
def test_born_enhanced_in_suv_of_another_type(tmp_path: Path, name: str, factor: float) -> None:
    """Codes as pydicom has them from PS3.16 CID 85, and with the annotation before the unit."""

    def change(whole: Dataset) -> None:
        whole.PatientSize, whole.PatientSex = 1.8, "F"

    code = getattr(codes.UCUM, name).value
    unit, note = code[: code.index("{")], code[code.index("{") :]
    for n, written in enumerate((code, note + unit)):
        scan = read_pet(born(tmp_path / f"{n}.dcm", (written,), change))
        assert scan.suv is not None
        assert scan.suv.factor == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize("zone", ["", "+0900"])
def test_born_enhanced_with_offsets_from_utc(tmp_path: Path, zone: str) -> None:
    """Both moments have an offset, each its own: they are compared in UTC, whatever the header's zone."""

    def change(whole: Dataset) -> None:
        whole.DecayCorrectionDateTime = "20240531110000+0200"
        whole.RadiopharmaceuticalInformationSequence[
            0
        ].RadiopharmaceuticalStartDateTime = "20240531080000+0000"
        if zone:
            whole.TimezoneOffsetFromUTC = zone

    scan = read_pet(born(tmp_path / "pet.dcm", change=change))
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)


def test_born_enhanced_without_decay_correction(tmp_path: Path) -> None:
    def change(whole: Dataset) -> None:
        whole.DecayCorrected = "NO"
        del whole.DecayCorrectionDateTime

    scan = read_pet(born(tmp_path / "pet.dcm", change=change))
    per_s = np.log(2) / 6586.2
    seen = np.exp(-per_s * 3900) * (1 - np.exp(-per_s * 120)) / (per_s * 120)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(80e3 / 200e6 / seen, rel=1e-9)


def test_born_enhanced_with_the_moment_of_every_frame(tmp_path: Path) -> None:
    """FrameReferenceDateTime is the moment of the mean count rate: no length of a frame enters (IBSI)."""

    def change(whole: Dataset) -> None:
        whole.DecayCorrected = "NO"
        del whole.DecayCorrectionDateTime
        for n, group in enumerate(whole.PerFrameFunctionalGroupsSequence):  # in reverse order of position
            group.FrameContentSequence[0].FrameReferenceDateTime = f"202405311{FRAMES - 1 - n}0000"

    scan = read_pet(born(tmp_path / "pet.dcm", change=change))
    hours = np.arange(FRAMES)
    factors = 80e3 / 200e6 * 2 ** (hours * 3600 / 6586.2)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(factors[0], rel=1e-9)
    assert np.allclose(scan.volume.data, STORED * (1.0 + np.arange(FRAMES)) * factors, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda whole: setattr(whole, "NumberOfFrames", 3), "a header is malformed (ValueError)"),
        (lambda whole: setattr(whole, "AttenuationCorrected", "NO"), "lacks ATTN"),
        (lambda whole: setattr(whole, "PixelData", whole.PixelData[:-2]), "cut short"),
        (lambda whole: delattr(whole, "PatientWeight"), "PatientWeight (--weight-kg)"),
    ],
)
def test_enhanced_that_cannot_be_used(tmp_path: Path, change: Callable[[Dataset], None], said: str) -> None:
    assert said in refused(lambda: read_pet(born(tmp_path / "pet.dcm", change=change)))


@pytest.mark.parametrize(
    ("flag", "moment", "said"),
    [
        ("yes", "20240531110000", ""),
        (" YES", "20240531110000", ""),
        ("YES", "", "DecayCorrection missing"),
        ("MAYBE", "20240531110000", "lacks DECY"),
    ],
)
def test_flag_of_decay_correction(tmp_path: Path, flag: str, moment: str, said: str) -> None:
    """The moment stands in an element of its own; without it nobody knows which it is."""

    def change(whole: Dataset) -> None:
        whole.DecayCorrected, whole.DecayCorrectionDateTime, whole.SeriesTime = flag, moment, "110400"
        whole.Units, whole.CorrectedImage, whole.DecayCorrection = "", None, ""  # empty is none

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom minds small letters
        file = born(tmp_path / "pet.dcm", change=change)
    if said:
        assert said in refused(lambda: read_pet(file))
    else:
        scan = read_pet(file)
        assert scan.suv is not None
        assert scan.suv.factor == pytest.approx(FACTOR, rel=1e-9)


def test_elements_of_the_whole_do_not_hide_those_of_the_frames(tmp_path: Path) -> None:
    """A time, a slope and a unit for all, beside those of every frame."""

    def change(whole: Dataset) -> None:
        whole.DecayCorrected = "NO"
        del whole.DecayCorrectionDateTime
        whole.AcquisitionDateTime, whole.RescaleSlope, whole.RescaleIntercept = "20240531080000", 7.0, 7.0
        whole.Units = ""
        for n, group in enumerate(whole.PerFrameFunctionalGroupsSequence):  # in reverse order of position
            content = group.FrameContentSequence[0]
            content.FrameAcquisitionDateTime = f"202405311{FRAMES - 1 - n}0000"

    scan = read_pet(born(tmp_path / "pet.dcm", change=change))
    per_s = np.log(2) / 6586.2
    start_s = np.arange(FRAMES) * 3600.0
    factors = 80e3 / 200e6 * (per_s * 120) / (1 - np.exp(-per_s * 120)) * np.exp(per_s * start_s)
    assert np.allclose(scan.volume.data, STORED * (1.0 + np.arange(FRAMES)) * factors, rtol=1e-6)


def test_empty_moment_of_a_frame_is_none(tmp_path: Path) -> None:
    def change(whole: Dataset) -> None:
        whole.DecayCorrected = "NO"
        del whole.DecayCorrectionDateTime
        for group in whole.PerFrameFunctionalGroupsSequence:
            group.FrameContentSequence[0].FrameReferenceDateTime = ""

    scan = read_pet(born(tmp_path / "pet.dcm", change=change))
    per_s = np.log(2) / 6586.2
    seen = np.exp(-per_s * 3900) * (1 - np.exp(-per_s * 120)) / (per_s * 120)
    assert scan.suv is not None
    assert scan.suv.factor == pytest.approx(80e3 / 200e6 / seen, rel=1e-9)


@pytest.mark.parametrize("kind", ["MAX_IP", "DYNAMIC", "GATED"])
def test_kinds_of_images_that_are_no_volume(tmp_path: Path, kind: str) -> None:
    def change(whole: Dataset) -> None:
        whole.ImageType = ["DERIVED", "PRIMARY", "VOLUME", kind]

    assert f"a PET series of type {kind}" in refused(
        lambda: read_pet(born(tmp_path / "pet.dcm", change=change))
    )


def test_enhanced_without_a_unit(tmp_path: Path) -> None:
    """Without a mapping to Bq/mL or SUV the frames have neither unit nor scale."""
    assert "have no RescaleSlope" in refused(lambda: read_pet(born(tmp_path / "a.dcm", ("1",))))

    def scaled(whole: Dataset) -> None:
        for group in whole.PerFrameFunctionalGroupsSequence:
            scale = item(RescaleSlope=1.0, RescaleIntercept=0.0)
            group.PixelValueTransformationSequence = Sequence([scale])

    line = refused(lambda: read_pet(born(tmp_path / "c.dcm", ("{SUVlbm}g/ml",))))
    assert "missing: --height-cm, --sex" in line
    assert "Units missing" in refused(lambda: read_pet(born(tmp_path / "b.dcm", ("1",), scaled)))
