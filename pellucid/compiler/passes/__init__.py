"""Passes on a graph that hold for every backend (floor 4)."""
