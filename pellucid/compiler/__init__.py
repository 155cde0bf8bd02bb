"""The compiler: a whole step, recorded once, as one native program (floor 4).

step.py      compile(), signatures            trace.py   recording: which operations, which Tensors
graph.py     the recorded step, interpreted   passes.py  constants, common subexpressions, dead code ...
views.py     movements as index arithmetic    fuse.py    operations to kernels, in order
layout.py    which axis lies contiguous       plan.py    memory, and a run of the plan in NumPy
recipe.py    a kernel as plain data           lower.py   recipes to functions, and the driver that calls them
kernels/     what the inner loops look like   llvm.py    the builder; alone knows llvmlite
timeloop.py  scan as one operation            lifting.py  what need not stay in such a loop leaves it
program.py   native code bound to Tensors     storage.py their memory       results.py  what a call gives back
runtime.py   threads                          cache.py   objects on disk    listing.py  kernels, for people
form.py      what equal recordings have in common     executable.py  what they share
lengths.py   arguments of varying length      padding.py  the step at a padded size, by padding_rules.py
reference.py the interpreter in the place of a program
"""
