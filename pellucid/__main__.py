"""`python -m pellucid`: the same as the command `pellucid` (floor 12)."""

from .cli import main

if __name__ == "__main__":
    main()
