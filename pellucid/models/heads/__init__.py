"""Heads: what a model predicts. Classes or numbers, the next token, or images (floor 5)."""
