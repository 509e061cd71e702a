"""From the headers of a PET series to SUV: which unit the pixels have, and what they are multiplied by.

Rules: QIBA vendor-neutral pseudo-code, IBSI SUV manual. Times are found in `dicom_times`; what a person adds
and what cannot be is judged in `injection`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydicom.dataset import Dataset

from petbone.body import SPOKEN, SuvType, suv_bw_from
from petbone.errors import InputError
from petbone.io.dicom_clocks import zone_of
from petbone.io.dicom_elements import (
    coded,
    distinct,
    elements,
    injection_of,
    meanings,
    number,
    private,
    words,
)
from petbone.io.dicom_injection import injected_at
from petbone.io.dicom_times import SLICE_TIMES, WHY, Reference, frames_of, reference_of
from petbone.io.injection import (
    NUCLIDE_OF_CODE,
    Found,
    Moment,
    acquisition,
    body_of,
    nuclide_of,
    sex_of,
    tracer_of,
)
from petbone.io.scan import PetOptions
from petbone.suv import (
    HALF_LIFE_S,
    Acquisition,
    DecayCorrection,
    SuvFactor,
    suv_bw_factor,
    weight_in_kg,
)

# DICOM PS3.3 C.8.9.1.1: what these elements may hold. Anything else is free text and is not repeated.
UNITS = frozenset(
    "CNTS NONE CM2 CM2ML PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS MLMINML MLML "
    "GML STDDEV".split()
)
CORRECTIONS = frozenset("DECY ATTN SCAT DTIM MOTN PMOT CLIN RAN RADL DCAL NORM COUNTLOSS RANDOMS".split())
T = TypeVar("T")
DECAY = frozenset(kind.value for kind in DecayCorrection)
SAME_WEIGHT = 0.01
"""A weight that is given may differ by this share from the header's and still be the same."""

SAME_FACTOR = 0.02
"""Philips' two factors may lead to SUV that differ by this share: dose and times are rounded."""

_PHILIPS_SUV = (0x7053, 0x00, "Philips PET Private Group")
_PHILIPS_ACTIVITY = (0x7053, 0x09, "Philips PET Private Group")
# An element need not agree with itself where a person's word takes its place.
_OF_IMAGE = {"Units": "", "CorrectedImage": "", "DecayCorrection": "", "SUVType": ""}
_OF_BODY = {"PatientWeight": "weight_kg", "PatientSize": "height_cm", "PatientSex": "sex"}
_OF_INJECTION = {
    "RadionuclideTotalDose": "dose_mbq",
    "RadionuclideHalfLife": "half_life_s",
    "RadiopharmaceuticalStartTime": "injected_at",
    "RadiopharmaceuticalStartDateTime": "injected_at",
}


@dataclass(frozen=True)
class PetFacts:
    """What the headers give: factor from file unit to SUVbw, and how it was found. `tags` identify nobody.

    `slice_shares`: what the factor is multiplied by in each slice, in the order of the headers, where slices
    differ (images without decay correction); otherwise None.
    """

    factor: SuvFactor
    acquisition: Acquisition | None
    tags: dict[str, Any]
    tracer: str | None
    slice_shares: tuple[float, ...] | None = None


def pet_facts(path: Path, headers: Sequence[Dataset], options: PetOptions) -> PetFacts:
    """SUV factor of a PET series. Raises InputError wherever the rules leave a guess."""
    first = headers[0]
    _refuse_differences(path, headers, _OF_IMAGE, options)
    units = coded(first, "Units", UNITS)
    corrected = set(words(first, "CorrectedImage")) & CORRECTIONS
    tags: dict[str, Any] = {"Units": units, "CorrectedImage": sorted(corrected)}
    tracer = options.tracer or _found_tracer(first)
    said = _judged_correction(path, headers, corrected, units)
    if units in ("GML", "CM2ML"):
        facts = PetFacts(_factor_of_suv(path, headers, units, options, tags), None, tags, tracer)
    elif units == "CNTS":
        facts = _of_counts(path, headers, options, tags)
    elif units == "BQML":
        facts = _of_activity(path, headers, options, tags)
    else:
        raise InputError(f"{path}: Units {units}; expected BQML, GML, CM2ML, or CNTS of Philips")
    factor = replace(facts.factor, assumptions=(*said, *facts.factor.assumptions))
    return replace(facts, factor=factor, tracer=tracer)


