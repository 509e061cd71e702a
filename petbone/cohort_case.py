"""One case of a cohort, as a worker does it: kept when it is done already, else measured whole or not at all.

A case is done when its folder holds ``cohort.json`` with the digest of all that it is made from, and every
file as it was written. Nothing else is trusted: no time, no size, no list of what was done before.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask.system import CPU_COUNT
from threadpoolctl import threadpool_limits

import petbone
from petbone.cohort_table import CohortRow, paths_of
from petbone.errors import InputError, ResourceError, UsageError
from petbone.folders import MARK, new_folder, write_json
from petbone.io.participants import participant_of
from petbone.labels import is_file_of_labels
from petbone.pipeline import CaseFiles, CaseOptions, run_case
from petbone.steps import Steps

if TYPE_CHECKING:
    from petbone.net.segment import Segmenter

DONE = "cohort.json"
"""The file in a case's folder that says what it was made from."""

LOCK = "cohort.lock"
"""The file that makes a folder one of a cohort; holds the name of the run that is or was the last in it."""

_BLOCK_BYTES = 1 << 20

Load = Callable[[CaseOptions], "Segmenter"]


@dataclass(frozen=True)
class Record:
    """What is sent back of a case. `state` is done, kept (it was done before) or failed."""

    case: str
    state: str
    step: str = ""
    error: str = ""
    disk_full: bool = False  # then no other case can be written either
    too_small: bool = False  # the machine, for this case: it failed for that
    needed_gb: float | None = None  # memory, where that was too small and the need is known
    provenance_sha256: str = ""
    against: str = ""  # of a comparison: the case that `case` was compared with


def do_case(row: CohortRow, options: CaseOptions, cases: Path, load: Load, run: str) -> Record:
    """Do a case into its folder in `cases`, unless it is done. Raises nothing but what stops the process.

    `load` gives the network. It may be called again, elsewhere and at the same time, for the same case: the
    folder is always one whole result. Nothing is left by a `run` that is not the folder's last one: workers
    of a scheduler go on when the parent that asked for the case has been killed.
    """
    steps = Steps()
    folder = cases / row.case
    try:
        with steps("check"):
            digest = digest_of(row.files, options)
            if (done := done_before(folder, digest)) is not None:
                return replace(done, case=row.case)
        steps = Steps()  # the provenance holds those that a run of this case alone has
        with (
            threadpool_limits(options.threads),
            new_folder(folder, overwrite=True, mark=DONE) as part,
        ):
            result = run_case(row.files, options, steps, load)
            from petbone.results import write_case  # pandas and pictures: nothing for a case that is done

            write_case(result, part, steps, options.processes)
            with steps("write"):
                mark_done(part, digest)
                refuse_other_run(cases, run)
        return Record(row.case, "done", provenance_sha256=sha256_of(folder / MARK))
    except Exception as error:
        said = spoken(error, row.files, options)
        return failed(Record(row.case, "failed", steps.current or "write", said), error)


def failed(record: Record, error: Exception) -> Record:
    """The record of what failed, and whether for a machine too small: not, where it may not be written to."""
    room = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
    other_reason = any(reason.errno not in room for reason in _of_the_system(error))
    return replace(
        record,
        disk_full=is_full(error),
        too_small=_is_memory(error) or (isinstance(error, ResourceError) and not other_reason),
        needed_gb=getattr(error, "needed_gb", None),
    )


def run_in(cases: Path) -> str:
    """The name of the run that is the last in the folder of the cohort."""
    try:
        return (cases.parent / LOCK).read_text(encoding="utf-8")
    except OSError:
        return ""


def refuse_other_run(cases: Path, run: str) -> None:
    """Raise InputError where another run than `run` has the folder by now: nobody asks for its results."""
    if run != run_in(cases):
        raise InputError("given up: another run is at work in this folder")


def digest_of(files: CaseFiles, options: CaseOptions) -> str:
    """SHA-256 of all that the numbers of a case come from: files, options, weights, petbone's version.

    Threads, processes and memory are no part of it. What a person typed (a time of injection) cannot be
    guessed from it by trying, since the digests of the files that enter it are published nowhere.

    Raises InputError when a file cannot be read.
    """
    digest = hashlib.sha256()
    of_path: dict[Path, bytes] = {}
    for column, path in paths_of(files):
        if path not in of_path:
            of_path[path] = _content(path, column)
        digest.update(column.encode() + of_path[path])
    for given in (options.rule, options.weights):
        digest.update(b"none" if given is None else _content(given, "option"))
    if files.bones is None or (files.second is not None and files.second.bones is None):
        shipped = resources.files("petbone") / "weights" / "bones.safetensors"
        digest.update(b"" if options.weights else hashlib.sha256(shipped.read_bytes()).digest())
    stated = {
        "petbone": petbone.__version__,
        "index": options.index,
        "device": options.device,
        "align": options.align,
        "psf_mm": options.psf_mm,
        "examinations": [
            {
                "labels": one.labels if one.labels and not is_file_of_labels(one.labels) else None,
                "ct_series": one.ct_series,
                "pets": [asdict(replace(said, sidecar=None)) for said in one.pet_options],
                # BIDS: the size of the body may come from participants.tsv.
                "participants": [None if pet.is_dir() else _participant(pet) for pet in one.pets],
            }
            for one in (files, files.second)
            if one is not None
        ],
    }
    digest.update(json.dumps(stated, sort_keys=True).encode())
    return digest.hexdigest()


