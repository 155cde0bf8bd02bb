"""Passes of the CPU backend: they give a graph the form that its kernels are made for (floor 4)."""
