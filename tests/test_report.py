"""The page of one case: complete, honest about gaps, safe against what the tables contain."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from petbone.anatomy import BONES, BY_NAME, LOW_CONFIDENCE, colour
from petbone.case import CaseResult, PetResult
from petbone.report import privacy, tables
from petbone.report.backdrop import backdrop
from petbone.report.case import render
from petbone.volume import Grid, Unit, Volume

VOID = {"meta", "br", "link", "img", "hr", "input"}
BOXES = {  # (x, y, z) from and to, RAS mm: right is +x
    "T5": ((-15, -30, 60), (15, 0, 85)),
    "T6": ((-15, -30, 30), (15, 0, 55)),
    "rib_right_5": ((40, -30, 50), (90, -20, 62)),
    "rib_left_5": ((-90, -30, 50), (-40, -20, 62)),
    "femur_left": ((-60, -20, -100), (-30, 10, -40)),
}
HOSTILE = '<script>alert("x")</script>&amp;'


class Page(HTMLParser):
    """A strict reading: every tag closes the one that was opened last."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data.strip()

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if name in row)


def painted(grid: Grid, values: dict[str, float], fill: float, dtype: type) -> np.ndarray:
    world = grid.mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    data = np.full(grid.shape, fill, dtype)
    for name, (low, high) in BOXES.items():
        if name in values:
            data[((world >= low) & (world <= high)).all(axis=-1)] = values[name]
    return data


def bone_table() -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for bone in BONES:
        row: dict[str, Any] = {"id": bone.id, "name": bone.name, "side": bone.side, "group": bone.group}
        status = "absent" if bone.name not in BOXES else "cut" if bone.name == "femur_left" else "complete"
        row["status"] = status
        if status != "absent":
            row |= {"seen_fraction": 0.31 if status == "cut" else 1.0, "volume_ml": 22.5, "suv_mean": 1.25}
            row |= {"suv_max": 17.0 if bone.name == "T5" else 2.0, "hotspot_count": int(bone.name == "T5")}
            row |= {"hotspot_volume_ml": 1.0 if bone.name == "T5" else 0.0}
        rows.append(row)
    return pd.DataFrame(rows).astype({"hotspot_count": "Int64"})