def _participant(pet: Path) -> dict[str, Any] | None:
    person = participant_of(pet)
    return None if person is None else asdict(person)


def _content(path: Path, column: str) -> bytes:
    """Digest of a file with what belongs to it, or of every file of a folder; not their usual SHA-256."""
    digest = hashlib.sha256(b"petbone cohort")
    ground = path.parent if path.name.upper() == "DICOMDIR" else path
    try:
        inside = ground.is_dir()
        for part in sorted(one for one in ground.rglob("*") if one.is_file()) if inside else _parts(path):
            digest.update(part.stat().st_size.to_bytes(8, "big"))
            with part.open("rb") as stream:
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
    except OSError as error:
        raise InputError(f"{column}: cannot be read: {error.strerror}") from error
    return digest.digest()


def _parts(path: Path) -> Iterator[Path]:
    """The file; the sidecar beside it; and the voxels where it is a header only."""
    yield path
    beside = [_beside(path)]
    if path.suffix.lower() in (".mhd", ".nhdr"):
        head = path.read_bytes()[:10_000].decode("latin-1")
        named = re.search(
            r"^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", head, re.IGNORECASE | re.MULTILINE
        )
        beside += [path.parent / named[1]] if named else []
    elif path.suffix.lower() in (".hdr", ".img"):
        beside += [path.with_suffix({".hdr": ".img", ".img": ".hdr"}[path.suffix.lower()])]
    yield from (one for one in beside if one.is_file())


def _beside(path: Path) -> Path:
    """The sidecar that is taken for an image's by its name."""
    return path.parent / (re.sub(r"(\.nii)?(\.gz)?$", "", path.name) + ".json")


def mark_done(folder: Path, digest: str) -> None:
    """Say what the results were made from and what they are; a file that is not so is found."""
    try:
        files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
        write_json({"made_from_sha256": digest, "files": files}, folder / DONE)
    except OSError as error:
        raise ResourceError(f"the results cannot be written: {error.strerror}") from error


def done_before(folder: Path, digest: str) -> Record | None:
    """What to tell of a case that is done with this digest; None where it is to be done.

    Files that are gone or altered (a spreadsheet saved over a table, a disk that lost its last writes) are
    not the results any more.
    """
    try:
        told = json.loads((folder / DONE).read_text(encoding="utf-8"))
        if told["made_from_sha256"] != digest:
            return None
        if any(sha256_of(folder / name) != known for name, known in told["files"].items()):
            return None
        return Record("", "kept", provenance_sha256=told["files"][MARK])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def sha256_of(path: Path) -> str:
    """The usual digest of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_full(error: BaseException | None) -> bool:
    """True where the reason of an error, or the reason of that, is a disk without room."""
    return any(reason.errno in (errno.ENOSPC, errno.EDQUOT) for reason in _of_the_system(error))


def _of_the_system(error: BaseException | None) -> Iterator[OSError]:
    """An error, its reason, and the reason of that, as far as the system told them."""
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: Exception) -> bool:
    """True where memory was asked for that is not to be had; torch and ITK have their own words for it."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        type(error) is RuntimeError and bool(re.search(r"allocate memory|bad[ _]alloc", str(error)))
    )


def spoken(error: Exception, files: CaseFiles, options: CaseOptions) -> str:
    """An error on one line, without a path: files are called by the column that named them.

    The name of a file can be that of a patient, and a path can hold it in any part.
    """
    text = _on_one_line(str(error))
    paths = paths_of(files)
    paths += [
        (name, path) for name, path in (("--rule", options.rule), ("--weights", options.weights)) if path
    ]
    paths += [(f"{column}'s sidecar", _beside(path)) for column, path in paths if column.startswith("pet")]
    # And what lies in their folders: with spaces in a name nothing else tells where a path ends.
    grounds = {ground for _, path in paths for ground in path.parents if ground.name}
    known = paths + [("(a path)", ground) for ground in grounds]
    for spoken_as, path in sorted(known, key=lambda one: -len(str(one[1]))):
        inner = r"(?:[/\\][^:;,'\"]*)?"  # a file in a folder of DICOM
        text = re.sub(re.escape(_on_one_line(str(path))) + inner, spoken_as, text)
    for column, path in paths:
        if len(path.name) > 3:  # a folder called 1 is nobody, and its name is in many a number
            text = re.sub(rf"(?<!\w){re.escape(_on_one_line(path.name))}(?!\w)", column, text)
    return worded(error, text)


def worded(error: Exception, text: str) -> str:
    """An error in these words, which name no other path; of a defect its type."""
    text = re.sub(r"(?<![\w.)])(?:[A-Za-z]:[\\/]|/)[^\s'\":;,]+", "(a path)", text)
    if isinstance(error, InputError | ResourceError | UsageError):
        return text
    if _is_memory(error):
        return "not enough memory for this case"
    return f"defect of petbone: {type(error).__name__}: {text}".removesuffix(": ")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


@dataclass
class Networks:
    """Keeps the network between the cases of a worker; another one is read when others are asked for."""

    _asked: tuple[Any, ...] = ()
    _kept: Any = field(default=None, repr=False)

    def load(self, options: CaseOptions) -> Segmenter:
        """The network of these options, read from its file the first time."""
        from petbone.examination import load_network

        asked = (options.weights, options.device, options.threads)
        if self._kept is None or asked != self._asked:
            self._asked, self._kept = asked, load_network(options)
        kept: Segmenter = self._kept
        return kept


def cores() -> int:
    """Cores that this process may use, in a container or a job of a batch system, too."""
    return int(CPU_COUNT)
