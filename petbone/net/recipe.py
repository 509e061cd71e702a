"""A training run from its config: a TOML file that says what the net is shown, and how it is trained.

Tables and their keys are those of the dataclasses that they fill: ``[training]`` `TrainConfig`, ``[net]``
`UNetConfig`, ``[synthetic.variation]`` `SynthConfig`, ``[cases.variation]`` `CaseConfig`. Whatever is left
out keeps its usual value; an unknown key is refused. ``configs/train_*.toml`` explain the usual ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from petbone.errors import InputError
from petbone.net.anatomies import Anatomy
from petbone.net.cases import CaseConfig, prepare
from petbone.net.device import choose_device
from petbone.net.loop import TrainConfig, load_checkpoint
from petbone.net.scene import SynthConfig
from petbone.net.sources import Sources
from petbone.net.train import train
from petbone.net.unet import BoneNet, UNetConfig
from petbone.net.weights import averaged, save_weights

CONFIG_FILE, WEIGHTS_FILE, CHECKPOINT_FILE, CASES_FOLDER = (
    "config.toml",
    "bones.safetensors",
    "checkpoint.pt",
    "cases",
)
# What a resumed run may have changed: how long, how it is worked, and what it is written down.
_FREE = ("steps", "minutes", "workers", "log_every", "save_every")
Settings = TypeVar("Settings", TrainConfig, UNetConfig, SynthConfig, CaseConfig)


@dataclass(frozen=True)
class Recipe:
    """What a config says. `share` of the samples are real cases; paths as they were written, ``~`` opened."""

    net: UNetConfig
    training: TrainConfig
    anatomies: tuple[Path, ...]
    synth: SynthConfig
    cases: Path | None
    labels: str
    annotated: str | tuple[str, ...]
    augment: CaseConfig
    share: float


def parse_recipe(text: str, where: str) -> Recipe:
    """Read a config. Raises InputError, beginning with `where`, for anything that is not understood."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: no TOML: {error}") from error
    _refuse_unknown(content, ("training", "net", "synthetic", "cases"), where)
    synthetic, cases = _table(content, "synthetic", where), _table(content, "cases", where)
    if not synthetic and not cases:
        raise InputError(f"{where}: expected a table [synthetic], a table [cases], or both; found neither")
    _refuse_unknown(synthetic, ("anatomies", "variation"), f"{where}: [synthetic]")
    _refuse_unknown(cases, ("folder", "labels", "annotated", "share", "variation"), f"{where}: [cases]")
    training = _settings(TrainConfig(minutes=float("inf")), content, "training", where)
    net = _settings(UNetConfig(), content, "net", where)
    _check(training, net, where)
    annotated = cases.get("annotated", "table")
    is_list = isinstance(annotated, list) and all(isinstance(name, str) for name in annotated)
    if not is_list and annotated not in ("all", "table"):
        raise InputError(f"{where}: [cases]: annotated must be 'all', 'table' or a list of names of bones")
    return Recipe(
        net=net,
        training=training,
        anatomies=_paths(synthetic, where) if synthetic else (),
        synth=_settings(SynthConfig(), synthetic, "variation", f"{where}: [synthetic]"),
        cases=Path(_word(cases, "folder", where)).expanduser() if cases else None,
        labels=_labels(cases, where) if cases else "petbone",
        annotated=tuple(annotated) if is_list else annotated,
        augment=_settings(CaseConfig(), cases, "variation", f"{where}: [cases]"),
        share=_share(synthetic, cases, where),
    )


