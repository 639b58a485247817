"""What annpipes' tools report: each prints as text for a terminal, and `to_dict` gives plain values for programs."""

from __future__ import annotations

from annpipes.running.statistics import Statistics
from annpipes.stores import Damage, FieldReport, Finding, FoundGenes, Kept, Route
from annpipes.tools.benching import BenchCase, BenchLimit, Benchmark, BenchPeer
from annpipes.tools.diversity import Mixing
from annpipes.tools.inspecting import CheckReport, Inspection
from annpipes.tools.keeping import CacheReport
from annpipes.tools.rewriting import Rewrite
from annpipes.tools.tuning import Tuning, TuningPoint

__all__ = [
    "BenchCase",
    "BenchLimit",
    "BenchPeer",
    "Benchmark",
    "CacheReport",
    "CheckReport",
    "Damage",
    "FieldReport",
    "Finding",
    "FoundGenes",
    "Inspection",
    "Kept",
    "Mixing",
    "Rewrite",
    "Route",
    "Statistics",
    "Tuning",
    "TuningPoint",
]
