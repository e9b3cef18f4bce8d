"""Dates and times of day in DICOM files → seconds. Knows nothing of elements.

De-identification replaces dates by zeros and blanks; older exports write dots and colons. Without a valid date the time
of day remains, which is enough for a run's clock; without a valid time nothing remains.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_DATE = re.compile(r"(\d{4})([.\-/]?)(\d\d)\2(\d\d)")
_TIME = re.compile(r"(\d\d):?(\d\d)?:?(\d\d)?([.,]\d*)?\s*([+-]\d{4})?")
_ZONE = re.compile(r"[+-]\d{4}")


def seconds(date: str, time: str, zone: str) -> float | None:
    """Seconds since the Unix epoch; seconds of the day without a valid date; None without a time.

    The scanner's local time is taken for UTC unless the file states its offset (``+0100``, in the time or in ``zone``).
    """
    match = _TIME.fullmatch(time.strip())
    if not match:
        return None
    hours, minutes, secs = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or secs > 60:  # 60 is a leap second
        return None
    fraction = (match[4] or ".").replace(",", ".")
    of_day = hours * 3600 + minutes * 60 + secs + (float(fraction) if len(fraction) > 1 else 0.0)
    midnight = _midnight(date.strip())
    if midnight is None:
        return of_day
    return midnight.timestamp() - _offset_s(match[5] or zone) + of_day


def moment_seconds(moment: str, zone: str) -> float | None:
    """The same for date and time in one value (DICOM's DT)."""
    match = _DATE.match(moment.strip())
    return seconds(match[0], moment.strip()[match.end() :].lstrip(" T"), zone) if match else None


def _midnight(date: str) -> datetime | None:
    match = _DATE.fullmatch(date)
    try:
        return datetime(int(match[1]), int(match[3]), int(match[4]), tzinfo=timezone.utc) if match else None
    except ValueError:  # a month 13, a day 0
        return None


def _offset_s(zone: str) -> float:
    if not _ZONE.fullmatch(zone.strip()):
        return 0.0
    zone = zone.strip()
    away = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:])).total_seconds()
    return -away if zone[0] == "-" else away
