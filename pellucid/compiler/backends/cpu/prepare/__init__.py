"""Passes of the CPU backend, which prepare a graph for its kernels (floor 4)."""
