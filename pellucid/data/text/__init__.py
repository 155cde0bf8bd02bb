"""Texts: files of characters or tokens (floor 4)."""