def _check(training: TrainConfig, net: UNetConfig, where: str) -> None:
    """Numbers that would make the training fail, or wait for ever, after it has begun."""
    for name in ("steps", "minutes", "rate", "warm_up_steps", "final_part", "log_every", "save_every"):
        if not getattr(training, name) > 0:
            raise InputError(f"{where}: [training]: {name} must be above 0, got {getattr(training, name)}")
    if not 1 <= len(net.widths) <= 4:
        raise InputError(f"{where}: [net]: widths must be 1 to 4 numbers, got {len(net.widths)}")
    if training.workers < 0:
        raise InputError(f"{where}: [training]: workers must be 0 or more, got {training.workers}")
    if net.classes != UNetConfig().classes or net.input_mm != UNetConfig().input_mm:
        raise InputError(f"{where}: [net]: classes and input_mm cannot be changed")
    odd = [width for width in net.widths if width < 1 or width % net.groups]
    if net.groups < 1 or net.stem < 1 or net.fine < 1 or net.stem % min(net.groups, net.stem) or odd:
        raise InputError(f"{where}: [net]: stem and widths must be multiples of groups = {net.groups}")


def _refuse_unknown(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise InputError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(known)}")


def _table(content: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"{where}: {name} must be a table, [{name}], got {found!r}")
    return found


def _settings(usual: Settings, content: Mapping[str, Any], name: str, where: str) -> Settings:
    """`usual` with what the table `name` says. Every value must be of the kind that it replaces."""
    table, here = _table(content, name, where), f"{where}: [{name}]"
    known = {field.name: getattr(usual, field.name) for field in fields(usual)}
    _refuse_unknown(table, tuple(known), here)
    return replace(usual, **{key: _like(known[key], value, f"{here}: {key}") for key, value in table.items()})


def _like(usual: Any, value: Any, where: str) -> Any:
    """`value` as the type of `usual`: an int, a float, or a tuple of one of these."""
    if isinstance(usual, tuple) and isinstance(value, list) and value:
        return tuple(_like(usual[0], one, where) for one in value)
    fits = isinstance(value, int | float) if isinstance(usual, float) else isinstance(value, int)
    if isinstance(usual, tuple) or isinstance(value, bool) or not fits or value != value:
        raise InputError(f"{where}: expected a value such as {usual!r}, got {value!r}")
    return type(usual)(value)


def _word(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: [cases]: expected {key} = a text, got {value!r}")
    return value


def _labels(cases: Mapping[str, Any], where: str) -> str:
    labels = _word(cases, "labels", where)
    return str(Path(labels).expanduser()) if labels.startswith("~") else labels


def _paths(synthetic: Mapping[str, Any], where: str) -> tuple[Path, ...]:
    """Folders of anatomies."""
    given = synthetic.get("anatomies")
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        raise InputError(
            f"{where}: [synthetic]: expected anatomies = a folder or a list of them, got {given!r}"
        )
    return tuple(Path(one).expanduser() for one in listed)


def _share(synthetic: Mapping[str, Any], cases: Mapping[str, Any], where: str) -> float:
    """Of real cases: all or nothing where there is one source, between where there are both."""
    share = cases.get("share")
    if not (synthetic and cases):
        if share is not None and share != 1:
            raise InputError(f"{where}: [cases]: share = {share} needs a table [synthetic] for the rest")
        return 1.0 if cases else 0.0
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share < 1:
        raise InputError(
            f"{where}: [cases]: with [synthetic] beside it, expected share = the part of the samples that "
            f"are real, between 0 and 1, got {share!r}"
        )
    return float(share)


def sources_of(recipe: Recipe, out: Path, say: Callable[[str], None]) -> Sources:
    """The sources of a recipe; real cases are prepared in the folder `cases` of the run `out`.

    Raises InputError where a folder is missing or holds nothing that can be used.
    """
    found: list[Anatomy] = []
    for folder in recipe.anatomies:
        files = sorted(folder.glob("*.npz"))
        if not files:
            raise InputError(f"{folder}: no anatomies (.npz) in it; make them with scripts/build_anatomy.py")
        # Unpacking leaves the interpreter's lock to others: threads share it.
        with ThreadPoolExecutor() as pool:
            found += pool.map(Anatomy.load, files)
    cases: tuple[Path, ...] = ()
    if recipe.cases is not None:
        cases = prepare(recipe.cases, out / CASES_FOLDER, recipe.labels, recipe.annotated, say)
    return Sources(tuple(found), recipe.synth, cases, recipe.augment, recipe.share)


@dataclass(frozen=True)
class RunOptions:
    """What a run is told beside its config. `minutes`, `workers` and `anatomies` (folders) stand in for those
    of the config; a new run starts from the weights in `start_from`."""

    minutes: float | None = None
    workers: int | None = None
    anatomies: tuple[Path, ...] = ()
    start_from: Path | None = None
    device: str = "auto"
    threads: int | None = None


def train_from(
    config: Path,
    out: Path,
    options: RunOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_save: Callable[[BoneNet, int], None] | None = None,
) -> Path:
    """Run the training of a config, or go on with it; returns the path of the weights.

    `out` gets `config.toml` (a copy), `checkpoint.pt`, `log.csv`, `cases/` and `bones.safetensors`.
    `on_save` is called at every checkpoint.

    Raises InputError for a config, a folder or weights that cannot be used, and where `out` holds something
    else than a run of this config.
    """
    try:
        text = config.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{config}: cannot be read ({error}); expected a config, see configs/") from error
    options = options or RunOptions()
    recipe = _as_told(parse_recipe(text, config.name), options, config.name)
    where = choose_device(options.device)
    start_from = options.start_from
    if start_from is not None and not start_from.is_file():
        raise InputError(f"{start_from}: no such file; expected a checkpoint.pt or weights (.safetensors)")
    _refuse_other_folder(out)
    _refuse_other_config(out, recipe)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    sources = sources_of(recipe, out, say)
    going_on = (out / CHECKPOINT_FILE).exists()
    said = f"{len(sources.anatomies)} anatomies, {len(sources.cases)} real cases, share {sources.share:g}"
    say(f"{'going on in' if going_on else 'training in'} {out} on {where}: {said}")
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_FILE).write_text(text, encoding="utf-8")
    train(sources, out, recipe.net, recipe.training, where, start_from, on_save)
    state = load_checkpoint(out / CHECKPOINT_FILE, torch.device("cpu"))
    save_weights(averaged(state), out / WEIGHTS_FILE)
    say(f"step {state['step']}, {state['minutes']:.1f} minutes")
    return out / WEIGHTS_FILE


