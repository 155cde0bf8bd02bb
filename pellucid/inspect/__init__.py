"""Looking at networks, never training them (floor 6)."""

from .attention import attention_maps
from .summary import Row, Summary, summary

__all__ = ["Row", "Summary", "attention_maps", "summary"]