def _of_activity(
    path: Path, headers: Sequence[Dataset], options: PetOptions, tags: dict[str, Any], scale: float = 1.0
) -> PetFacts:
    """Pixels in Bq/mL, or in counts that `scale` turns into it: by dose, weight, and times."""
    _refuse_differences(path, headers, {"PatientWeight": "weight_kg"}, options)
    _refuse_injections(path, headers, options)
    result = acquisition(path, _found(path, headers, options, tags), options)
    if result.decay_correction is not DecayCorrection.ADMIN:
        tags["scan start"] = result.decay_reference_at.time().isoformat()
        tags["injection"] = result.injected_at.time().isoformat()
    factor = suv_bw_factor(result)
    if scale != 1.0:
        rule = f"counts to Bq/mL by Philips; {factor.rule}"
        factor = replace(factor, factor=factor.factor * scale, rule=rule)
    shares = None
    if result.decay_correction is DecayCorrection.NONE:
        shares = _slice_shares(path, headers, result)
        tags["slice factors"] = [factor.factor * min(shares), factor.factor * max(shares)]
    return PetFacts(factor, result, tags, None, shares)


def _of_counts(path: Path, headers: Sequence[Dataset], options: PetOptions, tags: dict[str, Any]) -> PetFacts:
    """Philips: by the factor to SUVbw of the scanner itself, else by the one to Bq/mL.

    The former is one number for all slices, made of the header's dose, weight and times: it is passed over
    where slices decay differently, and where a person says something else than the header. Where both can be
    used they are compared.
    """
    suv_scale, scale = (_philips(path, headers, tag) for tag in (_PHILIPS_SUV, _PHILIPS_ACTIVITY))
    raw = coded(headers[0], "DecayCorrection", DECAY) == "NONE"
    flags = _beyond_the_header(headers[0], options)
    if suv_scale and not raw and not flags:
        tags["SUVScaleFactor (7053,xx00)"] = suv_scale
        said: tuple[str, ...] = ()
        try:
            other = _of_activity(path, headers, options, {}, scale).factor.factor if scale else suv_scale
        except InputError:  # the header lacks something that is not needed
            other = suv_scale
        if abs(other / suv_scale - 1) > SAME_FACTOR:
            said = (
                f"the scanner's own factor (7053,xx00) was taken; (7053,xx09) with dose, weight and times "
                f"leads to {other / suv_scale:.3g} times as much",
            )
        factor = SuvFactor(suv_scale, "Units CNTS: Philips SUV scale factor", said)
        return PetFacts(factor, None, tags, None)
    if scale:
        tags["ActivityConcentrationScaleFactor (7053,xx09)"] = scale
        return _of_activity(path, headers, options, tags, scale)
    if not suv_scale:
        raise InputError(
            f"{path}: Units CNTS without the Philips factors (7053,xx00) and (7053,xx09); expected BQML: "
            "export the series in Bq/mL"
        )
    if raw:
        raise InputError(
            f"{path}: DecayCorrection NONE with the Philips factor (7053,xx00) alone; expected (7053,xx09), "
            "which turns counts into Bq/mL: export the series in Bq/mL"
        )
    raise InputError(
        f"{path}: {' '.join(flags)} given, but the scanner's own factor (7053,xx00) is all there is, and it "
        "was made with what the header says; leave them out, or export the series in Bq/mL"
    )


def _beyond_the_header(first: Dataset, options: PetOptions) -> list[str]:
    """Flags of what a person says that would change SUV and that the header does not say as well."""
    flags = options.of_injection()
    if options.weight_kg is not None and not _same_weight(first, options.weight_kg):
        flags.append("--weight-kg")
    return flags


def _same_weight(first: Dataset, weight_kg: float) -> bool:
    told = number(first.get("PatientWeight"))
    return bool(told) and abs(weight_kg - weight_in_kg(told or 0)[0]) <= SAME_WEIGHT * weight_kg


def _judged_correction(
    path: Path, headers: Sequence[Dataset], corrected: set[str], units: str
) -> tuple[str, ...]:
    """Attenuation always; decay too, unless DecayCorrection says NONE and the pixels are no SUV yet."""
    decay = coded(headers[0], "DecayCorrection", DECAY)
    raw = decay == "NONE" and units in ("BQML", "CNTS")
    lacking = sorted(({"ATTN"} if raw else {"ATTN", "DECY"}) - corrected)
    if lacking:
        raise InputError(
            f"{path}: CorrectedImage lacks {' and '.join(lacking)}; expected PET corrected for attenuation "
            "(ATTN) and decay (DECY, or DecayCorrection NONE)"
        )
    factors = {number(h.get("DecayFactor")) for h in headers} if raw else set()
    if raw and "DECY" not in corrected and factors - {None, 1.0}:
        return ("DecayCorrection NONE was believed, although a DecayFactor is not 1",)
    if not raw or "DECY" not in corrected:
        return ()
    if factors == {1.0}:
        return ("CorrectedImage has DECY, but DecayCorrection NONE was believed: every DecayFactor is 1",)
    raise InputError(
        f"{path}: CorrectedImage has DECY but DecayCorrection is NONE; expected them to agree: "
        "export the series again"
    )


