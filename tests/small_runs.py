"""A RunConfig of a small network for tests that need a run and no training."""

from pellucid.data.image.preprocess import ImagePreprocessor
from pellucid.models import mlp
from pellucid.runs.records import EpochRecord, RunConfig
from pellucid.runs.settings import Settings


def small_config(**changes):
    """Of an MLP that tells two classes of images 2x2 apart."""
    fields = {
        "data": "people", "kind": "image", "task": "classification", "family": "mlp", "network": mlp.Config(hidden_sizes=(3,)),
        "settings": Settings(), "preprocessor": ImagePreprocessor((1, 2, 2), ["a", "b"], [0.0], [60.0]).to_json(),
        "source": {"spec": "people", "seed": 0}, "fingerprint": "0" * 64,
    }  # fmt: skip
    return RunConfig(**{**fields, **changes})


def epoch_record(epoch, **changes):
    values = {"train": {"loss": 1.0}, "validation": {"loss": 1.0}, "learning_rate": 0.1, "best": True, "seconds": 1.0,
              "examples_per_second": 1.0}  # fmt: skip
    return EpochRecord(epoch, 10 * epoch, **{**values, **changes})
