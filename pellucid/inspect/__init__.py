"""Inspection of networks: what they read, hold and say; nothing here trains (floor 6)."""

from .attending import Attending, attending
from .attention import attention_maps, attention_rollout
from .attribute import attribute
from .attribution import Attribution
from .baselines import Baseline, mean_baseline
from .blame import Blame, blame
from .cache import Cache, patched, run_with_cache
from .curvature import Curvature, curvature
from .entries import Entries, entries
from .feature_view import Features, features
from .features import filters, maximize, top_examples, unit_layers
from .filters import first_filters
from .head_ablation import HeadAblation, edited_heads, head_ablation
from .induction import InductionHeads, induction_heads
from .influence import TrainingRows, WeightSet, tracin
from .landscape import Landscape, Line, Slice, loss_line, loss_slice
from .logit_lens import LogitLens, logit_lens
from .question import Question
from .summary import Row, Summary, summary
from .trace import Trace, trace
from .undisturbed import restored, undisturbed

__all__ = [
    "Attending",
    "Attribution",
    "Baseline",
    "Blame",
    "Cache",
    "Curvature",
    "Entries",
    "Features",
    "HeadAblation",
    "InductionHeads",
    "Landscape",
    "Line",
    "LogitLens",
    "Question",
    "Row",
    "Slice",
    "Summary",
    "Trace",
    "TrainingRows",
    "WeightSet",
    "attending",
    "attention_maps",
    "attention_rollout",
    "attribute",
    "blame",
    "curvature",
    "edited_heads",
    "entries",
    "features",
    "filters",
    "first_filters",
    "head_ablation",
    "induction_heads",
    "logit_lens",
    "loss_line",
    "loss_slice",
    "maximize",
    "mean_baseline",
    "patched",
    "restored",
    "run_with_cache",
    "summary",
    "top_examples",
    "trace",
    "tracin",
    "undisturbed",
    "unit_layers",
]