def _factor_of_suv(
    path: Path, headers: Sequence[Dataset], units: str, options: PetOptions, tags: dict[str, Any]
) -> SuvFactor:
    """Factor to SUVbw of pixels that are SUV already, of whatever type; what the body's size says is needed
    for any other than body weight."""
    first = headers[0]
    usual = "BSA" if units == "CM2ML" else "BW"
    word = coded(first, "SUVType", [kind.value for kind in SuvType]) if first.get("SUVType") else usual
    tags["SUVType"] = word
    fitting = [kind.value for kind in SuvType if (kind is SuvType.BSA) == (units == "CM2ML")]
    if word not in fitting:
        raise InputError(f"{path}: Units {units} with SUVType {word}; expected {', '.join(fitting)}")
    kind = SuvType(word)
    flags = _beyond_the_header(first, options)
    if "--weight-kg" in flags and not number(first.get("PatientWeight")):
        flags.remove("--weight-kg")  # needed below, or harmless
    if flags:
        raise InputError(
            f"{path}: {' '.join(flags)} given, but Units {units} says that the pixels are SUV already, by "
            "what the scanner knew; leave them out, or export the series in Bq/mL"
        )
    if kind is SuvType.BW:
        return SuvFactor(1.0, "Units GML: the pixels are SUVbw")
    _refuse_differences(path, headers, _OF_BODY, options)
    body = body_of(
        path,
        Found(
            weight=number(first.get("PatientWeight")),
            height_m=number(first.get("PatientSize")),
            sex=sex_of(first.get("PatientSex")),
        ),
        options,
        needs_sex=kind is not SuvType.BSA,
    )
    tags |= {"PatientWeight": body.weight_kg, "PatientSize": body.height_m, "PatientSex": body.sex}
    try:
        factor = suv_bw_from(kind, body.weight_kg, body.height_m, body.sex)
    except ValueError as error:
        raise InputError(f"{path}: SUV of type {word} cannot be turned into SUVbw: {error}") from None
    said = body.said
    if body.sex == "O" and kind is not SuvType.BSA:
        said = (*said, "sex O: the mean of the formulas for men and women was taken")
    return SuvFactor(factor, f"Units {units}, SUVType {word}: from {SPOKEN[kind]} to body weight", said)


def _slice_shares(path: Path, headers: Sequence[Dataset], of_first: Acquisition) -> tuple[float, ...]:
    """Factor of every slice over the earliest one's: each by its own start and length of frame (IBSI)."""
    frames = frames_of(path, headers)
    earliest = min(at.when for at, _ in frames)
    base = suv_bw_factor(of_first).factor
    found = {}
    for at, frame_s in set(frames):  # a bed's slices share their frame
        moment = of_first.decay_reference_at + (at.when - earliest)
        found[at, frame_s] = suv_bw_factor(
            replace(of_first, decay_reference_at=moment, frame_s=frame_s)
        ).factor
    return tuple(found[frame] / base for frame in frames)


def _refuse_differences(
    path: Path, headers: Sequence[Dataset], keywords: Mapping[str, str], options: PetOptions
) -> None:
    """What SUV is computed from must be one value in the whole series, unless a person says it."""
    for keyword, option in keywords.items():
        values = {_plain(one.get(keyword)) for one in distinct(headers, keyword)}
        if len(values) > 1 and not (option and getattr(options, option) is not None):
            raise InputError(
                f"{path}: {len(values)} different values of {keyword} in one series; expected one"
            )


def _plain(value: Any) -> str:
    """A value as it is compared: 80 and 80.0 are one."""
    as_number = number(value)
    return str(value) if as_number is None else repr(as_number)


def _refuse_injections(path: Path, headers: Sequence[Dataset], options: PetOptions) -> None:
    unlike = distinct(headers, "RadiopharmaceuticalInformationSequence")
    several = max(len(elements(h, "RadiopharmaceuticalInformationSequence")) for h in unlike)
    if several > 1:
        raise InputError(f"{path}: {several} injections in the header; expected one")
    _refuse_differences(path, [injection_of(h) for h in unlike], _OF_INJECTION, options)


