"""What a family of models says to input of a form that it does not read."""

import pytest

from pellucid.data.input_spec import ImageSpec, SeriesSpec, TableSpec, TextSpec
from pellucid.errors import OptionError
from pellucid.models import FAMILIES

SPECS = (ImageSpec((1, 8, 8), (0.0,), (1.0,)), TableSpec(2, [[0.0, 1.0]] * 2), SeriesSpec(9, 3), TextSpec(11))
READS = {
    "mlp": {ImageSpec, TableSpec},
    "cnn": {ImageSpec},
    "lstm": {SeriesSpec, TextSpec},
    "transformer": {TextSpec},
    "gan": {ImageSpec},
    "diffusion": {ImageSpec},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_a_family_refuses_input_that_it_does_not_read(family, spec):
    build = lambda: FAMILIES[family].build(spec, 3, "classification", FAMILIES[family].config())
    if type(spec) in READS[family]:
        assert build().input_names
        return
    with pytest.raises(OptionError, match=f"model: {family} for .*{spec.title}; expected .*; "):
        build()
