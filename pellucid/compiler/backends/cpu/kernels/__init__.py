"""What the loops of native code look like: each kernel writes its own through the Builder (floor 4)."""
