"""Blocks that several families share (floor 5)."""