def pet_result(tracer: str = "naf", hot: bool = True) -> PetResult:
    grid = Grid((64, 32, 56), np.array([[-4.0, 0, 0, 126], [0, 4, 0, -62], [0, 0, 4, -108], [0, 0, 0, 1]]))
    suv = painted(grid, dict.fromkeys(BOXES, 1.5), 0.2, np.float32)
    numbers = np.zeros(grid.shape, np.int32)
    i, j, k = np.rint(grid.ijk((0, -16, 72))).astype(int)
    if hot:
        suv[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 17
        numbers[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 1
    spot = {
        "hotspot": 1,
        "bone": "T5",
        "volume_ml": 1.728,
        "suv_max": 17.0,
        "x_mm": 0.0,
        "y_mm": -16.0,
        "z_mm": 72.0,
    }
    index = {"index": "PET15", "value": 1.536, "unit": "%", "numerator_ml": 1.728, "denominator_ml": 112.5}
    index |= {"denominator_seen_fraction": 0.11, "threshold": 15.0, "operator": ">=", "bones": "skeleton_49"}
    index |= {"connectivity": 26, "reference": "Somebody 2017", "note": "SUV 15 finds half of the lesions."}
    mean = {"index": "skeletal_suv_mean", "value": 1.25, "unit": "g/mL", "denominator_ml": 112.5}
    return PetResult(
        tracer,
        Volume(suv, grid, Unit.SUV),
        Volume(numbers, grid, Unit.LABEL),
        bone_table(),
        pd.DataFrame([spot] if hot else [], columns=list(spot)),
        pd.DataFrame([index, mean]),
        {
            "suv": {"factor": 0.000213, "rule": "SUVbw", "assumptions": [], "tags": {"PatientWeight": 78.0}},
            "rule": {"name": "PET15", "threshold": 15.0, "operator": ">=", "bones": tuple(range(1, 50))},
            "definitions": {"suv_max": "highest SUV of the voxels that are at least half bone"},
        },
    )


def case(**changes: Any) -> CaseResult:
    grid = Grid((110, 60, 60), np.array([[2.0, 0, 0, -109], [0, 2, 0, -59], [0, 0, 4, -108], [0, 0, 0, 1]]))
    bones = painted(grid, {name: BY_NAME[name].id for name in BOXES}, 0, np.uint8)
    ct = np.where(bones > 0, 700, -1000).astype(np.int16)
    provenance = {
        "petbone": "0.1.0",
        "versions": {"numpy": "2.4"},
        "inputs": {"ct": {"path": "/data/Doe_Jane/ct.nii.gz", "sha256": "ab" * 32}},
        "options": {"threads": 2},
        "steps": [{"name": "measure", "seconds": 1.25, "peak_memory_mb": 612.4}],
        "assumptions": [],
    }
    whole = CaseResult(
        Volume(ct, grid, Unit.HU), Volume(bones, grid, Unit.LABEL), (pet_result(),), (), provenance
    )
    return replace(whole, **changes)


def picture(page: Page, name: str) -> np.ndarray:
    uri = next(a["href"] for tag, a in page.tags if tag == "image" and a.get("id") == name)
    assert uri is not None
    code = base64.b64decode(uri.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(code)).convert("RGBA")).astype(int)


ODDITIES: dict[str, Any] = {
    "usual": lambda: case(),
    "no hotspots": lambda: case(pets=(pet_result(hot=False),)),
    "no CT": lambda: case(ct=None),
    "no PET": lambda: case(pets=()),
    "two PETs": lambda: case(pets=(pet_result(), pet_result("choline"))),
    "many warnings": lambda: case(warnings=tuple(f"Warning {n} of many." for n in range(300))),
    "nothing recorded": lambda: case(provenance={}, pets=(replace(pet_result("other"), facts={}),)),
    "no bones": lambda: case(
        bones=case().bones.with_data(np.zeros(case().bones.grid.shape, np.uint8)),
        pets=(replace(pet_result(), bone_table=bone_table().assign(status="absent")),),
    ),
    "empty tables": lambda: case(
        pets=(replace(pet_result(hot=False), index_table=pet_result().index_table.iloc[:0]),)
    ),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_the_page_is_whole_and_needs_nothing_from_outside(name: str) -> None:
    html = render(ODDITIES[name]())
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "img")
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
    assert not re.search(
        r"https?:|//[a-z]|url\(|@import", re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    )
    names = {a["id"] for _, a in page.tags if a.get("id")}
    for tag, attributes in page.tags:
        if tag in ("use", "a"):
            assert (attributes["href"] or "")[1:] in names
    assert len(html) < 2e6


def test_ids_are_unique_and_sizes_are_in_proportion() -> None:
    page = Page(render(ODDITIES["two PETs"]()))
    names = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(names) == len(set(names))
    for tag, attributes in page.tags:
        if tag == "image":
            rows, columns = picture(page, attributes["id"] or "").shape[:2]
            ratio = float(attributes["width"] or 0) / float(attributes["height"] or 0)
            assert ratio == pytest.approx(columns / rows, rel=1e-3)


def test_rendering_again_gives_the_same_bytes() -> None:
    assert render(case()) == render(case())


def test_names_and_warnings_cannot_inject() -> None:
    pet = pet_result(HOSTILE)
    hostile = replace(
        pet,
        hotspot_table=pet.hotspot_table.assign(bone=HOSTILE, **{HOSTILE: HOSTILE}),
        bone_table=pet.bone_table.replace("T5", HOSTILE),
        index_table=pet.index_table.assign(note=HOSTILE, index=HOSTILE),
        facts={
            "suv": {"rule": HOSTILE, HOSTILE: 1},
            "rule": {"name": HOSTILE},
            "definitions": {HOSTILE: HOSTILE},
        },
    )
    html = render(
        case(
            pets=(hostile,), warnings=(HOSTILE,), provenance={HOSTILE: HOSTILE, "steps": [{"name": HOSTILE}]}
        )
    )
    page = Page(html)
    assert HOSTILE in page.words
    assert html.count("<script>") == 1
    assert "alert(" not in html.rsplit("<script>", 1)[1]


def test_absent_bones_have_dashes_even_where_the_table_says_zero() -> None:
    table = bone_table()
    table.loc[table["status"] == "absent", ["volume_ml", "suv_mean", "suv_max"]] = 0.0
    page = Page(render(case(pets=(replace(pet_result(), bone_table=table),))))
    rows = [row for row in page.rows if "absent" in row]
    assert len(rows) == len(BONES) - len(BOXES)
    for row in rows:
        assert set(row[5:]) == {tables.GAP}
    assert "57 bones were not found, being outside the field of view or missed" in page.words


def test_cold_is_zero_and_cut_is_marked() -> None:
    page = Page(render(case()))
    assert page.row("T6")[5:] == ["1.00", "22.50", "1.25", "2.00", "0", "0.00"]
    assert page.row("femur_left")[4:6] == ["cut", "0.31"]
    assert any(tag == "tr" and a.get("class") == "cut" for tag, a in page.tags)


def test_the_side_through_which_a_bone_is_cut_stands_with_its_status() -> None:
    table = bone_table().assign(cut_by="")
    table.loc[table["name"] == "femur_left", "cut_by"] = "inferior"
    page = Page(render(case(pets=(replace(pet_result(), bone_table=table),))))
    assert page.row("femur_left")[4] == "cutinferior"


def test_the_headline_is_the_index_of_the_tracer() -> None:
    words = Page(render(case())).words
    assert re.search(
        r"PET15 1\.54 % SUV ≥ 15, of 112 mL of bone seen SUV 15 finds half of the lesions", words
    )
    assert "hotspots 1 1.73 mL together, by the rule of PET15" in words
    assert "seen of the 49 bones 11 % by volume; 4 complete, 0 cut, 45 absent" in words
    other = Page(render(case(pets=(pet_result("fdg"),)))).words
    assert "skeletal SUVmean 1.25 g/mL" in other
    assert "bones seen 4 of 49" in other


def test_flags_are_short_and_the_headline_says_the_value_without_them() -> None:
    text = "disc: 71 % of its uptake within 8 mm of the endplates of T5 and T6; spill-in from kidney: SUV 9.0"
    pet = pet_result()
    flagged = {"value_unflagged": [0.25, None], "flagged_hotspots": [1, None], "flagged_ml": [1.4, None]}
    pet = replace(
        pet,
        hotspot_table=pet.hotspot_table.assign(flags=text),
        index_table=pet.index_table.assign(**flagged),
    )
    page = Page(render(case(pets=(pet,))))
    assert "disc, spill-in from kidney" in next(row for row in page.rows if "T5" in row and row[0] == "1")
    assert "endplates of" not in page.words  # names of bones may be unsure
    assert "SUV ≥ 15, of 112 mL of bone seen, 0.25 without flagged hotspots" in page.words
    assert "by the rule of PET15, 1 flagged by place" in page.words
    assert any("without flagged" in cell for row in page.rows for cell in row)
    # Where nothing is flagged nothing is said.
    same = {"value_unflagged": [1.536, None], "flagged_hotspots": [0, None], "flagged_ml": [0.0, None]}
    quiet = pet_result()
    quiet = replace(
        quiet,
        hotspot_table=quiet.hotspot_table.assign(flags=None),
        index_table=quiet.index_table.assign(**same),
    )
    assert "flagged" not in Page(render(case(pets=(quiet,)))).words.split("Definitions")[0]


def test_a_guess_is_prominent_and_said_once() -> None:
    guess = "The PET has no unit and was taken as SUV."
    pet = pet_result()
    pet = replace(pet, facts=pet.facts | {"suv": {"factor": 1, "assumptions": [guess]}})
    html = render(case(pets=(pet,), warnings=(guess, "Something else."), provenance={"assumptions": [guess]}))
    page = Page(html)
    assert any("guessed" in (a.get("class") or "") for _, a in page.tags)
    band = page.words.split("Guessed, not read from the input", 1)[1].split("PET15", 1)[0]
    assert band.count(guess) == 1
    assert "Something else." in band
    quiet = Page(render(case()))
    assert not any("guessed" in (a.get("class") or "").split() for _, a in quiet.tags)


def test_the_patients_right_is_on_the_left() -> None:
    page = Page(render(case()))
    image = picture(page, "bones-coronal")
    hue = {
        n: np.array(colour(BY_NAME[n].id)) / max(colour(BY_NAME[n].id)) for n in ("rib_right_5", "rib_left_5")
    }
    bright = image[..., :3].max(axis=-1)
    shade = image[..., :3] / np.maximum(bright, 1)[..., None]
    columns = {}
    for name, want in hue.items():
        found = (bright > 60) & (np.abs(shade - want).max(axis=-1) < 0.08)
        assert found.sum() > 50
        columns[name] = np.nonzero(found)[1].mean()
    assert columns["rib_right_5"] < image.shape[1] / 2 < columns["rib_left_5"]
    labelled = [dict(a) for tag, a in page.tags if tag == "svg" and "coronal" in (a.get("aria-label") or "")]
    assert len(labelled) == 3
    assert all("R on the left, L on the right, head at the top" in (a["aria-label"] or "") for a in labelled)


def test_the_marks_stand_at_their_ends() -> None:
    html = render(case())
    coronal = re.search(r'<svg [^>]*aria-label="coronal CT.*?</svg>', html, re.DOTALL)
    sagittal = re.search(r'<svg [^>]*aria-label="sagittal CT.*?</svg>', html, re.DOTALL)
    assert coronal is not None
    assert sagittal is not None
    for drawing, start, end in ((coronal[0], "R", "L"), (sagittal[0], "A", "P")):
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawing)[1])
        at = {m[2]: float(m[1]) for m in re.finditer(r'<text x="([\d.]+)"[^>]*>([RLAPHF])</text>', drawing)}
        assert at[start] < 0.1 * width
        assert at[end] > 0.9 * width
        assert {"H", "F"} <= set(at)


