"""A run's folder and its settings (floor 6)."""
