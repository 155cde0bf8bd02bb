"""Series: timestamps and windows (floor 4)."""
