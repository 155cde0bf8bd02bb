"""The compiler: a whole step, traced once, as one native program (floor 4).

compile.py        pellucid.compile (options.py)       step.py       the compiled step: one call, many steps (many_steps.py)
signature.py      what a program depends on           program_cache.py  programs by signature (guard_cost.py)
bucketing.py      arguments of varying length         capture.py    activations and their gradients
guards/           Python state that a step reads
trace/            run a step on Symbols; outputs      ir/           graph, rewriter, views, scan bodies
passes/           passes for every backend            backends/     interpreter; cpu/: native code through LLVM

In backends/cpu/, in the order in which a step goes through them:
prepare/          passes for its kernels              schedule.py   the phases up to the layout
fusion.py         operations to kernels (kernel.py)   rematerialization.py  values recomputed where they are read
kernel_order.py   the order of kernels                layout.py     strides, copies of operands; orientation.py: of products
kernel_builder.py kernels to kernel_ir.py             memory_plan.py  launches, bytes, in-place writes, scans
lower.py          plan to segments of native code     synchronize.py  launches to steps, with barriers
emit.py           steps to LLVM; kernels/ emit each   llvm.py       builder, object code
executable.py     what equal traces share             object_cache.py  object code on disk
program.py        native code bound to Tensors        bound_inputs.py  what a call has to set; context.py: addresses
many_steps.py     steps without Python in between     state_buffers.py  memory and locks of states (storage.py)
target.py         instruction sets; costs.py: caches  thread_pool.py  threads
plan_check.py     the plan, run in NumPy              profile.py    kernels with cost and time (kernel_cost.py)

Imports point downward: ir and guards, passes, trace, backends, and the files here. tests/test_floors.py has the table.
"""