def _as_told(recipe: Recipe, options: RunOptions, name: str) -> Recipe:
    """The recipe with what the options say instead."""
    if options.anatomies and recipe.anatomies:
        recipe = replace(recipe, anatomies=options.anatomies)
    training, minutes = recipe.training, options.minutes
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes must be above 0, got {minutes:g}; leave it out for those of {name}")
    if minutes is not None:
        training = replace(training, minutes=minutes)
    if options.workers is not None:
        training = replace(training, workers=options.workers)
    return replace(recipe, training=training)


def _refuse_other_folder(out: Path) -> None:
    """A run begins in a new or empty folder, or goes on in its own."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; expected the folder of a run")
    ours = (CONFIG_FILE, CHECKPOINT_FILE, "log.csv", CASES_FOLDER)
    if out.exists() and any(out.iterdir()) and not any((out / name).exists() for name in ours):
        raise InputError(f"{out}: holds other files; expected a new folder, or that of a run to go on with")


def _refuse_other_config(out: Path, recipe: Recipe) -> None:
    """A run goes on with its own config; steps, minutes and what is written when may differ."""
    path = out / CONFIG_FILE
    if not path.exists() or not (out / CHECKPOINT_FILE).exists():
        return
    begun = parse_recipe(path.read_text("utf-8"), f"{out.name}/{CONFIG_FILE}")
    free = {name: getattr(recipe.training, name) for name in _FREE}
    begun = replace(begun, training=replace(begun.training, **free))
    # Where the sources lie may change, from one machine to another; that they are the same is seen to later.
    here = {"anatomies": recipe.anatomies, "cases": recipe.cases}
    differing = [f.name for f in fields(Recipe) if f.name not in here]
    differing = [name for name in differing if getattr(begun, name) != getattr(recipe, name)]
    if differing:
        raise InputError(
            f"{out}: holds a run that was begun with other settings ({', '.join(differing)}); undo the "
            f"change, or take another folder with --start-from {out / CHECKPOINT_FILE}"
        )
