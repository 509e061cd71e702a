"""A BIDS data set as a cohort: the same tables as from a CSV table, and what is ambiguous is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from case_fixtures import BALLS, GRID, patient
from petbone.cohort_bids import read_bids
from petbone.cohort_table import CohortRow, read_cohort
from petbone.errors import InputError, InputErrors
from petbone.io import write_nifti
from petbone.io.participants import participant_of
from petbone.labels import LabelTable
from petbone.volume import Unit, Volume

Cli = Callable[..., Any]
DOSE_BQ = 200e6
WEIGHT_KG = {"sub-01": 70.0, "sub-02": 84.0}


def write_pet(path: Path, hot: dict[int, float], weight_kg: float, tracer: str) -> None:
    """A PET of SUV 1 with hot cubes in balls of bone, in Bq/mL at the time of injection; its sidecar."""
    suv = np.ones(GRID.shape)
    for label, value in hot.items():
        i, j, k = np.rint(GRID.ijk(np.array([BALLS[label]], float)))[0].astype(int)
        suv[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    activity = (suv * DOSE_BQ / (1000 * weight_kg)).astype(np.float32)
    write_nifti(Volume(activity, GRID, Unit.BQ_PER_ML), path)
    write_sidecar(path, TracerName=tracer)


def write_sidecar(path: Path, **more: object) -> None:
    said = {
        "Units": "Bq/mL",
        "TracerRadionuclide": "F18",
        "InjectedRadioactivity": DOSE_BQ,
        "InjectedRadioactivityUnits": "Bq",
        "InjectionStart": 0,
        "ScanStart": 3600,
        "TimeZero": "10:00:00",
        "ImageDecayCorrected": True,
        "ImageDecayCorrectionTime": 0,
        "FrameTimesStart": [3600],
        "FrameDuration": [600],
    }
    beside = path.with_name(path.name.partition(".nii")[0] + ".json")
    beside.write_text(json.dumps(said | more), encoding="utf-8")


def write_tsv(path: Path, *rows: str) -> None:
    path.write_text("\n".join("\t".join(row.split()) for row in rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects: one with two sessions and a second tracer in the first of them, one without sessions."""
    ground = tmp_path_factory.mktemp("bids") / "data"
    ct, labels = patient()
    for name, folder, where in (
        ("sub-01_ses-1_ct", "sub-01/ses-1", "ct"),
        ("sub-01_ses-2_CT", "sub-01/ses-2", "anat"),
        ("sub-02_acq-lowdose_ct", "sub-02", "pet"),
    ):
        (ground / folder / where).mkdir(parents=True)
        write_nifti(ct, ground / folder / where / f"{name}.nii.gz")
        masks = ground / "derivatives/manual" / folder / "ct"
        masks.mkdir(parents=True)
        write_nifti(labels, masks / f"{name.rpartition('_')[0]}_desc-bones_dseg.nii.gz")
    first, second = ground / "sub-01/ses-1/pet", ground / "sub-01/ses-2/pet"
    write_pet(first / "sub-01_ses-1_trc-NaF_pet.nii.gz", {16: 20}, 70, "[18F]NaF")
    write_pet(first / "sub-01_ses-1_trc-FCH_rec-osem_pet.nii.gz", {17: 30}, 70, "Fluorocholine")
    write_pet(second / "sub-01_ses-2_pet.nii.gz", {16: 40}, 70, "18F-NaF")
    write_pet(ground / "sub-02/pet/sub-02_trc-18FNaF_pet.nii.gz", {47: 24, 48: 24}, 84, "unheard of")
    (ground / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.9.0"}', "utf-8")
    write_tsv(
        ground / "participants.tsv",
        "participant_id age sex weight group",
        "sub-01 64 male 70 treated",
        "sub-02 n/a M 84 control",
    )
    write_tsv(
        ground / "sub-01/sub-01_sessions.tsv",
        "session_id acq_time",
        "ses-1 2019-03-02T10:30:00",
        "ses-2 2019-09-02",
    )
    return ground


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_are_those_of_the_same_patients_in_a_csv(dataset: Path, cli: Cli, tmp_path: Path):
    done = cli("cohort", dataset, "--derivatives", "manual", "-o", tmp_path / "bids", "--workers", 1)
    assert done.status == 0, done.err
    assert "3 done" in done.out
    # the same bytes elsewhere, without sidecars and under other names: what they say is said by the columns
    head = "case,ct,bones,pet,tracer,pet2,tracer2,patient,date,age,participant_group,weight_kg,sex"
    said = "units,dose_mbq,injected_at,scan_start,units2,dose_mbq2,injected_at2,scan_start2"
    lines = []
    for case, pets, tail in (
        ("sub-01_ses-1", ("*NaF*", "*FCH*"), "sub-01,2019-03-02,64,treated,70,M"),
        ("sub-01_ses-2", ("*",), "sub-01,2019-09-02,64,treated,70,M"),
        ("sub-02", ("*",), "sub-02,,,control,84,M"),
    ):
        place, copy = dataset / case.replace("_", "/"), tmp_path / "copy" / case
        copy.mkdir(parents=True)
        sources = {"ct": only(place, "*/*_[cC][tT].nii.gz")}
        masks = dataset / "derivatives/manual" / case.replace("_", "/")
        sources["bones"] = only(masks, "*/*_dseg.nii.gz")
        sources |= {f"pet{n}": only(place, f"pet/{one}_pet.nii.gz") for n, one in enumerate(pets)}
        for name, source in sources.items():
            (copy / f"{name}.nii.gz").write_bytes(source.read_bytes())
        cells = [f"copy/{case}/{name}.nii.gz" for name in ("ct", "bones", "pet0")]
        second = f"copy/{case}/pet1.nii.gz,choline" if len(pets) > 1 else ","
        how = "bqml,200,10:00:00,10:00:00"
        also = how if len(pets) > 1 else ",,,"
        lines.append(f"{case},{','.join(cells)},naf,{second},{tail},{how},{also}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join((f"{head},{said}", *lines)) + "\n", encoding="utf-8")
    assert cli("cohort", table, "-o", tmp_path / "csv", "--workers", 1).status == 0
    for name in ("bones", "hotspots", "indices", "followup", "tracer_pairs", "failures"):
        made = (tmp_path / "bids" / f"{name}.csv").read_bytes()
        assert made == (tmp_path / "csv" / f"{name}.csv").read_bytes()
    # and they say what is known of the made-up patients
    hotspots = rows(tmp_path / "bids/hotspots.csv")
    found = {(one["case"], one["tracer"], one["bone"]): float(one["suv_max"]) for one in hotspots}
    naf = {key: suv for key, suv in found.items() if key[1] == "naf"}
    assert naf == {
        ("sub-01_ses-1", "naf", "L4"): pytest.approx(20),
        ("sub-01_ses-2", "naf", "L4"): pytest.approx(40),
        ("sub-02", "naf", "hip_left"): pytest.approx(24),
        ("sub-02", "naf", "hip_right"): pytest.approx(24),
    }
    (follow,) = rows(tmp_path / "bids/followup.csv")
    assert (follow["course"], follow["days"], follow["total_tlu_ratio"]) == ("progressed", "184", "2")
    assert (tmp_path / "bids/cases/sub-01_ses-1/concordance.csv").is_file()
    assert {one["participant_group"] for one in hotspots} == {"treated", "control"}


def by_case(dataset: Path, output: Path, **more: Any) -> dict[str, CohortRow]:
    return {row.case: row for row in read_bids(dataset, output, **more).rows}


def test_without_derivatives_no_mask_is_taken(dataset: Path, tmp_path: Path):
    found = by_case(dataset, tmp_path / "out")
    assert all(row.files.bones is None for row in found.values())
    assert found["sub-01_ses-2"].files.ct == dataset / "sub-01/ses-2/anat/sub-01_ses-2_CT.nii.gz"
    assert found["sub-02"].files.ct == dataset / "sub-02/pet/sub-02_acq-lowdose_ct.nii.gz"
    assert [one.tracer for one in found["sub-01_ses-1"].files.pet_options] == ["naf", "choline"]
    assert found["sub-02"].kept == (
        ("patient", "sub-02"), ("date", ""), ("age", ""), ("participant_group", "control"),
    )  # fmt: skip


# Data sets of empty files: what is read before anything runs.


def made(ground: Path, *names: str, tracers: dict[str, str] | None = None) -> Path:
    """Empty files of these names; every PET gets a sidecar, with TracerName where `tracers` has its name."""
    for name in names:
        path = ground / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        if "_pet.nii" in name:
            write_sidecar(path, TracerName=(tracers or {}).get(path.name, ""))
    return ground


def findings(ground: Path, **more: Any) -> list[str]:
    with pytest.raises(InputErrors) as refused:
        read_bids(ground, ground.parent / "out", **more)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(f"{ground}: ") for line in lines)
    return [line.removeprefix(f"{ground}: ") for line in lines]


CT, PET = "ct/sub-1_ct.nii.gz", "pet/sub-1_trc-NaF_pet.nii.gz"


def test_all_that_is_ambiguous_is_said_at_once(tmp_path: Path):
    ground = made(
        tmp_path / "data",
        "sub-1/pet/sub-1_run-1_pet.nii.gz",
        "sub-1/pet/sub-1_run-2_pet.nii.gz",
        "sub-1/ct/sub-1_acq-a_ct.nii.gz",
        "sub-1/anat/sub-1_acq-b_ct.nii",
        "sub-2/pet/sub-2_trc-NaF_pet.nii.gz",
        "sub-3/pet/sub-3_trc-NaF_pet.nii.gz",
        "sub-3/pet/sub-3_trc-FCH_pet.nii.gz",
        "sub-3/pet/sub-3_trc-PSMA_pet.nii.gz",
        "sub-3/pet/sub-3_ct.nii.gz",
        "sub-4/pet/sub-4_trc-NaF_pet.nii.gz",
        "sub-4/ct/sub-5_ct.nii.gz",
        "sub-6/pet/sub-6_trc-NaF_pet.nii.gz",
        "sub-6/ct/sub-6_ct.nii.gz",
        "sub-7/pet/sub-7_trc-NaF_pet.nii.gz",
        "sub-7/pet/sub-7_trc-XYZ_pet.nii.gz",
        "sub-7/ct/sub-7_ct.nii.gz",
        tracers={"sub-6_trc-NaF_pet.nii.gz": "choline"},
    )
    (ground / "sub-2/pet/sub-2_trc-NaF_pet.json").unlink()
    said = findings(ground)
    assert [line.partition(": ")[0] for line in said] == [
        "sub-1", "sub-1", "sub-2", "sub-2", "sub-3", "sub-4", "sub-6", "sub-7",
    ]  # fmt: skip
    assert "2 PETs (sub-1_run-1_pet.nii.gz, sub-1_run-2_pet.nii.gz), tracers: unknown, unknown" in said[0]
    assert "2 CTs (sub-1_acq-a_ct.nii.gz, sub-1_acq-b_ct.nii); expected one, or one for each PET" in said[1]
    assert "no sub-2_trc-NaF_pet.json beside it" in said[2]
    assert "no CT (an image that ends in _ct.nii.gz in ct, anat or pet) and no mask" in said[3]
    assert "PETs of 3 tracers" in said[4]
    assert "sub-5_ct.nii.gz: lies in the folder of another subject or session" in said[5]
    assert "its name says naf and TracerName choline; expected one tracer" in said[6]
    assert "tracers: naf, unknown; expected one PET of each tracer" in said[7]


def test_a_file_of_a_session_among_those_of_none(tmp_path: Path):
    ground = made(tmp_path / "data", f"sub-1/{CT}", "sub-1/pet/sub-1_ses-1_trc-NaF_pet.nii.gz")
    (said,) = findings(ground)
    assert said == "sub-1: sub-1_ses-1_trc-NaF_pet.nii.gz: lies in the folder of another subject or session"


def test_several_sessions_need_their_dates(tmp_path: Path):
    names = [f"sub-1/ses-{n}/{part}/sub-1_ses-{n}_{part}.nii.gz" for n in (1, 2) for part in ("ct", "pet")]
    ground = made(tmp_path / "data", *names)
    said = findings(ground)
    assert len(said) == 2
    assert said[0] == (
        "sub-1_ses-1: no acq_time in scans.tsv or sessions.tsv, and sub-1 has several examinations; expected "
        "one for each"
    )
    write_tsv(ground / "sub-1/sub-1_sessions.tsv", "session_id acq_time", "ses-1 2020-01-01", "ses-2 n/a")
    assert [line.partition(":")[0] for line in findings(ground)] == ["sub-1_ses-2"]
    # what stands beside the scans is nearer
    scans = ground / "sub-1/ses-2/sub-1_ses-2_scans.tsv"
    write_tsv(scans, "filename acq_time", "pet/sub-1_ses-2_pet.nii.gz 2020-05-06T07:08:09.5")
    found = read_bids(ground, tmp_path / "out")
    assert [one.date for one in found.visits] == ["2020-01-01", "2020-05-06"]
    scans.write_text(scans.read_text().replace("06T07", "06 07"))  # as many write it
    assert [one.date for one in read_bids(ground, tmp_path / "out").visits] == ["2020-01-01", "2020-05-06"]
    write_tsv(ground / "sub-1/sub-1_sessions.tsv", "session_id acq_time", "ses-1 May", "ses-1 2020-01-01")
    assert "acq_time: 2 rows of one examination; expected one" in findings(ground)[0]


def test_every_tracer_with_a_ct_of_its_own(tmp_path: Path):
    names = [
        f"sub-1/{part}/sub-1_trc-{trc}_{part}.nii.gz" for trc in ("NaF", "FCH") for part in ("ct", "pet")
    ]
    ground = made(tmp_path / "data", *names)
    # without dates: two examinations in one case, as pet2 and ct2 of a table
    (row,) = by_case(ground, tmp_path / "out").values()
    assert row.case == "sub-1"
    assert [one.tracer for one in row.files.pet_options] == ["naf"]
    assert row.files.second is not None
    assert row.files.second.ct == ground / "sub-1/ct/sub-1_trc-FCH_ct.nii.gz"
    # with dates: two cases, which these bring together
    scans = ground / "sub-1/sub-1_scans.tsv"
    lines = ["pet/sub-1_trc-NaF_pet.nii.gz 2020-01-01", "pet/sub-1_trc-FCH_pet.nii.gz 2020-01-09"]
    write_tsv(scans, "filename acq_time", *lines)
    found = by_case(ground, tmp_path / "out")
    assert list(found) == ["sub-1_naf", "sub-1_choline"]
    assert found["sub-1_choline"].files.ct == ground / "sub-1/ct/sub-1_trc-FCH_ct.nii.gz"
    # two dates and one CT: nobody knows how the patient lay at the other
    (ground / "sub-1/ct/sub-1_trc-NaF_ct.nii.gz").unlink()
    assert "PETs of two dates" in findings(ground)[0]


def test_masks_of_a_pipeline_and_whose_labels_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ground = made(tmp_path / "data", f"sub-1/{PET}")
    masks = tmp_path / "data/derivatives/tool"
    made(masks, "sub-1/anat/sub-1_space-ct_dseg.nii.gz")
    with pytest.raises(InputError, match=r"no derivatives/others; expected the name of a pipeline .*: tool"):
        read_bids(ground, tmp_path / "out", "others")
    with pytest.raises(InputError, match="expected the name of a pipeline"):
        read_bids(ground, tmp_path / "out", "../derivatives/tool")

    def files() -> Any:
        (row,) = by_case(ground, tmp_path / "out", derivatives="tool").values()
        return row.files

    assert files().bones == masks / "sub-1/anat/sub-1_space-ct_dseg.nii.gz"
    assert files().labels is None
    write_tsv(masks / "space-ct_dseg.tsv", "index name", "1 L4", "2 hip_left")
    assert files().labels == str(masks / "space-ct_dseg.tsv")
    write_tsv(masks / "sub-1/anat/sub-1_space-ct_dseg.tsv", "index name", "7 L4")
    assert files().labels == str(masks / "sub-1/anat/sub-1_space-ct_dseg.tsv")
    (row,) = by_case(ground, tmp_path / "out", derivatives="tool", labels="totalsegmentator").values()
    assert row.files.labels == "totalsegmentator"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("label,name\n1,T7\n", encoding="utf-8")
    (row,) = by_case(ground, tmp_path / "out", derivatives="tool", labels="mine.csv").values()
    assert row.files.labels == str(tmp_path / "mine.csv")
    write_tsv(masks / "sub-1/anat/sub-1_space-ct_dseg.tsv", "index name", "7 no_bone_at_all")
    (said,) = findings(ground, derivatives="tool")
    assert "1 names are no bone and no organ known: no_bone_at_all" in said
    made(masks, "sub-1/ct/sub-1_desc-other_dseg.nii.gz")
    assert "2 masks (" in findings(ground, derivatives="tool")[0]


def test_a_table_of_labels_of_bids(tmp_path: Path):
    path = tmp_path / "a_dseg.tsv"
    path.write_text(
        "name\tindex\tcolor\nleft, hip\t3\t#ff0000\nT7\t12\t\n".replace("left, hip", "hip_left"), "utf-8"
    )
    table = LabelTable.load(str(path))
    assert dict(table.mapping) == {0: 0, 3: 47, 12: 7}
    path.write_text("number\tname\n1\tT7\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected a table with the columns label,name"):
        LabelTable.load(str(path))


def test_participants(tmp_path: Path):
    ground = made(tmp_path / "data", f"sub-1/{CT}", f"sub-1/{PET}")
    table = ground / "participants.tsv"
    write_tsv(table, "participant_id sex height weight arm group PSA case", "sub-1 f 171 n/a A 2 7.5 x")
    (row,) = by_case(ground, tmp_path / "out").values()
    (said,) = row.files.pet_options
    assert (said.sex, said.weight_kg, said.height_cm) == ("F", None, None)
    assert dict(row.kept) == {
        "patient": "sub-1", "arm": "A", "participant_group": "2", "PSA": "7.5", "participant_case": "x",
    }  # fmt: skip
    write_tsv(table, "participant_id sex", "sub-1 M", "sub-1 F")
    assert findings(ground) == ["participants.tsv: sub-1 has two rows; expected one"]
    table.write_bytes(b"participant_id\tsex\nsub-1\t\xff\n")
    assert findings(ground) == [
        "participants.tsv: cannot be read (UnicodeDecodeError); expected a table of BIDS"
    ]
    # a quotation mark that nobody closed would swallow the rows below it
    table.write_text('participant_id\tnote\nsub-0\t"open\nsub-1\tA\n', encoding="utf-8")
    assert findings(ground) == ["participants.tsv: cannot be read (Error); expected a table of BIDS"]
    with pytest.raises(InputError, match="cannot be read"):
        participant_of(ground / f"sub-1/{PET}")
    write_tsv(table, "participant_id arm arm", "sub-1 A B")
    assert findings(ground) == ["participants.tsv: has the column arm twice; expected it once"]
    write_tsv(table, "participant_id group participant_group", "sub-1 A B")
    assert findings(ground) == [
        "participants.tsv: has the columns group and participant_group; rename one of them"
    ]
    write_tsv(table, "subject arm", "sub-1 A", "sub-2 B")
    assert findings(ground) == [
        "participants.tsv: has no column participant_id; expected it, and tabs between the columns"
    ]
    write_tsv(table, "participant_id arm", "1 A")
    assert read_bids(ground, tmp_path / "out").notes == ("without a row in participants.tsv: sub-1",)


def test_a_sidecar_that_cannot_be_read(tmp_path: Path):
    ground = made(tmp_path / "data", f"sub-1/{CT}", f"sub-1/{PET}")
    (ground / "sub-1/pet/sub-1_trc-NaF_pet.json").write_text("{", encoding="utf-8")
    (said,) = findings(ground)
    assert said.startswith("sub-1: sub-1_trc-NaF_pet.json: not JSON")


def test_a_folder_that_is_no_data_set(tmp_path: Path, cli: Cli):
    done = cli("cohort", tmp_path, "-o", tmp_path / "out")
    assert done.status == 3
    assert "holds no PET (sub-*/pet/*_pet.nii.gz" in done.err
    table = tmp_path / "t.csv"
    table.write_text("case,ct,pet\n", encoding="utf-8")
    assert cli("cohort", table, "-o", tmp_path / "out", "--derivatives", "x").status == 2
    with pytest.raises(InputError, match="holds no case"):
        read_cohort(table, tmp_path / "out")


def test_who_has_no_pet_is_told(tmp_path: Path):
    names = (f"sub-1/ses-a/{kind}/sub-1_ses-a_{kind}.nii.gz" for kind in ("ct", "pet"))
    more = ("sub-1/ses-b/ct/sub-1_ses-b_ct.nii.gz", "sub-2/ct/sub-2_ct.nii.gz")
    found = read_bids(made(tmp_path / "data", *names, *more), tmp_path / "out")
    assert [row.case for row in found.rows] == ["sub-1_ses-a"]
    assert found.notes == ("without a PET, left out: sub-1_ses-b, sub-2",)


def test_results_within_the_data_set(tmp_path: Path):
    ground = made(tmp_path / "data", f"sub-1/{CT}", f"sub-1/{PET}")
    assert len(read_bids(ground, ground / "derivatives/petbone").rows) == 1
