from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from case_fixtures import prepared, write_patient
from net_fixtures import tiny_anatomy
from petbone import cli
from petbone.errors import InputError
from petbone.net.loop import load_checkpoint
from petbone.net.recipe import RunOptions, parse_recipe, train_from
from petbone.net.weights import load_weights
from petbone.report.curves import training_curves

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
CONFIG = """
[synthetic]
anatomies = ["{folder}/anatomies"]

[synthetic.variation]
sizes_x = [32]
sizes_y = [32]
sizes_z = [32]
z_low_mm = 100
z_high_mm = 220.0
z_usual_mm = [150.0]
crop_share = 0.0

[cases]
folder = "{folder}/cases"
labels = "petbone"
share = 0.5

[cases.variation]
sizes_x = [32]
sizes_y = [32]
sizes_z = [32]

[training]
steps = 4
workers = 0
warm_up_steps = 2
log_every = 1
save_every = 2

[net]
stem = 4
widths = [8, 16]
fine = 4
groups = 4
"""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def config(tmp_path) -> Path:
    """A mixed run of four steps: a made-up anatomy and a made-up patient."""
    (tmp_path / "anatomies").mkdir()
    tiny_anatomy().save(tmp_path / "anatomies" / "tiny.npz")
    write_patient(tmp_path / "cases" / "anna")
    path = tmp_path / "mixed.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_leaves_what_it_promises_and_goes_on(tmp_path, config):
    out = tmp_path / "run"
    said = invoke("train", config, "--out", out, "--device", "cpu")
    assert "reading anna" in said
    assert "1 anatomies, 1 real cases, share 0.5" in said
    assert f"weights: {out}/bones.safetensors" in said
    kept = {path.name for path in out.iterdir()}
    assert kept == {"bones.safetensors", "cases", "checkpoint.pt", "config.toml", "log.csv", "log.png"}
    assert (out / "config.toml").read_text() == config.read_text()
    with Image.open(out / "log.png") as picture:
        assert picture.size == (900, 750)
    state = load_checkpoint(out / "checkpoint.pt", CPU)
    net, _ = load_weights(out / "bones.safetensors", CPU)
    for name, value in net.state_dict().items():
        assert torch.allclose(value, state["average"][name], rtol=1e-3, atol=1e-6)
    assert state["step"] == 4
    # Two more steps of the same run: nothing is read again.
    config.write_text(config.read_text().replace("steps = 4", "steps = 6"))
    said = invoke("train", config, "--out", out, "--device", "cpu")
    assert "going on in" in said
    assert "reading" not in said
    assert load_checkpoint(out / "checkpoint.pt", CPU)["step"] == 6
    assert len((out / "log.csv").read_text().splitlines()) == 7


def test_a_run_from_the_weights_of_another(tmp_path, config):
    first = train_from(config, tmp_path / "a")
    said: list[str] = []
    train_from(config, tmp_path / "b", RunOptions(1e-9, start_from=first), say=said.append)
    assert said[-1].startswith("step 1,")
    with pytest.raises(InputError, match="no such file; expected a checkpoint"):
        train_from(config, tmp_path / "c", RunOptions(start_from=tmp_path / "none.pt"))


def test_prepared_cases_travel_to_a_machine_that_reads_no_images(tmp_path, config, monkeypatch):
    (tmp_path / "travelled").mkdir()
    prepared(tmp_path / "travelled" / "anna.npz")
    config.write_text(config.read_text().replace(f"{tmp_path}/cases", f"{tmp_path}/travelled"))
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "petbone.io", None)
    train_from(config, tmp_path / "run")
    assert not {"nibabel", "SimpleITK"} & (set(sys.modules) - before)


