"""Inspection of networks: layers, parameters, attention maps, filters; nothing here trains (floor 6)."""

from .attention import attention_maps
from .filters import first_filters
from .summary import Row, Summary, summary

__all__ = ["Row", "Summary", "attention_maps", "first_filters", "summary"]
