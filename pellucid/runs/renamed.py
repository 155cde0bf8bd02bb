"""Old names of options and settings, each with the name that replaced it (floor 6).

An old name is refused, and the error says the new one: on the command line, in --set and in a --config file alike. Only
the options of data that a saved run has are read under both.
"""

from __future__ import annotations

from collections.abc import Collection

NEW_NAMES: dict[str, tuple[str, ...]] = {  # with underscores; several names where the meaning depends on the family
    # settings of training
    "average": ("ema_decay",),
    "clip": ("clip_grad_norm",),
    "epoch_steps": ("steps_per_epoch",),
    "momentum2": ("beta2",),
    "threads": ("num_threads",),
    "warmup": ("warmup_fraction",),
    # settings of networks
    "context": ("context_length",),
    "dropped": ("class_dropout",),
    "embedding": ("embedding_dim",),
    "heads": ("num_heads",),
    "hidden": ("d_ff",),
    "hidden_sizes": ("num_layers",),
    "layers": ("hidden_sizes", "num_layers"),
    "mirror": ("flip_tta",),
    "numbers": ("numeric_embedding",),
    "steps": ("sampling_steps",),
    "tie": ("tie_embeddings",),
    "width": ("d_model",),
    # options of commands
    "drop_columns": ("drop",),
    "ensemble": ("average_with",),  # of evaluate; now it is how many networks a run has
    "from": ("init_from",),
    "judge": ("feature_network",),
    "lines": ("line_by_line",),
    "out": ("run_dir",),
    "show": ("preview",),
    "size": ("image_size",),
    "test": ("test_data",),
    "time": ("time_column",),
    "vocabulary": ("vocab_size",),
    "window": ("lookback",),
    "with": ("average_with",),
}


def new_name(name: str, valid: Collection[str]) -> str | None:
    """The name of `valid` that replaced `name`; None where there is none. With hyphens where `name` has leading hyphens."""
    bare = name.lstrip("-").replace("-", "_")
    replacement = next((new for new in NEW_NAMES.get(bare, ()) if new in valid), None)
    return f"--{replacement.replace('_', '-')}" if replacement and name.startswith("--") else replacement
