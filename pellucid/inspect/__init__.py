"""Inspection of networks: what they read, hold and say; nothing here trains (floor 6)."""

from .attending import Attending, attending
from .attention import attention_maps, attention_rollout
from .cache import Cache, patched, run_with_cache
from .entries import Entries, entries
from .feature_view import Features, features
from .features import filters, maximize, top_examples, unit_layers
from .filters import first_filters
from .head_ablation import HeadAblation, edited_heads, head_ablation
from .induction import InductionHeads, induction_heads
from .logit_lens import LogitLens, logit_lens
from .question import Question
from .summary import Row, Summary, summary
from .undisturbed import restored, undisturbed

__all__ = [
    "Attending",
    "Cache",
    "Entries",
    "Features",
    "HeadAblation",
    "InductionHeads",
    "LogitLens",
    "Question",
    "Row",
    "Summary",
    "attending",
    "attention_maps",
    "attention_rollout",
    "edited_heads",
    "entries",
    "features",
    "filters",
    "first_filters",
    "head_ablation",
    "induction_heads",
    "logit_lens",
    "maximize",
    "patched",
    "restored",
    "run_with_cache",
    "summary",
    "top_examples",
    "undisturbed",
    "unit_layers",
]
