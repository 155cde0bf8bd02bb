"""Backends: what runs a graph. `interpreter` runs it in NumPy, `cpu/` as native code through LLVM (floor 4)."""
