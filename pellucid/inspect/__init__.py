"""Looking at networks, never training them (floor 6)."""

from .summary import Row, Summary, summary

__all__ = ["Row", "Summary", "summary"]
