"""What a value and an operation are, and the reverse walk (floor 1)."""