def test_refused_folders(tmp_path, config):
    with pytest.raises(InputError, match="cannot be read"):
        train_from(tmp_path / "none.toml", tmp_path / "run")
    with pytest.raises(InputError, match="minutes must be above 0, got 0"):
        train_from(config, tmp_path / "run", RunOptions(minutes=0))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mail.txt").write_text("dear")
    with pytest.raises(InputError, match="holds other files"):
        train_from(config, tmp_path / "letters")
    with pytest.raises(InputError, match="is a file"):
        train_from(config, tmp_path / "letters" / "mail.txt")
    (tmp_path / "anatomies" / "tiny.npz").unlink()
    with pytest.raises(InputError, match="no anatomies"):
        train_from(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_own_settings_only(tmp_path, config):
    train_from(config, tmp_path / "run")
    for old, new, what in (
        ("share = 0.5", "share = 0.4", "share"),
        ("warm_up_steps = 2", "warm_up_steps = 3", "training"),
        ('labels = "petbone"', 'labels = "petbone"\nannotated = ["L4"]', "annotated"),
    ):
        other = tmp_path / "other.toml"
        other.write_text(config.read_text().replace(old, new))
        with pytest.raises(InputError, match=f"other settings \\({what}\\)"):
            train_from(other, tmp_path / "run")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[training]", "[training", "no TOML"),
        ("[training]", "[train]\n[training]", "unknown key train; known are training, net"),
        ("steps = 4", "step = 4", r"\[training\]: unknown key step; known are steps"),
        ("share = 0.5", "part = 0.5", r"\[cases\]: unknown key part"),
        ("anatomies =", "folder =", r"\[synthetic\]: unknown key folder"),
        ("z_low_mm", "z_lowest", r"\[variation\]: unknown key z_lowest"),
        ("share = 0.5", "share = 1", "between 0 and 1, got 1"),
        ("share = 0.5", "", "between 0 and 1, got None"),
        ("share = 0.5", 'annotated = "most"\nshare = 0.5', "annotated must be"),
        ('labels = "petbone"', "", "expected labels = a text"),
        ('folder = "', 'folder = 3 # "', "expected folder = a text, got 3"),
        ("anatomies = [", "anatomies = [3, ", "expected anatomies = a folder"),
        ("steps = 4", "steps = 4.5", r"steps: expected a value such as 100000, got 4\.5"),
        ("steps = 4", 'steps = "many"', "steps: expected a value"),
        ("steps = 4", "steps = true", "steps: expected a value"),
        ("steps = 4", "steps = 4\nrate = nan", "rate: expected a value"),
        ("sizes_x = [32]", "sizes_x = 32", "sizes_x: expected a value"),
        ("sizes_x = [32]", "sizes_x = []", "sizes_x: expected a value"),
        ("steps = 4", "steps = 0", "steps must be above 0"),
        ("workers = 0", "workers = -1", "workers must be 0 or more, got -1"),
        ("widths = [8, 16]", "widths = [8, 8, 8, 8, 8]", "1 to 4 numbers, got 5"),
        ("widths = [8, 16]", "widths = [8, 15]", "multiples of groups = 4"),
        ("stem = 4", "stem = 4\nclasses = 3", "classes and input_mm cannot be changed"),
    ],
)
def test_refused_configs(old, new, message):
    assert CONFIG.count(old) >= 1
    with pytest.raises(InputError, match=message):
        parse_recipe(CONFIG.replace(old, new, 1), "x.toml")


def test_refused_tables():
    with pytest.raises(InputError, match="found neither"):
        parse_recipe("[training]\nsteps = 4", "x.toml")
    with pytest.raises(InputError, match="cases must be a table"):
        parse_recipe("cases = 3", "x.toml")
    with pytest.raises(InputError, match=r"needs a table \[synthetic\]"):
        parse_recipe('[cases]\nfolder = "a"\nlabels = "petbone"\nshare = 0.5', "x.toml")


@pytest.mark.parametrize("name", ["synthetic", "real", "mixed", "check"])
def test_the_configs_that_come_with_petbone_are_understood(name):
    recipe = parse_recipe((ROOT / f"configs/train_{name}.toml").read_text("utf-8"), name)
    assert recipe.share == {"real": 1.0, "mixed": 0.5}.get(name, 0.0)
    assert bool(recipe.anatomies) == (name != "real")
    assert (recipe.cases is None) == (name in ("synthetic", "check"))


def test_the_figure_shows_the_curves():
    rows = [f"{n},{n / 10},1e-3,{5 / n},nan,0.{n}" for n in range(1, 10)]
    log = "\n".join(["step,minutes,rate,loss,place,bone_dice", *rows])
    picture = np.asarray(Image.open(io.BytesIO(training_curves(log))))
    assert picture.shape == (750, 900, 3)
    blue = (picture == (31, 119, 180)).all(-1)
    across, down = np.nonzero(blue[:250, 70:770])[1], np.nonzero(blue[:250, 70:770])[0]
    # A share that grows from 0.1 to 0.9 goes up from left to right.
    assert np.corrcoef(across, down)[0, 1] < -0.99
    with pytest.raises(InputError, match="no rows"):
        training_curves("step,loss\n")