def test_the_hotspot_is_on_its_vertebra_in_all_pictures() -> None:
    page = Page(render(case()))
    for view in ("coronal", "sagittal"):
        hot, bones = picture(page, f"hot1-{view}"), picture(page, f"bones-{view}")
        pet, ct = picture(page, f"pet1-{view}"), picture(page, f"ct-{view}")
        assert hot.shape == bones.shape == pet.shape == ct.shape
        rows, columns = np.nonzero(hot[..., 3])
        row, column = int(rows.mean()), int(columns.mean())
        assert pet[row, column, 0] < 60  # SUV 17 of 20, inverted
        assert ct[row, column, 0] > 100  # bone
        want = np.array(colour(BY_NAME["T5"].id))
        got = bones[row, column, :3]
        assert np.abs(got / got.max() - want / want.max()).max() < 0.1


def test_two_pets_have_a_section_each() -> None:
    page = Page(render(ODDITIES["two PETs"]()))
    assert {"pet1", "pet2"} <= {a.get("id") for tag, a in page.tags if tag == "section"}
    assert "18F-NaF and choline PET/CT" in page.words
    assert sum(tag == "image" and (a.get("id") or "").startswith("ct-") for tag, a in page.tags) == 2


def test_no_path_no_date_no_name() -> None:
    tags = {
        "PatientName": "Doe^Jane",
        "SeriesDate": "20190312",
        "start": "20190312104533.00",
        "ScanTime": "104533",
    }
    pet = pet_result()
    pet = replace(pet, facts=pet.facts | {"suv": {"tags": tags}})
    html = render(
        case(pets=(pet,), warnings=("The file /data/Doe_Jane/pet.nii.gz of 2019-03-12 has no unit.",))
    )
    for secret in ("Doe", "/data", "20190312", "2019-03-12"):
        assert secret not in html
    assert "104533" in html  # the time of day is what the SUV rests on
    assert "ab" * 32 in html


