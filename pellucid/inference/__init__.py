"""From a run to answers: predictions, forecasts, samples (floor 6)."""
