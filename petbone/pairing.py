"""Which image of one folder belongs to which of another: by the name of their case, and by nothing else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from petbone.errors import InputError

ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
ONLY_CASE = "1"
"""The case of files named one by one: nobody has paired by their names, which may be a patient's."""
_BESIDE = (".json", ".raw", ".zraw")  # belong to images, and need no word
_LISTED = 3


@dataclass(frozen=True)
class Images:
    """Images by the name of their case. `single`: one was named, and its case is `ONLY_CASE`."""

    place: Path
    by_case: Mapping[str, Path]
    single: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two files of one case."""

    case: str
    first: Path
    second: Path


@dataclass(frozen=True)
class Pairing:
    """All pairs in the order of their names, and cases of which one side has no file: (case, the side it
    lacks)."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[tuple[str, str], ...]
    single: bool  # two images were named, not two folders of them


def find_images(place: Path, of_a_case: str) -> Images:
    """The images in a file or a folder: files, and folders of cases that hold a file called `of_a_case`.

    A case is called by the name of its file without endings, or by that of its folder (case of letters
    counts); hidden files are passed over in silence, other entries with a note. Raises InputError where there
    is no image, where two of a folder have one name, and for what cannot be opened.
    """
    try:
        return _found(place, of_a_case)
    except OSError as error:
        raise InputError(f"{error.filename or place}: cannot be opened: {error.strerror}") from None


def _found(place: Path, of_a_case: str) -> Images:
    if place.is_file():
        return Images(place, {ONLY_CASE: place}, True)
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder; expected an image, or a folder of images")
    if (place / of_a_case).is_file():
        return Images(place, {ONLY_CASE: place / of_a_case}, True)
    found: dict[str, Path] = {}
    passed: list[str] = []
    for path in sorted(place.iterdir()):
        if path.name.startswith("."):
            continue
        image = path / of_a_case if path.is_dir() else path
        name = written(path.name) if path.is_dir() else name_of(path)
        if path.is_dir() and not image.is_file():
            passed.append("folder")
        elif not image.name.lower().endswith(ENDINGS):
            passed += [] if image.suffix.lower() in _BESIDE else [image.suffix.lower() or "no ending"]
        elif name in found:
            raise InputError(
                f"{image}: the case {name} is in {found[name].relative_to(place)}, too; expected one file of "
                "each case"
            )
        else:
            found[name] = image
    if not found:
        raise InputError(
            f"{place}: holds no image; expected files ({', '.join(ENDINGS[1:])}) or folders of petbone run "
            f"with a {of_a_case}"
        )
    by_case = {name: found[name] for name in sorted(found, key=_natural)}
    return Images(place, by_case, False, _passed_over(passed))


def _passed_over(kinds: list[str]) -> tuple[str, ...]:
    if not kinds:
        return ()
    one = len(kinds) == 1
    some = "1 entry of a folder is no image and was" if one else f"{len(kinds)} entries of a folder are no"
    return (f"{some}{'' if one else ' images and were'} passed over ({', '.join(sorted(set(kinds)))})",)


def name_of(path: Path) -> str:
    """The file's name without its endings."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return written(path.name[: -len(ending)])
    return written(path.stem)


def written(name: str) -> str:
    """As it can be written: letters as one character each (a Mac writes ü as two), no bytes but UTF-8."""
    return unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode("utf-8")


def _natural(name: str) -> list[tuple[int, str]]:
    """case_2 comes before case_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def pair_images(
    first: Images, second: Images, sides: tuple[str, str] = ("reference", "predicted")
) -> Pairing:
    """Both images of every case that both sides have. Two that were named one by one are a pair by that.

    Raises InputError where one side is a single image and the other a folder of them, or no name is in both.
    """
    if first.single != second.single:
        kinds = [_kind(images) for images in (second, first)]
        raise InputError(
            f"{second.place}: is {kinds[0]}, and {first.place} is {kinds[1]}; expected two files, or two "
            "folders of files"
        )
    common = [case for case in first.by_case if case in second.by_case]
    if not common:
        raise InputError(
            f"{second.place}: no name of its images ({_some(second.by_case)}) is one of {first.place} "
            f"({_some(first.by_case)}); expected the two of a case under one name: rename one side"
        )
    lacking = [(case, sides[0]) for case in second.by_case if case not in first.by_case]
    lacking += [(case, sides[1]) for case in first.by_case if case not in second.by_case]
    return Pairing(
        tuple(Pair(case, first.by_case[case], second.by_case[case]) for case in common),
        tuple(sorted(lacking, key=lambda one: _natural(one[0]))),
        first.single,
    )


def _kind(images: Images) -> str:
    if not images.single:
        return "a folder of files"
    return "a file" if images.place.is_file() else "the folder of one case"


def partner_file(images: Images, pairing: Pairing, of_what: str) -> dict[str, Path]:
    """A further image of every pair (`of_what`, as "SUV image"), by the same names.

    Raises InputError where a case has none, or one file is given for several cases.
    """
    cases = [pair.case for pair in pairing.pairs]
    if images.single and len(cases) > 1:
        raise InputError(f"{images.place}: is one file, and there are {len(cases)} cases; expected a folder")
    if images.single:
        return {cases[0]: images.by_case[ONLY_CASE]}
    if pairing.single:
        raise InputError(f"{images.place}: is a folder; expected one file, as there is one case")
    lacking = [case for case in cases if case not in images.by_case]
    if lacking:
        raise InputError(
            f"{images.place}: holds no {of_what} for {len(lacking)} of {len(cases)} cases ({lacking[0]} ...)"
            "; expected one for each, of the same name"
        )
    return {case: images.by_case[case] for case in cases}


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