def test_steps_and_definitions_are_printed() -> None:
    page = Page(render(case()))
    assert page.row("measure") == ["measure", "1.2", "612"]
    assert page.row("suv_max") == ["suv_max", "highest SUV of the voxels that are at least half bone"]
    assert page.row("denominator_ml")[1]


def test_unknown_columns_are_shown_too() -> None:
    pet = pet_result()
    page = Page(render(case(pets=(replace(pet, hotspot_table=pet.hotspot_table.assign(novel_ml=3.14159)),))))
    assert "3.14" in page.row("T5") or any("3.14" in row for row in page.rows)
    assert any("novel_ml" in (a.get("title") or "") for tag, a in page.tags if tag == "th")


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("hotspot_table", "hotspot"),
        ("bone_table", "status"),
        ("bone_table", "name"),
        ("index_table", "index"),
    ],
)
def test_a_table_without_its_key_is_refused(table: str, column: str) -> None:
    pet = pet_result()
    broken = replace(pet, **{table: getattr(pet, table).drop(columns=column)})
    with pytest.raises(ValueError, match=f"has no column {column}"):
        render(case(pets=(broken,)))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 2, "–"),
        (pd.NA, "whole", "–"),
        (float("inf"), 2, "–"),
        ("  ", "text", "–"),
        (-54.4, 0, "−54"),
        (0, "whole", "0"),
        (1e-9, 2, "< 0.01"),
        (12345.678, "three", "12346"),
        (0.004567, "three", "0.00457"),
        (True, "text", "True"),
    ],
)
def test_numbers_as_they_are_printed(value: Any, digits: int | str, text: str) -> None:
    assert tables.shown(value, digits) == text


