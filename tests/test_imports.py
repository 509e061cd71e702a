"""Imports point one way; torch is paid for by the network alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "petbone"

# From the bottom up: a module may import from its own line and from those above it, never from below.
LAYERS = [
    {
        "errors",
        "beside",
        "volume",
        "anatomy",
        "label_counts",
        "steps",
        "components",
        "repeatability",
        "agreement",
        "outliers",
    }
    | {"pairing", "bland_altman", "reliability", "method_comparison", "group_comparison"},
    {
        "body",
        "suv",
        "labels",
        "resample",
        "thinned",
        "peak",
        "partial_volume",
        "audit",
        "metrics",
        "surfaces",
    },
    {"shift", "tissues", "pose", "bone_shift", "register", "alignment", "nearby", "places", "lattice"}
    | {"label_doubts"},
    {"io"},
    {"net", "foci", "background", "hotspots", "completeness", "endplates", "joints", "spill"},
    {"whole", "benign", "burden", "indices", "matching", "bone_motion", "case"},
    {"followup", "sensitivity", "validation", "detection", "detection_figures"},
    {"validation_tables", "validation_notes"},
    {"validation_words", "worst_cases", "readings"},
    {"change", "change_words", "comparison", "misnamed"},
    {"report", "cohort_quality", "phantom", "measure"},
    {"folders", "pipeline", "examination", "results", "selftest", "followup_files"},
    {"cohort_dates", "typed_table", "cohort_columns"},
    {"cohort_table"},
    {"cohort_case", "done_case", "cohort_compare"},
    {"cohort_bids", "cohort_workers", "cohort_followup", "cohort_patients", "cohort_groups"}
    | {"cohort_review", "cohort_page", "cohort_results", "progress"},
    {"cohort"},
    {"mask_files"},
    {"validation_files", "readings_files", "detection_files"},
    {"cli", "cli_cohort", "cli_compare", "cli_validate", "cli_validate_hotspots", "cli_options"},
]
MAY_IMPORT_TORCH = {"net", "selftest"}
MAY_IMPORT_TYPER = {
    "cli", "cli_cohort", "cli_compare", "cli_validate", "cli_validate_hotspots", "cli_options"
}  # fmt: skip
MAY_IMPORT_SIMPLEITK = {"io"}
# steps: the memory that Linux says is free
MAY_TAKE_PATHS = {
    "io", "folders", "pipeline", "examination", "results", "followup_files", "mask_files",
    "validation_files", "readings_files", "cli", "cli_compare", "cli_validate", "cli_options", "labels",
    "net", "steps", "selftest", "pairing", "detection_files", "cli_validate_hotspots",
    "cohort", "cohort_case", "cohort_results", "cohort_table", "cohort_workers", "cli_cohort",
    "typed_table", "cohort_columns", "done_case", "cohort_compare", "cohort_followup", "cohort_bids",
    "cohort_patients", "cohort_groups", "cohort_review", "cohort_page",
}  # fmt: skip

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def unit_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    """Everything a module imports anywhere in it, but for what only type checkers read."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_layer():
    placed = set().union(*LAYERS)
    assert {unit_of(module) for module in MODULES} - {"__init__"} == placed


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_upwards(module):
    if unit_of(module) == "__init__":
        assert not imports(module)
        return
    level = next(n for n, units in enumerate(LAYERS) if unit_of(module) in units)
    allowed = set().union(*LAYERS[: level + 1])
    used = {name.split(".")[1] for name in imports(module) if name.startswith("petbone.")}
    assert used & set().union(*LAYERS) <= allowed


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_heavy_packages_stay_where_they_belong(module):
    top = {name.split(".")[0] for name in imports(module)}
    unit = unit_of(module)
    assert "torch" not in top or unit in MAY_IMPORT_TORCH
    assert "typer" not in top or unit in MAY_IMPORT_TYPER
    assert "SimpleITK" not in top or unit in MAY_IMPORT_SIMPLEITK
    assert "pathlib" not in top or unit in MAY_TAKE_PATHS


def test_help_and_the_bare_package_do_not_pay_for_numbers():
    code = (
        "import sys, petbone, petbone.cli; "
        "print([m for m in ('torch', 'pandas', 'numpy', 'nibabel', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
