"""What a file and a person say of an injection, put together into an Acquisition, or refused by name.

DICOM headers, BIDS sidecars and command-line options all come through here, so that dose by size, midnight,
missing values and contradictions are judged in one place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from petbone.errors import InputError
from petbone.io.scan import PetOptions
from petbone.suv import (
    HALF_LIFE_S,
    MAX_HALF_LIVES,
    Acquisition,
    DecayCorrection,
    DecayTimesError,
    dose_in_bq,
    half_life_of,
    injection_before,
    weight_in_kg,
)

NO_DATE = date(1970, 1, 1)
DAY_S = 86400.0
LONG_HALF_LIFE_S = 41400.0
"""Nuclides that live longer are imaged days after the injection, so that its date must be known (IBSI)."""
LATE_HALF_LIVES = 5.0
"""Scans later than this are told: hardly any count is left, so a time is more likely to be wrong."""
_ELEMENTS = {
    "F": ("f", "fluor"),
    "Ga": ("ga", "gallium"),
    "C": ("c", "carbon"),
    "Cu": ("cu", "copper"),
    "Zr": ("zr", "zirconium"),
    "N": ("n", "nitrogen"),
    "O": ("o", "oxygen"),
}


NUCLIDE_OF_CODE = {
    "C-105A1": "C-11",
    "40565003": "C-11",
    "C-107A1": "N-13",
    "21576001": "N-13",
    "C-B1038": "O-15",
    "129504001": "O-15",
    "C-111A1": "F-18",
    "77004003": "F-18",
    "C-127A2": "Cu-64",
    "3932008": "Cu-64",
    "C-131A3": "Ga-68",
    "35337001": "Ga-68",
    "C-168A4": "Zr-89",
    "63360001": "Zr-89",
}
"""SNOMED's old and new codes of nuclides (DICOM PS3.16 CID 4020) whose half-life is known here."""


@dataclass(frozen=True)
class Moment:
    """A time, and whether its date was recorded or filled in.

    `utc`: the time has an offset from UTC and was brought there, because the zone of the scanner's clock is
    not known. It can be compared only with another such moment.
    """

    when: datetime
    dated: bool
    utc: bool = False


@dataclass(frozen=True)
class Found:
    """What a file says, in its own numbers; None where it is silent. `names` are its own words for a field.

    `relative_times`: the two moments stand on a day of their own and mean something only together. `zone`:
    offset from UTC of the file's clock.
    """

    dose: float | None = None
    half_life_s: float | None = None
    nuclide: str | None = None
    injected: Moment | None = None
    reference: Moment | None = None
    weight: float | None = None
    height_m: float | None = None
    sex: str | None = None
    tracer: str | None = None
    decay_correction: DecayCorrection = DecayCorrection.START
    frame_s: float | None = None
    relative_times: bool = False
    zone: timedelta | None = None
    said: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)


_OPTION = {
    "dose": "--dose-mbq",
    "half_life_s": "--tracer",
    "injected": "--injected-at",
    "reference": "--scan-start",
    "weight": "--weight-kg",
}


