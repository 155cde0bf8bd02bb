"""The CPU backend: from a graph to native code, through kernels, a memory plan and LLVM (floor 4)."""
