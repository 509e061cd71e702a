"""Dates and times of a DICOM header as moments: DA, TM and DT, time zones, and what midnight may mean."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from petbone.io.injection import Moment

ZONE = "TimezoneOffsetFromUTC"
DAY_S = 86400.0
NO_DAY = "19700101"


def moment_of(header: Dataset, value: object) -> Moment | None:
    """A DICOM DT by the header's clock; in UTC where it has an offset and the header names no zone."""
    text = str(value or "").strip()
    when = _parse_date_time(text)
    if when is None:
        return None
    own, theirs = _offset(text[8:]), zone_of(header)
    if own is None:
        return Moment(when, dated=True)
    return Moment(when - own + (theirs or timedelta()), dated=True, utc=theirs is None)


def zone_of(header: Dataset) -> timedelta | None:
    """Offset from UTC of the clock of the header's TM elements; None where it is not told."""
    return _offset(header.get(ZONE))


def date_time(day: object, clock: object) -> datetime | None:
    """DICOM DA and TM; None if either is missing or malformed. '09:30:00' and '2024.05.31' are ACR-NEMA."""
    date_digits = re.sub(r"\D", "", str(day or ""))
    text = str(clock or "").strip()
    if len(date_digits) != 8 or not re.fullmatch(r"\d{2}:?\d{2}(:?\d{2}(\.\d*)?)?", text):
        return None
    return _parse_date_time(date_digits + text.replace(":", ""))


def day_of(header: Dataset) -> tuple[bool, str]:
    """Whether there is a date, and it or a day that stands for none: dates are often wiped while times are
    kept, and the injection's clock time is then all there is, too."""
    for keyword in ("SeriesDate", "AcquisitionDate", "StudyDate"):
        if date_time(header.get(keyword), "0000"):
            return True, str(header.get(keyword))
    return False, NO_DAY


def is_midnight(when: datetime) -> bool:
    """To the microsecond: what is left of a time that was wiped, more often than a time."""
    return when.time() == datetime.min.time()


def apart_s(one: datetime, other: datetime, period_s: float = DAY_S) -> float:
    """How many seconds two clocks differ beyond whole periods: 10:00 and 10:01 of another day by 60."""
    difference_s = abs((one - other).total_seconds()) % period_s
    return min(difference_s, period_s - difference_s)


def _offset(value: object) -> timedelta | None:
    """Offset from UTC at the end of a DT, or in TimezoneOffsetFromUTC; None where there is none."""
    found = re.search(r"([+-])(\d{2})(\d{2})$", str(value or "").strip())
    if not found:
        return None
    size = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return size if found[1] == "+" else -size


def _parse_date_time(text: str) -> datetime | None:
    """DICOM DT with at least hours and minutes, as its clock says; the offset from UTC is not applied."""
    found = re.fullmatch(r"(\d{8})(\d{2})(\d{2})(\d{2})?(\.\d*)?([+-]\d{4})?", text.strip())
    if not found:
        return None
    try:
        day = datetime.strptime(found[1], "%Y%m%d")
        # DICOM allows a leap second, 60.
        seconds = min(int(found[4] or 0), 59) + float(f"0{found[5] or ''}0"[:9])
        if int(found[2]) > 23 or int(found[3]) > 59:
            return None
        return day + timedelta(hours=int(found[2]), minutes=int(found[3]), seconds=seconds)
    except ValueError:
        return None
