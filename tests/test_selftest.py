"""The self-test: every case passes, a wrong answer is noticed, and docs/suv.md says what the cases say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petbone import selftest
from petbone.cli import app
from petbone.selftest import CASES, VendorCase, check_case, check_installation

PLAIN = CASES[0]
REFUSED = next(case for case in CASES if case.refusal)
NONE = next(case for case in CASES if case.name == "DecayCorrection NONE")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: VendorCase) -> None:
    verdict = check_case(case)
    assert verdict.passed, f"expected {verdict.expected}, found {verdict.found}"


@pytest.mark.parametrize(
    "case",
    [
        replace(PLAIN, factor=(PLAIN.factor or 0) * (1 + 1e-5)),
        replace(PLAIN, factor=None, refusal="Units"),
        replace(REFUSED, refusal="another reason"),
        replace(REFUSED, factor=1.0, refusal=""),
        replace(NONE, shares=(1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_wrong_answers_are_noticed(case: VendorCase) -> None:
    assert not check_case(case).passed


def test_document_says_what_the_cases_say() -> None:
    text = (Path(__file__).parents[1] / "docs" / "suv.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.count("|") == 5][2:]
    expected = [
        f"| {c.name} | {c.does} | {c.source} | {'refused' if c.factor is None else format(c.factor, '.9g')} |"
        for c in CASES
    ]
    assert rows == expected


def test_installation() -> None:
    by_name = {verdict.name: verdict for verdict in check_installation()}
    assert by_name["weights, SHA-256"].passed


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "check_installation", list)
    done = CliRunner().invoke(app, ["selftest"])
    assert done.exit_code == 0
    assert f"{len(CASES)} of {len(CASES)} as expected" in done.stdout
    monkeypatch.setattr(selftest, "CASES", (replace(PLAIN, factor=1.0),))
    done = CliRunner().invoke(app, ["selftest", "--quiet"])
    assert done.exit_code == 1
    assert done.stdout.startswith("WRONG")