def acquisition(path: Path, found: Found, options: PetOptions) -> Acquisition:
    """Acquisition from a file's words completed by a person's, whose word wins and is recorded.

    Raises InputError naming everything that is missing, and for values and times that cannot be.
    """
    useless = [flag for flag in options.of_injection() if flag != "--dose-mbq"]
    if found.decay_correction is DecayCorrection.ADMIN and useless:
        raise InputError(
            f"{path}: {' '.join(useless)} given, but the image is corrected to the injection "
            "(DecayCorrection ADMIN), so that neither times nor half-life enter; leave them out"
        )
    found = _with_options(path, found, options)
    said = list(found.said)
    half_life_s = _half_life(path, found, said, options)
    missing = [name for name in ("dose", "weight") if not getattr(found, name)]
    if found.decay_correction is not DecayCorrection.ADMIN:
        missing += [name for name in ("injected", "reference") if getattr(found, name) is None]
        missing += ["half_life_s"] if half_life_s is None else []
    if missing:
        listed = ", ".join(
            f"{found.names[n]} ({_OPTION[n]})" if n in found.names else _OPTION[n] for n in missing
        )
        raise InputError(f"{path}: SUV cannot be computed, missing: {listed}")
    assert found.dose is not None  # the list of what is missing was empty
    assert found.weight is not None
    try:
        # A sidecar's times are relative, and a person's own dates are meant.
        as_told = found.relative_times or bool(options.injected_at and options.scan_start)
        dose_bq, dose_said = dose_in_bq(found.dose)
        if dose_said and options.dose_mbq is not None:  # its unit is known: nothing is to be judged
            raise ValueError(f"a dose of {options.dose_mbq:g} MBq was given; expected 1 to 1e5 MBq")
        weight_kg, weight_said = weight_in_kg(found.weight)
        injected_at, reference_at, time_said = _times(found, half_life_s, as_told)
        said += [s for s in (dose_said, weight_said, *time_said) if s]
        if half_life_s and (reference_at - injected_at).total_seconds() > LATE_HALF_LIVES * half_life_s:
            said.append(
                f"the scan is more than {LATE_HALF_LIVES:g} half-lives after the injection: check the times"
            )
        return Acquisition(
            dose_bq=dose_bq,
            half_life_s=half_life_s,
            injected_at=injected_at,
            decay_reference_at=reference_at,
            weight_kg=weight_kg,
            decay_correction=found.decay_correction,
            height_m=_height(found.height_m, said),
            sex=found.sex,
            tracer=found.tracer,
            frame_s=found.frame_s,
            assumptions=tuple(said),
        )
    except DecayTimesError as error:
        raise InputError(
            f"{path}: SUV cannot be computed: {error}; give --injected-at and --scan-start by one "
            "clock, with dates"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: SUV cannot be computed: {error}") from None


@dataclass(frozen=True)
class Body:
    """Size and sex of a person, and what was judged of them."""

    weight_kg: float
    height_m: float
    sex: str | None
    said: tuple[str, ...]


def body_of(path: Path, found: Found, options: PetOptions, needs_sex: bool) -> Body:
    """Weight, height and, where needed, sex, from a file's words completed by a person's.

    Raises InputError naming everything that is missing, and for values that cannot be.
    """
    found = _with_options(path, found, options)
    said = list(found.said)
    height_m = _height(found.height_m, said)
    wanted = {"--weight-kg": found.weight, "--height-cm": height_m} | (
        {"--sex": found.sex} if needs_sex else {}
    )
    missing = [flag for flag, value in wanted.items() if not value]
    if missing:
        raise InputError(f"{path}: the SUV's type cannot be changed, missing: {', '.join(missing)}")
    assert found.weight is not None  # the list of what is missing was empty
    assert height_m is not None
    weight_kg, weight_said = weight_in_kg(found.weight)
    if not 1 <= weight_kg <= 700:
        raise InputError(f"{path}: a weight of {weight_kg:g} kg; expected 1 to 700")
    return Body(weight_kg, height_m, found.sex, tuple(said + ([weight_said] if weight_said else [])))


def _with_options(path: Path, found: Found, options: PetOptions) -> Found:
    given: dict[str, Any] = {
        "dose": None if options.dose_mbq is None else options.dose_mbq * 1e6,
        "weight": options.weight_kg,
        "height_m": None if options.height_cm is None else options.height_cm / 100,
        "sex": sex_of(options.sex),
        "tracer": options.tracer,
        "half_life_s": options.half_life_s,
        "injected": _moment(path, "--injected-at", options.injected_at, found.zone),
        "reference": _moment(path, "--scan-start", options.scan_start, found.zone),
    }
    if found.relative_times and (given["injected"] is None) != (given["reference"] is None):
        raise InputError(
            f"{path}: the sidecar's times are relative; give both --injected-at and --scan-start"
        )
    said = list(found.said)
    for name, value in given.items():
        other = getattr(found, name)
        if value is None or other is None:
            continue
        if isinstance(value, float) and abs(value - other) > 0.01 * abs(other):
            said.append(f"{_WORD[name]} {value:g} as given, although the file says {other:g}")
        elif isinstance(value, Moment) and not _same(value, other):
            said.append(f"{_WORD[name]} as given, although the file says another time")
        elif isinstance(value, str) and value != other:
            said.append(f"{_WORD[name]} {value} as given, although the file says {other}")
    return replace(found, **{k: v for k, v in given.items() if v is not None}, said=tuple(said))


def _same(given: Moment, other: Moment) -> bool:
    if given.utc != other.utc:
        return False
    return given.when == other.when if given.dated and other.dated else given.when.time() == other.when.time()


_WORD = {
    "dose": "dose in Bq",
    "weight": "weight in kg",
    "height_m": "height in m",
    "sex": "sex",
    "tracer": "tracer",
    "half_life_s": "half-life in s",
    "injected": "injection",
    "reference": "scan start",
}


def _half_life(path: Path, found: Found, said: list[str], options: PetOptions) -> float | None:
    """From the file, else from the nuclide, else from a tracer that tells the nuclide; None if unknown."""
    usual = HALF_LIFE_S.get(found.nuclide or "")
    if found.half_life_s:
        if usual and abs(found.half_life_s - usual) > 0.01 * usual:
            how = "recorded" if options.half_life_s is None else "given"
            said.append(
                f"the half-life is {found.half_life_s:g} s as {how}, but {found.nuclide} has {usual:g} s"
            )
        return found.half_life_s
    if usual:
        said.append(f"half-life {usual:g} s, that of {found.nuclide}")
        return usual
    if not found.tracer:
        return None
    try:
        half_life_s, sentence = half_life_of(found.tracer)
    except ValueError as error:
        raise InputError(
            f"{path}: {error}; give the half-life in seconds (F-18 {HALF_LIFE_S['F-18']:g}, "
            f"Ga-68 {HALF_LIFE_S['Ga-68']:g}) with --half-life-s"
        ) from None
    said.append(sentence)
    return half_life_s


def _times(
    found: Found, half_life_s: float | None, as_told: bool
) -> tuple[datetime, datetime, tuple[str, ...]]:
    """Injection and decay reference on one calendar, and what must be said: a missing date is taken from the
    other time, and dates that cannot both be are left out for a short-lived nuclide (IBSI), unless they are
    to be taken as told.

    Raises DecayTimesError where the two cannot be compared, or where the nuclide lives so long that the
    injection may have been days before.
    """
    injected, reference = found.injected, found.reference
    if found.decay_correction is DecayCorrection.ADMIN:  # neither enters the formula
        some = injected or reference or Moment(datetime(1970, 1, 1), dated=False)
        return some.when, some.when, ()
    assert injected is not None  # the list of what is missing was empty
    assert reference is not None
    assert half_life_s is not None
    if injected.utc != reference.utc:
        which, other = ("injection", "scan") if injected.utc else ("scan", "injection")
        raise DecayTimesError(
            f"the time of the {which} has an offset from UTC, and the {other}'s does not tell its zone"
        )
    said: tuple[str, ...] = ()
    if injected.dated and reference.dated:
        apart_s = (reference.when - injected.when).total_seconds()
        possible = 0 <= apart_s <= MAX_HALF_LIVES * half_life_s
        if possible or as_told or abs(apart_s) < DAY_S or half_life_s >= LONG_HALF_LIFE_S:
            return injected.when, reference.when, ()
        # Nothing is seen of a short-lived nuclide days later: one of the dates was wiped or replaced.
        said = ("the dates of injection and scan are days apart, so their clock times alone were taken",)
        injected = replace(injected, dated=False)
    clocks_s = (reference.when - injected.when).total_seconds() % DAY_S
    if clocks_s + DAY_S <= MAX_HALF_LIVES * half_life_s:
        raise DecayTimesError(
            f"the injection or the scan has no date, and with a half-life of {half_life_s / 3600:.3g} h the "
            "injection may have been days before the scan"
        )
    if injected.dated:
        start = datetime.combine(injected.when.date(), reference.when.time())
        if start < injected.when:
            after = "the scan's clock time is before the injection's, so the scan is taken as the day after"
            return injected.when, start + timedelta(days=1), (after,)
        return injected.when, start, ()
    on_the_day = datetime.combine(reference.when.date(), injected.when.time())
    before, said_before = injection_before(on_the_day, reference.when)
    return before, reference.when, (*said, said_before) if said_before else said


def _height(height_m: float | None, said: list[str]) -> float | None:
    """SUVbw does not need the height, so one that cannot be is left out and not refused."""
    if not height_m:
        return None
    if 30 <= height_m <= 280:
        said.append(f"height {height_m:g} is taken as cm, because it is too large to be metres")
        height_m /= 100
    if 0.3 <= height_m <= 2.8:
        return height_m
    said.append(f"height {height_m:g} m cannot be and is left out")
    return None


def _moment(path: Path, option: str, text: str | None, zone: timedelta | None) -> Moment | None:
    """What a person says; a time with an offset from UTC by the file's clock, where that tells its zone."""
    if text is None:
        return None
    try:
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?", text.strip()):
            clock = datetime.strptime(text.strip()[:8], "%H:%M:%S" if text.count(":") == 2 else "%H:%M")
            return Moment(datetime.combine(NO_DATE, clock.time()), dated=False)
        if not re.search(r"\d\d:?\d\d", text.strip()[10:]):
            raise ValueError("a date without a time")
        when = datetime.fromisoformat(text.strip())
        if when.tzinfo is None:
            return Moment(when, dated=True)
        in_utc = when.astimezone(UTC).replace(tzinfo=None)
        return Moment(in_utc + (zone or timedelta()), dated=True, utc=zone is None)
    except ValueError:
        raise InputError(
            f"{path}: {option} {text!r} is no time; expected HH:MM:SS or 2024-05-31T09:15:00"
        ) from None


def sex_of(text: str | None) -> str | None:
    """M, F or O from a word or a letter; None where nothing is said."""
    first = (text or "").strip().upper()[:1]
    return first if first in ("M", "F", "O") else None


def nuclide_of(text: str) -> str | None:
    """Nuclide such as F-18 from 'F18', '18F', '^18^Fluorine' or '[18F]NaF'; None if it is none of ours."""
    found = re.search(r"(?<![a-z])([a-z]+)\W*(\d{2})(?!\d)|(?<!\d)(\d{2})\W*([a-z]+)", text.lower())
    if not found:
        return None
    letters, number = (found[1] or found[4]), (found[2] or found[3])
    for symbol, (short, long) in _ELEMENTS.items():
        if (letters == short or letters.startswith(long)) and f"{symbol}-{number}" in HALF_LIFE_S:
            return f"{symbol}-{number}"
    return None


def tracer_of(text: str) -> str | None:
    """One of naf, choline, psma, fdg from a radiopharmaceutical's name; None if it is none of them."""
    low = re.sub(r"[^a-z]", "", text.lower())
    if "fluorodeoxyglucose" in low or "fludeoxyglucose" in low or "fdg" in low or "deoxyglucose" in low:
        return "fdg"
    if "psma" in low or "piflufolastat" in low or "dcfpyl" in low:
        return "psma"
    if "choline" in low or "fch" in low:
        return "choline"
    return "naf" if "sodiumfluoride" in low or "naf" in low or low == "fluoride" else None
