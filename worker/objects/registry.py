"""The kinds of objects that are made; a new kind is a file beside `heatmap` and a line here."""

from __future__ import annotations

from worker.objects.heatmap import HeatmapKind
from worker.objects.kind import ObjectKind

KINDS: tuple[ObjectKind, ...] = (HeatmapKind(),)
