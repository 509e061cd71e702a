"""When the tracer was injected, from the two elements that may say so."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset

from petbone.errors import InputError
from petbone.io.dicom_clocks import ZONE, apart_s, date_time, is_midnight, moment_of
from petbone.io.dicom_elements import injection_of
from petbone.io.injection import Moment

SAME_INJECTION_S = 60.0
"""The injection's two elements may differ by this much and still mean one moment."""
QUARTER_S = 900.0
"""Time zones are whole quarters of an hour apart."""
MIDNIGHT = (
    "the injection's time is midnight to the second: if that stands for no time at all, give --injected-at"
)


def injected_at(
    path: Path, header: Dataset, reference: Moment | None
) -> tuple[Moment | None, tuple[str, ...]]:
    """(the injection, what must be said of it): RadiopharmaceuticalStartDateTime, checked against
    RadiopharmaceuticalStartTime, which has no date and is put on the day of the reference.

    Raises InputError where the two contradict each other.
    """
    injection = injection_of(header)
    full = moment_of(header, injection.get("RadiopharmaceuticalStartDateTime"))
    day = reference.when if reference else datetime(1970, 1, 1)
    clock = date_time(f"{day:%Y%m%d}", injection.get("RadiopharmaceuticalStartTime"))
    one = full or (Moment(clock, dated=False) if clock else None)
    if one is None:
        return None, ()
    if full is None and injection.get("RadiopharmaceuticalStartDateTime"):
        return one, ("RadiopharmaceuticalStartTime was taken: RadiopharmaceuticalStartDateTime is no time",)
    if full is None or clock is None or (full.utc and reference and reference.utc):
        return one, (MIDNIGHT,) if is_midnight(one.when) else ()
    if full.utc:
        if apart_s(full.when, clock, QUARTER_S) <= SAME_INJECTION_S:
            said = (
                "RadiopharmaceuticalStartTime was taken: RadiopharmaceuticalStartDateTime has an offset from "
                f"UTC, and {ZONE} is missing"
            )
            return Moment(clock, dated=False), (said,)
    elif apart_s(full.when, clock) <= SAME_INJECTION_S:
        return full, (MIDNIGHT,) if is_midnight(full.when) and is_midnight(clock) else ()
    elif is_midnight(full.when):
        said = "RadiopharmaceuticalStartTime was taken: RadiopharmaceuticalStartDateTime has no time of day"
        return Moment(datetime.combine(full.when.date(), clock.time()), dated=True), (said,)
    elif is_midnight(clock):
        said = "RadiopharmaceuticalStartDateTime was taken: RadiopharmaceuticalStartTime is midnight"
        return full, (said,)
    raise InputError(
        f"{path}: RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are "
        f"{apart_s(full.when, clock) / 60:.0f} minutes apart; expected one time: give --injected-at"
    )
