"""GPT-2 and GPT-3 by size, and GPT-2's published weights (floor 5).

GPT-2 of Radford et al. 2019, GPT-3 of Brown et al. 2020 (arXiv 2005.14165). Parameters, positions included and the tied output
layer counted once: gpt2 124,439,808, gpt2-medium 354,823,168, gpt2-large 774,030,080, gpt2-xl 1,557,611,200, gpt3
174,604,259,328 (every other layer of GPT-3 has sparse attention, with as many parameters).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ... import nn
from ...creation import tensor
from ...errors import OptionError, StateError, format_shape, suggestion
from ...serialization import load
from ...tensor import Tensor
from ..transformer import Config, Transformer

SIZES = {
    "gpt2": Config(12, 12, 768, 1024),
    "gpt2-medium": Config(24, 16, 1024, 1024),
    "gpt2-large": Config(36, 20, 1280, 1024),
    "gpt2-xl": Config(48, 25, 1600, 1024),
    "gpt3": Config(96, 96, 12288, 2048),
}
VOCAB_SIZE = 50257  # of GPT-2 and GPT-3: 256 bytes, 50,000 merges, and the end of a text
# Entries of GPT-2's config.json that have one supported value.
_SUPPORTED = {
    "layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}  # fmt: skip
_ACTIVATION_NAMES = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
}  # Hugging Face's -> ours
_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # published as (in, out)


def from_size(name: str) -> Transformer:
    """A network of SIZES with new weights. Raises OptionError for an unknown name.

    Inside `nn.init.init_empty_weights()` it takes no memory for weights.
    """
    if name not in SIZES:
        raise OptionError(f"from_size: {name!r}; expected one of {', '.join(SIZES)}.{suggestion(name, SIZES)}")
    return Transformer(VOCAB_SIZE, SIZES[name])


def load_gpt2(path: str | os.PathLike[str]) -> Transformer:
    """The network of a GPT-2 checkpoint in a safetensors file, in evaluation mode.

    path: the file, or the folder of `model.safetensors`. A `config.json` beside it gives the number of heads; without one a
    head has 64 channels, as in every published size. Keys may begin with "transformer.". The masks that old files hold are
    dropped, and the matrices, published as (in, out), are transposed. Raises DataError where the file cannot be read,
    StateError where it is no GPT-2 checkpoint.
    """
    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    masks = (".attn.bias", ".attn.masked_bias")
    tensors = {name.removeprefix("transformer."): x for name, x in load(file).items() if not name.endswith(masks)}
    for name in ("wte.weight", "wpe.weight", "h.0.mlp.c_fc.weight"):
        if name not in tensors or tensors[name].ndim != 2:
            came = format_shape(tensors[name].shape) if name in tensors else f"missing among {len(tensors)} tensors"
            raise StateError(f"{file}: {name}: {came}; expected a matrix; check that this is a GPT-2 checkpoint")
    if "lm_head.weight" in tensors and tensors["lm_head.weight"].equal(tensors["wte.weight"]):
        del tensors["lm_head.weight"]
    with nn.init.init_empty_weights():
        network = Transformer(tensors["wte.weight"].shape[0], _config_from(file, tensors))
    transposed = lambda x: tensor(np.ascontiguousarray(x.array.T))
    try:
        network.load_state_dict(
            {name: transposed(x) if name.endswith(_TRANSPOSED) else x for name, x in tensors.items()}
        )
    except StateError as error:
        raise StateError(f"{file}: {error}") from None
    network.eval()
    return network


def _config_from(file: Path, tensors: dict[str, Tensor]) -> Config:
    """The configuration, from the shapes of a GPT-2 checkpoint and the `config.json` beside it, if there is one."""
    d_model, config_file = tensors["wte.weight"].shape[1], file.parent / "config.json"
    try:
        published = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
    except (OSError, ValueError):
        published = None
    if not isinstance(published, dict):
        raise StateError(
            f"{config_file}: not a JSON object; expected GPT-2's configuration; copy it again, or remove it"
        )
    for option, supported in _SUPPORTED.items():
        if published.get(option, supported) != supported:
            raise StateError(
                f"{config_file}: {option} is {published[option]!r}; expected {supported!r}, as in GPT-2, "
                "the only value supported; load another checkpoint"
            )
    activation: Any = published.get("activation_function", "gelu_new")
    try:
        return Config(
            num_layers=len({name.split(".")[1] for name in tensors if name.startswith("h.")}),
            num_heads=published.get("n_head", max(d_model // 64, 1)), d_model=d_model,
            context_length=tensors["wpe.weight"].shape[0], d_ff=tensors["h.0.mlp.c_fc.weight"].shape[1],
            activation=_ACTIVATION_NAMES.get(activation, activation),
            dropout=published.get("resid_pdrop", 0.0), attention_dropout=published.get("attn_pdrop", 0.0),
            tie_embeddings="lm_head.weight" not in tensors,
        )  # fmt: skip
    except (OptionError, TypeError) as error:
        raise StateError(f"{file}: {error}; correct the config.json beside it") from None
