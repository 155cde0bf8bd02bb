"""The intermediate representation: a graph of operations, how it is rewritten, and views as index arithmetic (floor 4)."""
