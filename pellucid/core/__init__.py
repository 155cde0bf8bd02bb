"""Values, operations and the tape: what everything else is built on (floor 1)."""
