"""Runs: a training's folder, its settings, and the schema of what is saved in it (floor 6)."""
