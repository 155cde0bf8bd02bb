"""`nn.functional`: PyTorch's place for what stands in `pellucid/functional/` (floor 4)."""

from ..functional import *  # noqa: F403
