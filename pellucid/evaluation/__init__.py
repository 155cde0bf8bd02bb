"""What a trained network is worth: metrics, baselines, and an evaluator for each kind of network (floor 6)."""
