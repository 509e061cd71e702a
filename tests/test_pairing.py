"""Files are paired by their names, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from petbone.errors import InputError
from petbone.pairing import Pair, named_images, pair_files, partner_file


def folder_of(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_pairs_by_name_and_what_has_no_partner(tmp_path: Path):
    one = folder_of(tmp_path / "a", "p2.nii.gz", "p1.nii", "p10.nii.gz", "notes.csv", ".p3.nii")
    two = folder_of(tmp_path / "b", "p1.nii.gz", "p2.nrrd", "p3.nii", "x.dcm")
    (one / "p3.nii").mkdir()  # a folder is no image
    pairing = pair_files(one, two)
    assert pairing.pairs == (
        Pair("p1", one / "p1.nii", two / "p1.nii.gz"),
        Pair("p2", one / "p2.nii.gz", two / "p2.nrrd"),
    )
    assert pairing.unpaired == (("p10", "predicted"), ("p3", "reference"))
    assert not pairing.of_files


def test_two_files_are_a_pair_whatever_their_names_are(tmp_path: Path):
    folder = folder_of(tmp_path / "a", "Miller.nii", "other.nii")
    pairing = pair_files(folder / "Miller.nii", folder / "other.nii")
    assert pairing.pairs == (Pair("1", folder / "Miller.nii", folder / "other.nii"),)
    assert pairing.of_files


def test_swapping_the_sides_swaps_the_pairs(tmp_path: Path):
    one = folder_of(tmp_path / "a", "p1.nii", "p2.nii")
    two = folder_of(tmp_path / "b", "p2.nii", "p3.nii")
    forth, back = pair_files(one, two), pair_files(two, one)
    assert [(p.case, p.predicted, p.reference) for p in forth.pairs] == [
        (p.case, p.reference, p.predicted) for p in back.pairs
    ]
    assert dict(forth.unpaired) == {"p1": "predicted", "p3": "reference"}
    assert dict(back.unpaired) == {"p1": "reference", "p3": "predicted"}


def test_further_images_go_by_the_same_names(tmp_path: Path):
    pairing = pair_files(folder_of(tmp_path / "a", "1.nii"), folder_of(tmp_path / "b", "1.nii.gz"))
    suv = folder_of(tmp_path / "suv", "1.nii", "2.nii")
    assert partner_file(suv, pairing, "SUV image") == {"1": suv / "1.nii"}
    assert partner_file(suv / "2.nii", pairing, "SUV image") == {"1": suv / "2.nii"}


def test_refusals(tmp_path: Path):
    one = folder_of(tmp_path / "a", "p1.nii", "p2.nii")
    two = folder_of(tmp_path / "b", "q1.nii", "q2.nii")
    twice = folder_of(tmp_path / "twice", "p1.nii", "p1.nii.gz")
    empty = folder_of(tmp_path / "empty", "p1.txt")
    pairing = pair_files(one, one)
    alone = pair_files(one / "p1.nii", one / "p2.nii")
    for call, message in (
        (lambda: pair_files(one, tmp_path / "none"), "no such file or folder"),
        (lambda: pair_files(one, two / "q1.nii"), "is a file, and .* is a folder"),
        (lambda: pair_files(one, two), r"no file has the name of one in .* \(q1 ..., p1 ...\)"),
        (lambda: pair_files(twice, one), "has the same name"),
        (lambda: named_images(empty), "holds no image"),
        (lambda: partner_file(tmp_path / "none", pairing, "SUV image"), "no such file or folder"),
        (lambda: partner_file(one / "p1.nii", pairing, "SUV image"), "is one file, and there are 2 cases"),
        (lambda: partner_file(two, pairing, "SUV image"), r"no SUV image for 2 of 2 cases \(p1 ...\)"),
        (lambda: partner_file(one, alone, "SUV image"), "is a folder; expected one file"),
    ):
        with pytest.raises(InputError, match=message):
            call()
