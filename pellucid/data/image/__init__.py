"""Images: files, folders and IDX, decoded and prepared (floor 4)."""
