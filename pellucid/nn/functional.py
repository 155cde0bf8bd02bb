"""`nn.functional`: PyTorch's place for what stands in `pellucid/functional.py` (floor 4)."""

from ..functional import *  # noqa: F403