@pytest.mark.parametrize(
    "text",
    [
        "SUV in g/mL",
        "EJNMMI Res 7:15",
        "doi 10.1016/j.ejrad.2019.01.028",
        "SUV >= 15",
        "dose 253000000 Bq",
        "2.5/mL",
    ],
)
def test_plain_words_pass_unchanged(text: str) -> None:
    assert privacy.plain(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "/home/doe/ct",
        "C:\\Doe\\ct",
        "\\\\server\\doe",
        "./doe/ct.dcm",
        "doe.nii.gz",
        "~/doe/x",
        "file:///doe",
    ],
)
def test_paths_do_not_pass(text: str) -> None:
    assert "doe" not in privacy.plain(f"read {text} well").lower()
    assert privacy.plain(f"read {text} well").endswith("well")


def test_a_nested_record_becomes_rows() -> None:
    record = {"a": {"b": 1.5, "path": "/x/y"}, "c": [{"d": "e"}, {"d": None}], "n": (1, 2, 3, 4, 5, 6, 7, 9)}
    assert list(privacy.facts(record)) == [("a.b", "1.5"), ("c 1.d", "e"), ("c 2.d", "–"), ("n", "1–7, 9")]


UNSURE: dict[str, tuple[float, list[str]]] = {
    "T5": (0.3, ["T5", "T4", "T6"]),
    "T6": (0.9, ["T6", "T7"]),
    "rib_right_5": (0.49, ["rib_right_5", "rib_right_6", "rib_right_4"]),
    "rib_left_5": (0.2, ["rib_left_5"]),
    "femur_left": (0.1, ["femur_left"]),
}


def unsure_case(candidates: bool = True) -> CaseResult:
    """The case with bones whose names the net does not know, and a hotspot that two of them share."""
    table = bone_table()
    table["name_confidence"] = [UNSURE[name][0] if name in UNSURE else None for name in table["name"]]
    pet = pet_result()
    spots = pet.hotspot_table.assign(
        name_confidence=0.3, other_bones="rib_right_5:0.24 T6:0.10 rib_left_5:0.01"
    )
    pet = replace(pet, bone_table=table, hotspot_table=spots)
    names = {name: {"confidence": sure, "may_be": may_be} for name, (sure, may_be) in UNSURE.items()}
    may_be = {BY_NAME[name].id: tuple(BY_NAME[n].id for n in others) for name, (_, others) in UNSURE.items()}
    return case(
        pets=(pet,),
        provenance=case().provenance | {"names": names},
        candidates=may_be if candidates else None,
    )


def marks_on(html: str, view: str) -> list[str]:
    drawing = re.search(rf'<svg [^>]*aria-label="{view} bones.*?</svg>', html, re.DOTALL)
    assert drawing is not None
    marks = re.search(r'<g class="marks.*?</g>', drawing[0], re.DOTALL)
    assert marks is not None
    return re.findall(r"<text [^>]*>([^<]*)</text>", marks[0])


def test_a_name_more_likely_wrong_than_right_is_withheld() -> None:
    html = render(unsure_case())
    page = Page(html)
    cells = [cell for row in page.rows for cell in row]
    source = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    for name in ("T5", "rib_right_5", "rib_left_5", "femur_left"):
        assert name not in cells
        # Nowhere else on the page either, not even in what only the sorting of a table reads.
        assert not re.search(rf"\b{name}\b", source)
    assert {row[1] for row in page.rows if len(row) > 5 and row[0] in ("5", "22", "34", "61")} == {
        "T4-T6",
        "left rib, number unsure",
        "rib_right 4-6",
        "bone, name unsure",
    }
    assert page.row("T6")[:3] == ["6", "T6", ""]  # sure enough
    # Side and group are said as far as they are known.
    assert next(row for row in page.rows if row[:2] == ["5", "T4-T6"])[2:4] == ["", "thoracic"]
    assert page.row("rib_right 4-6")[2:4] == ["right", "ribs"]
    assert page.row("left rib, number unsure")[2:4] == ["left", "ribs"]
    assert page.row("bone, name unsure")[2:4] == ["", tables.GAP]


