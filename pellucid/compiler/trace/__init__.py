"""Tracing: run a step on Symbols instead of arrays, and give what it did as a graph (floor 4)."""
