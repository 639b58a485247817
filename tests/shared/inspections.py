"""Findings of an inspection."""

from __future__ import annotations

from annpipes.tools.inspecting import Inspection


def found(report: Inspection, field: str, level: str = "problem") -> str:
    """What is told of a field at that level."""
    named = [one for one in report.findings if field in one.field.split(", ") and one.level == level]
    return "\n".join(f"{one.what} → {one.remedy}" for one in named)
