"""Inspection of networks: what they read, hold and say; nothing here trains (floor 6)."""

from .attention import attention_maps
from .attribute import attribute
from .attribution import Attribution
from .baselines import Baseline, mean_baseline
from .blame import Blame, blame
from .cache import Cache, patched, run_with_cache
from .curvature import Curvature, curvature
from .entries import Entries, entries
from .filters import first_filters
from .influence import TrainingRows, WeightSet, tracin
from .landscape import Landscape, Line, Slice, loss_line, loss_slice
from .question import Question
from .summary import Row, Summary, summary
from .trace import Trace, trace
from .undisturbed import restored, undisturbed

__all__ = [
    "Attribution",
    "Baseline",
    "Blame",
    "Cache",
    "Curvature",
    "Entries",
    "Landscape",
    "Line",
    "Question",
    "Row",
    "Slice",
    "Summary",
    "Trace",
    "TrainingRows",
    "WeightSet",
    "attention_maps",
    "attribute",
    "blame",
    "curvature",
    "entries",
    "first_filters",
    "loss_line",
    "loss_slice",
    "mean_baseline",
    "patched",
    "restored",
    "run_with_cache",
    "summary",
    "trace",
    "tracin",
    "undisturbed",
]
