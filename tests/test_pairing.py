"""Files are paired by their names, and by nothing else."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from petbone.errors import InputError
from petbone.pairing import Images, Pair, find_images, name_of, pair_images, partner_file

OF_A_CASE = "bones.nii.gz"


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def images(place: Path) -> Images:
    return find_images(place, OF_A_CASE)


def test_pairs_by_name_and_what_has_no_partner(tmp_path: Path):
    one = folder_of(tmp_path / "a", "p2.nii.gz", "p1.nii", "p10.nii.gz", "notes.csv", ".p3.nii", "p1.json")
    two = folder_of(tmp_path / "b", "p1.nii.gz", "p2.nrrd", "p3.nii", "x.dcm")
    (one / "p3.nii").mkdir()  # a folder without the image of a case
    sides = images(one), images(two)
    pairing = pair_images(*sides)
    assert pairing.pairs == (
        Pair("p1", one / "p1.nii", two / "p1.nii.gz"),
        Pair("p2", one / "p2.nii.gz", two / "p2.nrrd"),
    )
    assert pairing.unpaired == (("p3", "reference"), ("p10", "predicted"))
    assert not pairing.single
    assert [side.notes for side in sides] == [
        ("2 entries of a folder are no images and were passed over (.csv, folder)",),
        ("1 entry of a folder is no image and was passed over (.dcm)",),
    ]


def test_folders_of_cases_hold_an_image_of_a_given_name(tmp_path: Path):
    runs = folder_of(tmp_path / "runs", f"p2/{OF_A_CASE}", f"p1/{OF_A_CASE}", "p2/ct.nii.gz", "p4/ct.nii.gz")
    files = folder_of(tmp_path / "files", "p1.nii", "p2.mha", "p4.nii")
    pairing = pair_images(images(files), images(runs), ("first", "second"))
    assert [pair.second for pair in pairing.pairs] == [runs / "p1" / OF_A_CASE, runs / "p2" / OF_A_CASE]
    assert pairing.unpaired == (("p4", "second"),)
    assert list(find_images(runs, "ct.nii.gz").by_case) == ["p2", "p4"]


def test_two_files_are_a_pair_whatever_their_names_are(tmp_path: Path):
    folder = folder_of(tmp_path / "a", "Miller.nii", f"Smith/{OF_A_CASE}")
    pairing = pair_images(images(folder / "Miller.nii"), images(folder / "Smith"))
    assert pairing.pairs == (Pair("1", folder / "Miller.nii", folder / "Smith" / OF_A_CASE),)
    assert pairing.single


def test_swapping_the_sides_swaps_the_pairs(tmp_path: Path):
    one = images(folder_of(tmp_path / "a", "p1.nii", "p2.nii"))
    two = images(folder_of(tmp_path / "b", "p2.nii", "p3.nii"))
    forth, back = pair_images(one, two), pair_images(two, one)
    assert [(p.case, p.second, p.first) for p in forth.pairs] == [
        (p.case, p.first, p.second) for p in back.pairs
    ]
    assert dict(forth.unpaired) == {"p1": "predicted", "p3": "reference"}
    assert dict(back.unpaired) == {"p1": "reference", "p3": "predicted"}


def test_names_are_compared_as_they_are_read(tmp_path: Path):
    """A Mac writes an umlaut as two characters; a name that is no UTF-8 can be written, too."""
    one = folder_of(tmp_path / "a", unicodedata.normalize("NFC", "Jürg.nii"))
    two = folder_of(tmp_path / "b", unicodedata.normalize("NFD", "Jürg.nii"))
    assert [pair.case for pair in pair_images(images(one), images(two)).pairs] == ["Jürg"]
    assert name_of(Path("c\udcfc1.nii.gz")) == "c\\udcfc1"


@pytest.mark.parametrize("name", ["²", "1²", "٣", "01", "1"])
def test_any_number_has_a_place_in_the_order(tmp_path: Path, name: str):
    assert list(images(folder_of(tmp_path, f"{name}.nii", "a.nii")).by_case) in ([name, "a"], ["a", name])


def test_further_images_go_by_the_same_names(tmp_path: Path):
    one, two = folder_of(tmp_path / "a", "1.nii"), folder_of(tmp_path / "b", "1.nii.gz")
    pairing = pair_images(images(one), images(two))
    suv = folder_of(tmp_path / "suv", "1.nii", "2.nii")
    assert partner_file(images(suv), pairing, "SUV image") == {"1": suv / "1.nii"}
    assert partner_file(images(suv / "2.nii"), pairing, "SUV image") == {"1": suv / "2.nii"}


def test_a_folder_that_may_not_be_read(tmp_path: Path):
    place = folder_of(tmp_path / "a", "p1.nii")
    place.chmod(0)
    nobody = 65534
    is_root = os.geteuid() == 0  # whom no permission stops
    if is_root:
        os.seteuid(nobody)
    try:
        with pytest.raises(InputError, match="cannot be opened: Permission denied"):
            images(place)
    finally:
        if is_root:
            os.seteuid(0)
        place.chmod(0o700)


def test_refusals(tmp_path: Path):
    one = folder_of(tmp_path / "a", "p1.nii", "p2.nii")
    two = folder_of(tmp_path / "b", "q1.nii", "q2.nii")
    twice = folder_of(tmp_path / "twice", "p1.nii", f"p1/{OF_A_CASE}")
    empty = folder_of(tmp_path / "empty", "p1.txt")
    run = folder_of(tmp_path / "run", OF_A_CASE)
    pairing = pair_images(images(one), images(one))
    alone = pair_images(images(one / "p1.nii"), images(one / "p2.nii"))
    for call, message in (
        (lambda: images(tmp_path / "none"), "no such file or folder"),
        (lambda: images(twice), "p1.nii: the case p1 is in p1/bones.nii.gz, too"),
        (lambda: images(empty), "holds no image"),
        (lambda: pair_images(images(one), images(two / "q1.nii")), "is a file, and .* is a folder of files"),
        (
            lambda: pair_images(images(run), images(two)),
            "is a folder of files, and .* the folder of one case",
        ),
        (lambda: pair_images(images(one), images(two)), r"\(q1, q2\) is one of .* \(p1, p2\)"),
        (
            lambda: partner_file(images(one / "p1.nii"), pairing, "SUV image"),
            "one file, and there are 2 cases",
        ),
        (
            lambda: partner_file(images(two), pairing, "SUV image"),
            r"no SUV image for 2 of 2 cases \(p1 ...\)",
        ),
        (lambda: partner_file(images(one), alone, "SUV image"), "is a folder; expected one file"),
    ):
        with pytest.raises(InputError, match=message):
            call()
