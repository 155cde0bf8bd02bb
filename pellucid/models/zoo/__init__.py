"""Named networks and their published weights (floor 5)."""
