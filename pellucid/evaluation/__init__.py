"""Evaluation: metrics, baselines, and an evaluator for each kind of network (floor 7)."""
