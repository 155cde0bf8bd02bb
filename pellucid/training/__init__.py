"""Training a network on data (floor 10).

`session` begins, resumes and finishes a run; `loop` is the loop itself, on one page; `learner` is the step that it runs, and
`state` all that the step changes; `checkpoint` writes that to disk. `optimizers` are made from settings; `fine_tuning` loads
the weights of another run; `nonfinite` finds where NaN arose.
"""
