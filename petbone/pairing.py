"""Which file of one folder belongs to which of another: by the file's name, and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from petbone.errors import InputError

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
ONLY_CASE = "1"
"""The case of two files: nobody has paired by their names, which can be a patient's."""


@dataclass(frozen=True)
class Pair:
    """Two files of one case."""

    case: str
    reference: Path
    predicted: Path


@dataclass(frozen=True)
class Pairing:
    """All pairs in the order of their names, and cases of which one side has no file: (case, the side it
    lacks)."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[tuple[str, str], ...]
    of_files: bool  # two files were given, not two folders


def pair_files(reference: Path, predicted: Path) -> Pairing:
    """Two files as they are, or the images of two folders by name (without its ending; letters' case counts).

    Subfolders, hidden files and files that are no images are passed over. Raises InputError where one is a
    file and the other a folder, a folder holds no image or one name twice, or no name is in both.
    """
    for path in (reference, predicted):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    if reference.is_dir() != predicted.is_dir():
        kinds = ["a folder" if path.is_dir() else "a file" for path in (reference, predicted)]
        raise InputError(
            f"{predicted}: is {kinds[1]}, and {reference} is {kinds[0]}; expected two files, or two folders"
        )
    if reference.is_file():
        return Pairing((Pair(ONLY_CASE, reference, predicted),), (), True)
    first, second = named_images(reference), named_images(predicted)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise InputError(
            f"{predicted}: no file has the name of one in {reference} ({min(second)} ..., {min(first)} ...); "
            "expected the same names in both: rename one side"
        )
    lacking = [(case, "reference") for case in second if case not in first]
    lacking += [(case, "predicted") for case in first if case not in second]
    return Pairing(
        tuple(Pair(case, first[case], second[case]) for case in common), tuple(sorted(lacking)), False
    )


def partner_file(images: Path, pairing: Pairing, of_what: str) -> dict[str, Path]:
    """A further image of every pair (`of_what`, as "SUV image"), from a file or a folder, by the same names.

    Raises InputError where a case has none, or one file is given for several cases.
    """
    if not images.exists():
        raise InputError(f"{images}: no such file or folder")
    cases = [pair.case for pair in pairing.pairs]
    if images.is_file():
        if len(cases) != 1:
            raise InputError(f"{images}: is one file, and there are {len(cases)} cases; expected a folder")
        return {cases[0]: images}
    found = named_images(images)
    if pairing.of_files:
        raise InputError(f"{images}: is a folder; expected one file, as there is one case")
    lacking = [case for case in cases if case not in found]
    if lacking:
        raise InputError(
            f"{images}: holds no {of_what} for {len(lacking)} of {len(cases)} cases ({lacking[0]} ...); "
            "expected one for each, of the same name"
        )
    return {case: found[case] for case in cases}


def named_images(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without ending. Raises InputError for none and for a name
    twice."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((end for end in ENDINGS if path.name.lower().endswith(end)), None)
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(ending)]
        if name in found:
            raise InputError(f"{path}: {found[name].name} has the same name; expected one file for each case")
        found[name] = path
    if not found:
        raise InputError(f"{folder}: holds no image ({', '.join(ENDINGS)}); expected one for each case")
    return found