def _found(path: Path, headers: Sequence[Dataset], options: PetOptions, tags: dict[str, Any]) -> Found:
    """The header's words. `tags` receives what was used; times of day only, because dates identify."""
    first = headers[0]
    injection = injection_of(first)
    word = coded(first, "DecayCorrection", DECAY)
    tags["DecayCorrection"] = word
    if word not in {kind.value for kind in DecayCorrection}:
        raise InputError(f"{path}: DecayCorrection {word}; expected START, ADMIN or NONE")
    half_life_s = number(injection.get("RadionuclideHalfLife"))
    codes = [str(item.get("CodeValue") or "") for item in elements(injection, "RadionuclideCodeSequence")]
    texts = [
        *(NUCLIDE_OF_CODE.get(code, "") for code in codes),
        *meanings(injection, "RadionuclideCodeSequence"),
        str(injection.get("Radiopharmaceutical") or ""),
    ]
    nuclide = next((found for text in texts if (found := nuclide_of(text))), None)
    reference, frame_s = Reference(None, "none"), None
    if word == "START":
        usual_s = half_life_s or HALF_LIFE_S.get(nuclide or "")
        reference = _or_as_given(
            options.scan_start, lambda: reference_of(path, headers, usual_s), Reference(None, "none")
        )
    elif word == "NONE":
        frames = frames_of(path, headers)
        if not frames:
            raise InputError(
                f"{path}: not decay-corrected, and AcquisitionTime or ActualFrameDuration is missing in a "
                "slice; expected both in every slice"
            )
        start, frame_s = min(frames, key=lambda frame: (frame[0].when, frame[1]))
        reference = Reference(start, SLICE_TIMES)
    moment = reference.moment
    unknown: tuple[Moment | None, tuple[str, ...]] = (None, ())
    injected, said = unknown
    if word != "ADMIN":
        injected, said = _or_as_given(options.injected_at, lambda: injected_at(path, first, moment), unknown)
    if word != "ADMIN":
        tags["scan start from"] = "--scan-start" if options.scan_start else reference.rule
        if reference.rule in WHY and not options.scan_start:
            tags["scan start because"] = WHY[reference.rule]
    for keyword in ("RadionuclideTotalDose", "RadionuclideHalfLife"):
        tags[keyword] = number(injection.get(keyword))
    tags["PatientWeight"] = number(first.get("PatientWeight"))
    return Found(
        dose=number(injection.get("RadionuclideTotalDose")),
        half_life_s=half_life_s,
        nuclide=nuclide,
        injected=injected,
        reference=moment,
        weight=number(first.get("PatientWeight")),
        height_m=number(first.get("PatientSize")),
        sex=sex_of(first.get("PatientSex")),
        tracer=_found_tracer(first),
        decay_correction=DecayCorrection(word),
        frame_s=frame_s,
        zone=zone_of(first),
        said=(*(() if options.scan_start else reference.said), *(() if options.injected_at else said)),
        names={
            "dose": "RadionuclideTotalDose",
            "half_life_s": "RadionuclideHalfLife",
            "injected": "RadiopharmaceuticalStartDateTime",
            "reference": "SeriesTime",
            "weight": "PatientWeight",
        },
    )


def _or_as_given(given: str | None, find: Callable[[], T], nothing: T) -> T:
    """What the header says; where a person says it, the header may contradict itself."""
    try:
        return find()
    except InputError:
        if given is None:
            raise
        return nothing


def _found_tracer(header: Dataset) -> str | None:
    injection = injection_of(header)
    texts = [str(injection.get("Radiopharmaceutical") or "")]
    texts += meanings(injection, "RadiopharmaceuticalCodeSequence")
    return next((tracer for tracer in map(tracer_of, texts) if tracer), None)


def _philips(path: Path, headers: Sequence[Dataset], tag: tuple[int, int, str]) -> float:
    """A Philips factor, 0 where it is absent; one value for the whole series."""
    values = {number(private(h, *tag)) or 0.0 for h in headers}
    if len(values) > 1:
        raise InputError(f"{path}: {len(values)} different Philips scale factors in one series; expected one")
    factor = values.pop()
    if factor < 0:
        raise InputError(f"{path}: a Philips scale factor of {factor:g}; expected a positive one")
    return factor
