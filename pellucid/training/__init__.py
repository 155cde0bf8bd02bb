"""Training a network on data, and what a run leaves behind (floor 10).

`session` begins, resumes and finishes a run; `loop` is the loop itself, on one page; `learner` is all that changes in it;
`checkpoint`, `run` and `files` are what stands on disk; `settings` the recipes; `metrics`, `baseline` and `report` the
judgement; `answering` lets a finished run answer.
"""
