"""Tables: files with columns, read, typed and encoded (floor 4)."""