def test_a_hotspot_names_no_unsure_bone() -> None:
    page = Page(render(unsure_case()))
    spot = next(row for row in page.rows if row[0] == "1" and "1.73" in row)
    assert spot[1] == "T4-T6"
    assert "rib_right 4-6:0.24; T6:0.10; left rib, number unsure:0.01" in spot


def test_pictures_say_the_range_in_short() -> None:
    html = render(unsure_case())
    assert sorted(marks_on(html, "coronal")) == ["4-6?", "?", "T4-6?", "T6"]
    assert sorted(marks_on(html, "sagittal")) == ["T4-6?", "T6"]
    assert "A range with a question mark" in Page(html).words
    sure = render(case())
    assert sorted(marks_on(sure, "coronal")) == ["5", "5", "T5", "T6"]
    assert "question mark" not in Page(sure).words


def test_without_candidates_the_family_is_said() -> None:
    page = Page(render(unsure_case(candidates=False)))
    assert [row[0] for row in page.rows if "vertebra, level unsure" in row] == ["1", "5"]  # hotspot, bone
    assert page.row("right rib, number unsure")[2] == "right"
    assert not any(name in row for row in page.rows for name in ("T5", "T5?", "rib_right_5"))


def test_a_bone_that_an_unsure_one_may_be_is_not_plainly_absent() -> None:
    page = Page(render(unsure_case()))
    assert page.row("T4")[4] == "absentor one of unsure name"
    assert page.row("T8")[4] == "absent"
    assert Page(render(case())).row("T4")[4] == "absent"


def test_the_threshold_is_sure_enough_and_a_mask_made_elsewhere_is_taken_at_its_word() -> None:
    pet = pet_result()
    less = LOW_CONFIDENCE - 1e-4
    for sure, said in ((LOW_CONFIDENCE, "T5"), (less, "vertebra, level unsure"), (None, "T5")):
        spots = pet.hotspot_table.assign(name_confidence=sure)
        whole = case(pets=(replace(pet, hotspot_table=spots),))
        rows = tables.hotspot_table(spots, {}, tables.unsure_bones(whole)).rows
        assert rows[0].cells[1].text == said


def test_bones_of_matches_are_not_shown_by_an_unsure_name():
    table = pd.DataFrame({"tracer_1": ["naf"], "relation": ["matched"], "bone_1": ["T6"], "bone_2": ["L3"]})
    shown = tables.plain_table(table, tables.MATCH_COLUMNS, {6: (5, 6, 7)})
    assert [column.name for column in shown.columns] == ["tracer_1", "relation", "bone_1", "bone_2"]
    assert [cell.text for cell in shown.rows[0].cells] == ["naf", "matched", "T5-T7", "L3"]


def drawn(result: CaseResult) -> CaseResult:
    """With the pictures that are drawn while a case is measured."""
    pets = [(pet.tracer, pet.suv) for pet in result.pets]
    return replace(result, backdrop=backdrop(result.ct, result.bones, pets))


@pytest.mark.parametrize("which", ["usual", "no hotspots", "no CT", "no PET", "two PETs"])
def test_pictures_drawn_beforehand_make_the_same_page(which):
    result = ODDITIES[which]()
    assert render(drawn(result)) == render(result)


def test_a_pet_that_was_moved_since_is_drawn_where_it_lies():
    result = case()
    before = drawn(result)
    pet = result.pets[0]
    motion = np.eye(4)
    motion[0, 3] = 12.0
    grid = Grid(pet.suv.grid.shape, motion @ pet.suv.grid.mm_from_ijk)
    moved = (replace(pet, suv=replace(pet.suv, grid=grid), hotspots=replace(pet.hotspots, grid=grid)),)
    assert render(replace(before, pets=moved)) == render(replace(result, pets=moved))
    assert render(replace(before, pets=moved)) != render(before)
