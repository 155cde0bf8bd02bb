"""Sampling from a saved run: text after a prompt, images of a class (floor 8).

The preprocessor that read the training data turns tokens into text and numbers into pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import OptionError, suggestion
from ..evaluation.compiled import CompiledFunction
from ..evaluation.images import as_pixels
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..random import Generator
from ..runs.run import Run


class Sampler:
    """A run's network and preprocessor, loaded once. Raises OptionError for a network that answers instead."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.preprocessor: Any = run.preprocessor()
        self.network = run.network()
        if not isinstance(self.network, LanguageModel | ImageGenerator):
            raise OptionError(f"{run.name}: a network that answers ({run.config.family}); expected one that writes or draws, such as "
                              "transformer, lstm on text, gan or diffusion; use pellucid predict")  # fmt: skip

    @property
    def writes(self) -> bool:
        return isinstance(self.network, LanguageModel)

    @property
    def conditional(self) -> bool:
        """Whether it draws images of the class it is told."""
        return isinstance(self.network, ImageGenerator) and self.network.conditional

    def text(
        self, prompt: str = "", length: int = 500, *, temperature: float = 1.0, top_k: int = 0, generator: Generator | None = None
    ) -> str:  # fmt: skip
        """What the network writes after `prompt`, `length` tokens, or to the end of the line where lines were learned."""
        assert isinstance(self.network, LanguageModel)
        preprocessor = self.preprocessor
        tokens = preprocessor.encode(prompt)["tokens"]
        stop = int(preprocessor.tokenizer.encode("\n")[0]) if preprocessor.lines else None
        drawn = self.network.generate(
            tokens, length, temperature=temperature, top_k=top_k, stop=stop, generator=generator
        )
        return str(preprocessor.text(drawn)).removesuffix("\n" if preprocessor.lines else "")

    def images(self, labels: np.ndarray, generator: Generator | None = None) -> np.ndarray:
        """An image of each class number of `labels` (N,): uint8 (N, H, W), or (N, H, W, 3) in colour."""
        assert isinstance(self.network, ImageGenerator)
        generator_forward = CompiledFunction(self.network.generator_forward, self.run.config.settings.eager)
        return as_pixels(self.network.sample(labels, generator, generator_forward))

    def class_number(self, name: str) -> int:
        """Raises OptionError for a class that is not known, and where the network cannot be told one."""
        classes = self.preprocessor.classes or []
        if not self.conditional:
            raise OptionError(f"--class {name}: {self.run.name} was never told the classes (conditional = false) and draws any of them; "
                              "expected a network that was; leave it out, or train one without conditional = false")  # fmt: skip
        if name not in classes:
            raise OptionError(f"--class {name}: not among the classes of {self.run.name}; expected one of {', '.join(classes[:20])}."
                              f"{suggestion(name, classes)}")  # fmt: skip
        return int(classes.index(name))
