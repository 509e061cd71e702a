"""NIfTI in and out: nibabel is the stranger, the round trip the invariant, and every refusal has its line."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from petbone.errors import InputError, ResourceError
from petbone.io import PetOptions, read_ct, read_labels, read_pet, write_nifti
from petbone.io.nifti import read_nifti
from petbone.volume import Grid, Unit, Volume

SHARED = Path(__file__).parents[2] / "shared"
SHAPE = (7, 5, 6)
OBLIQUE = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
ORIENTATIONS = {
    "RAS": np.diag([2.0, 3.0, 4.0]),
    "LPS": np.diag([-2.0, -3.0, 4.0]),
    "PIR": np.array([[0, 0, 4.0], [-2.0, 0, 0], [0, -3.0, 0]]),
    "oblique": OBLIQUE @ np.diag([2.0, 3.0, 4.0]),
}


def affine(name: str) -> np.ndarray:
    return from_matvec(ORIENTATIONS[name], [11.5, -20.25, 300.0])


def ct_values() -> np.ndarray:
    return np.random.default_rng(1).integers(-1000, 2000, SHAPE).astype(np.int16)


def save(path: Path, data: np.ndarray, matrix: np.ndarray | None = None, **fields: object) -> Path:
    """A NIfTI by nibabel with both forms set; `fields` are written into the header afterwards."""
    matrix = affine("RAS") if matrix is None else matrix
    image = nib.Nifti1Image(data, matrix, dtype=data.dtype)
    image.header.set_sform(matrix, 1)
    image.header.set_qform(matrix, 1)
    nib.save(image, path)
    if fields:
        raw = bytearray(path.read_bytes())
        header = nib.Nifti1Header(bytes(raw[:348]), check=False)
        for name, value in fields.items():
            header[name] = value
        raw[:348] = header.binaryblock
        path.write_bytes(raw)
    return path


# Invariants


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_is_written_is_read_back_at_the_same_place(tmp_path: Path, name: str, suffix: str) -> None:
    grid = Grid(SHAPE, affine(name))
    path = tmp_path / f"ct{suffix}"
    write_nifti(Volume(ct_values(), grid, Unit.HU), path)
    scan = read_ct(path)
    assert scan.volume.data.dtype == np.int16
    assert np.array_equal(scan.volume.data, ct_values())
    assert scan.volume.grid.same_as(grid)
    assert scan.warnings == ()


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_nibabel_reads_the_same_values_at_the_same_place(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(2).random(SHAPE).astype(np.float32) * 30
    write_nifti(Volume(data, Grid(SHAPE, affine(name)), Unit.SUV), tmp_path / "suv.nii.gz")
    image = nib.load(tmp_path / "suv.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), data)
    for form in (image.header.get_sform(), image.header.get_qform()):
        assert np.allclose(form, affine(name), atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_nibabel_writes_what_we_read(tmp_path: Path, name: str) -> None:
    scan = read_ct(save(tmp_path / "a.nii.gz", ct_values(), affine(name)))
    assert np.array_equal(scan.volume.data, ct_values())
    assert np.allclose(scan.volume.grid.mm_from_ijk, affine(name), atol=1e-4)


def test_source_names_the_orientation_and_the_hash_that_sha256sum_gives(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ct_values(), affine("PIR"))
    source = read_ct(path).source
    assert source["orientation"] == "PIR"
    assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source["shape"] == list(SHAPE)
    assert not any("/" in str(value) for value in source.values())


def test_equal_volumes_give_equal_bytes_and_no_name_or_time(tmp_path: Path) -> None:
    volume = Volume(ct_values(), Grid(SHAPE, affine("oblique")), Unit.HU)
    write_nifti(volume, tmp_path / "first.nii.gz")
    write_nifti(volume, tmp_path / "second_name.nii.gz")
    first, second = ((tmp_path / n).read_bytes() for n in ("first.nii.gz", "second_name.nii.gz"))
    assert first == second
    assert first[3] == 0  # no optional gzip field: no file name, no comment
    assert first[4:8] == b"\0\0\0\0"  # mtime
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first.nii.gz", "second_name.nii.gz"]


def test_memory_order_of_the_array_does_not_matter(tmp_path: Path) -> None:
    grid = Grid(SHAPE, affine("RAS"))
    for n, data in enumerate((np.ascontiguousarray(ct_values()), np.asfortranarray(ct_values()))):
        write_nifti(Volume(data, grid, Unit.HU), tmp_path / f"{n}.nii.gz")
    assert (tmp_path / "0.nii.gz").read_bytes() == (tmp_path / "1.nii.gz").read_bytes()


def test_sheared_grid_round_trips_with_a_warning(tmp_path: Path) -> None:
    tilted = affine("RAS")
    tilted[1, 2] = 4.0 * np.tan(np.radians(12.0))
    write_nifti(Volume(ct_values(), Grid(SHAPE, tilted), Unit.HU), tmp_path / "a.nii")
    scan = read_ct(tmp_path / "a.nii")
    assert np.allclose(scan.volume.grid.mm_from_ijk, tilted, atol=1e-4)
    assert "12.00 degrees" in scan.warnings[0]


def test_label_types_on_disk_are_as_small_as_the_labels(tmp_path: Path) -> None:
    grid = Grid(SHAPE, affine("RAS"))
    for high, dtype in ((255, np.uint8), (256, np.uint16)):
        labels = np.zeros(SHAPE, np.int32)
        labels[1, 2, 3] = high
        write_nifti(Volume(labels, grid, Unit.LABEL), tmp_path / "a.nii.gz")
        assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == dtype
        assert read_labels(tmp_path / "a.nii.gz").volume.data[1, 2, 3] == high


def test_labels_that_no_file_can_hold_are_not_written(tmp_path: Path) -> None:
    labels = np.full(SHAPE, 70000, np.int32)
    with pytest.raises(ValueError, match="70000"):
        write_nifti(Volume(labels, Grid(SHAPE, affine("RAS")), Unit.LABEL), tmp_path / "a.nii.gz")


def test_unwritable_place_is_a_resource_error(tmp_path: Path) -> None:
    volume = Volume(ct_values(), Grid(SHAPE, affine("RAS")), Unit.HU)
    with pytest.raises(ResourceError, match="cannot be written"):
        write_nifti(volume, tmp_path / "missing" / "a.nii.gz")


# How values are stored must not matter


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)
def test_ct_from_any_type_becomes_int16(tmp_path: Path, dtype: type) -> None:
    low, high = (-100, 100) if np.dtype(dtype).kind != "u" else (0, 200)
    stored = np.random.default_rng(3).integers(low, high, SHAPE).astype(dtype)
    path = save(tmp_path / "a.nii", stored, scl_slope=2.0, scl_inter=-100.0)
    data = read_ct(path).volume.data
    assert data.dtype == np.int16
    assert np.array_equal(data, stored.astype(int) * 2 - 100)


def test_fractional_ct_stays_float(tmp_path: Path) -> None:
    values = ct_values() + np.float32(0.25)
    data = read_ct(save(tmp_path / "a.nii.gz", values)).volume.data
    assert data.dtype == np.float32
    assert np.array_equal(data, values)


def test_fraction_that_appears_late_widens_what_was_already_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petbone.io.nifti.SLAB_VOXELS", 50)
    values = ct_values().astype(np.float64)
    values[-1, -1, -1] += 0.5  # the last voxel of the last slab
    assert np.array_equal(read_ct(save(tmp_path / "a.nii.gz", values)).volume.data, values)


def test_big_endian_nifti2_with_scaling(tmp_path: Path) -> None:
    header = nib.Nifti2Header(endianness=">")
    image = nib.Nifti2Image(ct_values().astype(">i2"), affine("oblique"), header)
    nib.save(image, tmp_path / "a.nii.gz")
    assert np.array_equal(read_ct(tmp_path / "a.nii.gz").volume.data, ct_values())


def test_pet_scaling_agrees_with_nibabel(tmp_path: Path) -> None:
    stored = np.random.default_rng(4).integers(0, 32767, SHAPE).astype(np.int16)
    path = save(tmp_path / "a.nii", stored, scl_slope=0.00123)
    assert np.allclose(read_pet(path).volume.data, nib.load(path).get_fdata(), rtol=1e-6)


def test_labels_stored_as_floats_are_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(5).integers(0, 118, SHAPE)
    for dtype, expected in ((np.float64, np.uint8), (np.float32, np.uint8), (np.int16, np.uint8)):
        data = read_labels(save(tmp_path / "a.nii", labels.astype(dtype))).volume.data
        assert data.dtype == expected
        assert np.array_equal(data, labels)
    assert (
        read_labels(save(tmp_path / "a.nii", (labels + 300).astype(np.int32))).volume.data.dtype == np.uint16
    )


def test_axis_of_length_one_at_the_end_is_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ct_values()[..., None])
    assert read_ct(path).volume.data.shape == SHAPE


def test_metres_become_millimetres(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), np.diag([0.002, 0.003, 0.004, 1]), xyzt_units=1)
    scan = read_ct(path)
    assert np.allclose(scan.volume.grid.spacing_mm, [2, 3, 4])
    assert "1000 mm" in scan.warnings[0]


def test_qform_alone_is_enough(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), affine("oblique"), sform_code=0)
    assert np.allclose(read_ct(path).volume.grid.mm_from_ijk, affine("oblique"), atol=1e-4)


@pytest.mark.parametrize(("shift_mm", "said"), [(0.05, ""), (0.5, "0.50 mm; the sform is used")])
def test_small_disagreement_of_the_forms(tmp_path: Path, shift_mm: float, said: str) -> None:
    path = save(tmp_path / "a.nii", ct_values(), qoffset_x=11.5 + shift_mm)
    scan = read_ct(path)
    assert scan.volume.grid.mm_from_ijk[0, 3] == 11.5
    assert (said in scan.warnings[0]) if said else not scan.warnings


def test_label_names_of_the_file_are_kept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine("RAS"))
    xml = b'<CaretExtension><LabelTable><Label Key="25" Red="1"><![CDATA[sacrum]]></Label></LabelTable>'
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml))
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_labels(tmp_path / "a.nii.gz").source["label_names"] == {"25": "sacrum"}


# Refusals: one line each, the file named as it was given


def refused(path: Path | str, read: object = read_ct) -> str:
    with pytest.raises(InputError) as caught:
        read(path)  # type: ignore[operator]
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "a.nii.gz")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    assert "0 bytes" in refused(tmp_path / "a.nii")


def test_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("not an image " * 100)
    assert "not a NIfTI" in refused(tmp_path / "a.nii")


@pytest.mark.parametrize("keep", [200, 20, 0.5, 0.98])
def test_truncated_gzip_is_refused(tmp_path: Path, keep: float) -> None:
    path = save(tmp_path / "a.nii.gz", ct_values())
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if keep < 1 else int(keep)])
    assert "cut short" in refused(path)


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ct_values())
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 0xFF  # the checksum
    path.write_bytes(raw)
    assert "damaged" in refused(path)


def test_truncated_plain_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values())
    path.write_bytes(path.read_bytes()[:-10])
    assert "cut short" in refused(path)


def test_truncated_stream_inside_a_whole_gzip_is_refused(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", ct_values()).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain[:-10]))
    assert "end after 410 of 420 bytes" in refused(tmp_path / "a.nii.gz")


def test_header_that_asks_for_terabytes_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    assert "cut short" in refused(path)


def test_too_little_memory_is_told_with_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.nii", ct_values())

    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("petbone.io.nifti.np.empty", none_left)
    with pytest.raises(ResourceError, match="GiB of memory"):
        read_nifti(path, (np.int16,))


def test_values_beyond_float32_are_refused(tmp_path: Path) -> None:
    assert "1e+300" in refused(save(tmp_path / "a.nii", np.full(SHAPE, 1e300)), read_pet)


def test_frames_are_counted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((*SHAPE, 5), np.float32))
    assert "5 frames (0 to 4)" in refused(path, read_pet)


def test_flat_picture_is_refused(tmp_path: Path) -> None:
    assert "three-dimensional" in refused(save(tmp_path / "a.nii", ct_values()[..., 0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_none_are_counted(tmp_path: Path, value: float) -> None:
    values = ct_values().astype(np.float32)
    values[:2, 0, 0] = value
    assert "2 of 210 voxels" in refused(save(tmp_path / "a.nii.gz", values))
    assert "2 of 210 voxels" in refused(tmp_path / "a.nii.gz", read_pet)


def test_no_orientation_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), sform_code=0, qform_code=0)
    assert "left and right would be a guess" in refused(path)


def test_forms_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), qoffset_x=11.5 + 3)
    assert "disagree by 3.0 mm" in refused(path)


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [np.nan, 0, 0, 0]])
def test_singular_sform_is_refused(tmp_path: Path, row: list[float]) -> None:
    assert "singular" in refused(save(tmp_path / "a.nii", ct_values(), srow_x=row))


def test_zero_voxel_size_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), sform_code=0, pixdim=[1, 0, 3, 4, 0, 0, 0, 0])
    assert "zero voxel size" in refused(path)


def test_damaged_quaternion_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), sform_code=0, quatern_b=3.0)
    assert "orientation in the header is damaged" in refused(path)


def test_voxels_of_a_thousandth_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values(), np.diag([0.002, 0.003, 0.004, 1]), xyzt_units=2)
    assert "probably not millimetres" in refused(path)


def test_unknown_length_unit_is_refused(tmp_path: Path) -> None:
    assert "xyzt_units" in refused(save(tmp_path / "a.nii", ct_values(), xyzt_units=7))


@pytest.mark.parametrize(("magic", "said"), [(b"ni1", "pair"), (b"", "Analyze")])
def test_other_kinds_of_the_header_are_refused(tmp_path: Path, magic: bytes, said: str) -> None:
    assert said in refused(save(tmp_path / "a.nii", ct_values(), magic=magic))


def test_impossible_offset_is_refused(tmp_path: Path) -> None:
    assert "voxels at byte 12" in refused(save(tmp_path / "a.nii", ct_values(), vox_offset=12))


def test_impossible_dimension_count_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct_values())
    raw = path.read_bytes()
    path.write_bytes(raw[:40] + b"\0\0" + raw[42:])
    assert "says 0 dimensions" in refused(path)


def test_cut_header_of_nifti2_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti2Image(ct_values(), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:400])
    assert "header is damaged" in refused(path)


def test_colours_and_unknown_types_are_refused(tmp_path: Path) -> None:
    assert "real numbers" in refused(save(tmp_path / "a.nii", ct_values().astype(np.complex64)))
    assert "data type" in refused(save(tmp_path / "b.nii", ct_values(), datatype=999))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.arange(210), "look like labels"),
        (np.arange(210) * 15, "1024 was added"),
        (np.arange(210) * 100 - 5, "without air or fat"),  # a PET with a little noise below zero
        (-np.arange(210) * 4, "too low for any bone"),
    ],
)
def test_ct_outside_hounsfield_units_is_refused(tmp_path: Path, values: np.ndarray, said: str) -> None:
    assert said in refused(save(tmp_path / "a.nii", values.reshape(SHAPE).astype(np.int16)))


@pytest.mark.parametrize(("value", "said"), [(1.5, "1.5 is not a"), (-1, "-1 to"), (7e4, "70000")])
def test_labels_that_are_none_are_refused(tmp_path: Path, value: float, said: str) -> None:
    values = np.ones(SHAPE, np.float32)
    values[0, 0, 0] = value
    assert said in refused(save(tmp_path / "a.nii", values), read_labels)


def test_bare_pet_is_taken_as_suv_only_if_it_can_be(tmp_path: Path) -> None:
    values = np.random.default_rng(6).random(SHAPE).astype(np.float32) * 20
    scan = read_pet(save(tmp_path / "a.nii", values))
    assert np.array_equal(scan.volume.data, values)
    assert scan.suv is not None
    assert "taken as SUVbw" in scan.warnings[-1]
    for wrong in (values * 3000, values - 5, values * 1e-3, np.round(values).astype(np.int16)):
        line = refused(save(tmp_path / "b.nii", wrong), read_pet)
        for option in ("--units", "--dose-mbq", "--weight-kg", "--injected-at", "--scan-start", "--sidecar"):
            assert option in line


def test_units_suv_is_the_users_word(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.arange(210, dtype=np.int16).reshape(SHAPE))
    scan = read_pet(path, PetOptions(units="suv"))
    assert scan.volume.data.max() == 209
    assert scan.suv is not None
    assert "--units suv" in scan.suv.rule


@pytest.mark.parametrize("units", ["suv", None])
@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"dose_mbq": 200.0}, "--dose-mbq"),
        ({"injected_at": "10:00"}, "--injected-at"),
        ({"scan_start": "11:00"}, "--scan-start"),
        ({"half_life_s": 6586.2}, "--half-life-s"),
    ],
)
def test_options_of_activity_for_values_in_suv_are_refused(
    tmp_path: Path, units: str | None, options: dict[str, Any], flag: str
) -> None:
    path = save(tmp_path / "a.nii", np.linspace(0, 9, 210).reshape(7, 5, 6).astype(np.float32))
    with pytest.raises(InputError, match=f"{flag} given, but .*; give --units bqml, or leave them out"):
        read_pet(path, PetOptions(units=units, **options))


def test_unknown_units_are_refused() -> None:
    with pytest.raises(ValueError, match="suv or bqml"):
        PetOptions(units="kbq")


def test_real_scans_agree_with_nibabel() -> None:
    if not (SHARED / "scans").is_dir():
        pytest.skip("../shared/scans is not there")
    paths = [p for p in sorted((SHARED / "scans").rglob("*.nii.gz")) if p.stat().st_size < 20e6]
    assert len(paths) > 20
    for path in paths:
        image = read_nifti(path, (np.int16, np.float32))
        other = nib.load(path)
        assert np.array_equal(image.data, np.asarray(other.dataobj))
        assert np.allclose(image.grid.mm_from_ijk, other.affine, atol=1e-4)


@pytest.mark.parametrize("slab_voxels", [1, 50, 1 << 20])
@pytest.mark.parametrize("stored", [np.int16, np.float32])
def test_both_orders_of_memory_hold_the_same_voxels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slab_voxels: int, stored: type[np.generic]
) -> None:
    monkeypatch.setattr("petbone.io.nifti.SLAB_VOXELS", slab_voxels)
    values = np.arange(7 * 5 * 6).reshape(7, 5, 6).astype(stored)
    values[6, 4, 5] = 40_000 if stored is np.float32 else -30_000
    path = save(tmp_path / "a.nii.gz", values)
    for order in ("F", "C"):
        data = read_nifti(path, (np.uint8, np.int16, np.float32), order).data  # type: ignore[arg-type]
        np.testing.assert_array_equal(data, values)
        assert data.flags.f_contiguous if order == "F" else data.flags.c_contiguous
    assert read_pet(path, PetOptions("suv")).volume.data.flags.c_contiguous
