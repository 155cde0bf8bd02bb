"""Kernel emitters: the loop nests and vector code of each kind of kernel (floor 4)."""
