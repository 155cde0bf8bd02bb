"""Inference: from a saved run to predictions, forecasts, samples and scores of texts (floor 8)."""
