"""Reports: a run as one page of HTML that opens offline (floor 9)."""
