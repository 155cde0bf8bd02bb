"""What is found in texts: their size, their lines, and the characters they are written in (floor 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..description_text import share

MOST_CHARACTERS = 60  # of the alphabet that are shown


def text_facts(texts: Sequence[str]) -> dict[str, str]:
    """name -> what is told of the texts of some files."""
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    counts = Counter("".join(texts))
    total = counts.total()
    lengths = sorted(map(len, lines)) or [0]
    different = len(set(lines))
    letters = [c for c, _ in counts.most_common() if not c.isspace()]
    rare = [c for c, n in counts.items() if n == 1]
    facts = {"files": f"{len(texts):,}"} if len(texts) > 1 else {}
    facts |= {
        "characters": f"{total:,}, {len(counts):,} different",
        "lines": f"{len(lines):,} that are not blank, {different:,} different; {lengths[len(lengths) // 2]:,} characters in the "
        f"middle one, {lengths[-1]:,} in the longest",
        "alphabet": "".join(letters[:MOST_CHARACTERS]) + ("…" if len(letters) > MOST_CHARACTERS else ""),
    }
    if rare:
        facts["rare"] = f"come once only, {len(rare):,}: {''.join(rare[:20])}" + "…" * (len(rare) > 20)
    foreign = sum(n for c, n in counts.items() if not c.isascii())
    if foreign:
        facts["not ascii"] = f"{foreign:,} characters ({share(foreign, total)})"
    return facts
