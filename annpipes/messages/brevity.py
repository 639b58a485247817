"""Numbers, sizes and times to as many digits as people read."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["brief_bytes", "brief_named", "brief_number", "brief_time"]


def brief_bytes(count: float) -> str:
    """A number of bytes to three digits.

    >>> brief_bytes(1_234_567_890), brief_bytes(12_300), brief_bytes(7)
    ('1.23 GB', '12.3 kB', '7 B')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            return f"{brief_number(count / size)} {unit}"
    return f"{count:.0f} B"


def brief_named(names: Sequence[str], most: int = 40) -> str:
    """Names in a row; of very many, the first ones and how many more there are.

    >>> brief_named(["X", "obs/donor", "obs/age"], most=2)
    'X, obs/donor … and 1 more'
    """
    more = f" … and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def brief_number(number: float) -> str:
    """A number to three digits, thousands set apart.

    >>> brief_number(104_321), brief_number(0.96123), brief_number(12.0)
    ('104,000', '0.961', '12')
    """
    short = float(f"{number:.3g}")
    return f"{short:,.0f}" if short.is_integer() else f"{short:,g}"


def brief_time(seconds: float) -> str:
    """Seconds for people.

    >>> brief_time(0.0123), brief_time(3.21), brief_time(150), brief_time(9000)
    ('12 ms', '3.2 s', '2.5 min', '2.5 h')
    """
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 1.5 * size or (unit == "s" and seconds >= 0.1):
            return f"{seconds / size:.1f} {unit}" if seconds < 9.95 * size else f"{seconds / size:.0f} {unit}"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "under 1 ms"
