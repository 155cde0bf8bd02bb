"""Fine-tuning: load pretrained weights, reinitialise the head, freeze layers (floor 10).

The layers of a classifier that see edges, textures and parts serve other classes too; only the last layer has to be new.
Frozen layers keep their weights, and the statistics of their batch norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest

from ..data.kinds import preprocessor_from_json
from ..errors import OptionError, names_of, suggestion
from ..files import Json
from ..models.base import Model
from ..models.heads.prediction import PredictionModel
from ..nn import Module
from ..runs.run import Run
from ..runs.settings import Setting


def network_values(run: Run, family: str | None) -> dict[str, Setting]:
    """The family and network configuration of `run`, for a network that is to begin with its weights. Raises OptionError."""
    if family is not None and family != run.config.family:
        raise OptionError(
            f"--init-from {run.name}: a {run.config.family}, and --model says {family}; expected one family; leave --model out"
        )
    return asdict(run.config.network)


def load_pretrained(run: Run, network: Model, preprocessor: dict[str, Json]) -> list[str]:
    """Give `network` the weights of `run`, but for the layer that answers where the question differs; tell what was done.

    preprocessor: of the new data, as JSON. Raises OptionError where anything else differs.
    """
    if run.config.settings.ensemble > 1:
        raise OptionError(f"--init-from {run.name}: an ensemble of {run.config.settings.ensemble} networks; expected one network to begin with; "
                          f"write --init-from {run.members / '1'}")  # fmt: skip
    known = run.config.preprocessor
    for old, now in zip_longest(_columns(known), _columns(preprocessor), fillvalue="nothing"):
        if old != now:
            raise OptionError(f"--init-from {run.name}: its columns are not those of these data: {old:.100} there, {now:.100} here; expected the "
                              "same ones in the same order; rename, drop or reorder columns, or train anew")  # fmt: skip
    if known.get("tokenizer") != preprocessor.get("tokenizer"):
        raise OptionError(f"--init-from {run.name}: its tokens are not those of this text; expected the same characters, or byte pairs, in the "
                          "same order; give a text with the same ones, or train anew")  # fmt: skip
    saved = run.load_weights()
    own = network.state_dict()
    head = list(dict(network.named_parameters()))[-1].rpartition(".")[0]
    odd = sorted(name for name in own if name not in saved or saved[name].shape != own[name].shape)
    asked = ("classes", "target_name")
    others = isinstance(network, PredictionModel) and any(known.get(name) != preprocessor.get(name) for name in asked)
    new = [name for name in (own if others else odd) if name.rpartition(".")[0] == head]
    if new:  # a linear model of the old question is none of the new one; it is fitted anew
        new += [name for name in own if name.startswith("linear_start.") or name in ("mix", "temperature", "log_rates")]
    if set(odd) - set(new) or saved.keys() - own.keys():
        first = next((name for name in odd if name not in new), None) or sorted(saved.keys() - own.keys())[0]
        there = saved[first].shape if first in saved else "missing"
        here = own[first].shape if first in own else "missing"
        raise OptionError(f"--init-from {run.name}: {first} is {there} there and {here} here; expected networks that differ in the last layer "
                          f"({head}) alone; keep its image size, channels and layers")  # fmt: skip
    network.load_state_dict({**own, **{name: saved[name] for name in own if name not in new}})
    kept = f"{len(own) - len(new)} of {len(own)} weights taken from {run.name}"
    return [f"{kept}; {head} begins anew" if new else kept]


def _columns(known: dict[str, Json]) -> list[str]:
    """What each column is that a network of a table or series reads, with the categories that its embeddings stand for."""
    preprocessor = preprocessor_from_json(known)
    values = {column.name: f" ({', '.join(column.values)})" for column in getattr(preprocessor, "categories", ())}
    return [name + values.get(name, "") for name in getattr(preprocessor, "input_names", list)()]


def frozen_layers(network: Model, names: Sequence[str]) -> list[Module]:
    """The layers whose path is, or begins with, one of `names`; their parameters no longer ask for gradients.

    Raises OptionError for a name that is no layer's, and where a turn of the network would have nothing to move.
    """
    modules = dict(network.named_modules())
    found = []
    names = names_of("freeze", "names", names)
    for name in names:
        layers = [m for path, m in modules.items() if path == name or path.startswith(name + ".")]
        if not layers:
            paths = [path for path in modules if path]
            raise OptionError(
                f"freeze: {name!r}; expected the path of a layer, such as {', '.join(paths[:4])}; "
                f"see pellucid summary.{suggestion(name, paths)}"
            )
        for p in layers[0].parameters():
            p.requires_grad_(False)
        found += layers
    for turn in network.phases():
        if not any(p.requires_grad for p in turn.module.parameters()):
            where = f" in the {turn.name}" if turn.name else ""
            raise OptionError(f"freeze: {', '.join(names)} leaves nothing to train{where}; expected at least one layer that learns; "
                              "freeze fewer")  # fmt: skip
    return found
