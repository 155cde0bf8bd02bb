"""The compiler: a whole step, traced once, as one native program (floor 4).

compile.py        pellucid.compile, options           step.py       the compiled step: signatures, caching, many steps
signature.py      what a program depends on           capture.py    activations and their gradients
bucketing.py      arguments of varying length         guards/       Python state that a step reads
trace/            run a step on Symbols; outputs      ir/           graph, rewriter, views, scan bodies
passes/           passes for every backend            backends/     interpreter; cpu/: native code through LLVM

In backends/cpu/:
prepare/          passes for its kernels              fusion.py     operations to kernels
layout.py         strides, copies of operands         memory_plan.py  bytes, in-place writes; plan_check.py
kernel_ir.py      a kernel as plain data              lower.py      plan to LLVM module; kernels/ emit each kind
llvm.py           builder, object code                target.py     instruction sets
program.py        native code bound to Tensors        storage.py    their buffers
thread_pool.py    threads                             object_cache.py  object code on disk
executable.py     what equal traces share             profile.py    kernels with cost and time

Imports point downward: ir and guards, passes, trace, backends, and the files here. tests/test_floors.py has the table.
"""
