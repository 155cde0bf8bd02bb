"""Pictures of what a network has inside: filters, attention."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import pellucid as pl
from pellucid import nn
from pellucid.data.input_spec import ImageSpec, TextSpec
from pellucid.inspect.attention import attention_figure
from pellucid.inspect.filters import first_filters
from pellucid.models import cnn, lstm, transformer
from pellucid.report.network_figures import attention_section, filter_section


def pictures(markup):
    found = re.findall(r"base64,([^\"]+)", markup)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_filters_are_drawn_each_in_its_own_scale_with_grey_for_zero():
    network = cnn.build(ImageSpec((8, 8)), 3, "classification", cnn.Config(channels=(2, 4), depth=1))
    weight = np.zeros((2, 1, 3, 3), np.float32)
    weight[0, 0, 0, 0], weight[0, 0, 2, 2] = 0.5, -0.5
    weight[1, 0, 1, 1] = 100
    next(m for m in network.modules() if isinstance(m, nn.Conv2d)).weight.data = pl.tensor(weight)
    (drawn,) = pictures(filter_section(first_filters(network)))
    first, second = drawn[:24:8, :24:8], drawn[:24:8, 25:49:8]
    assert first.tolist() == [[255, 128, 128], [128, 128, 128], [128, 128, 0]]
    assert second.tolist() == [[128, 128, 128], [128, 255, 128], [128, 128, 128]]


@pytest.mark.parametrize("network", [nn.Linear(3, 3), nn.Conv2d(7, 2, 3), nn.Conv2d(3, 2, 1)], ids=repr)
def test_what_sees_no_pixels_has_no_filters_to_show(network):
    assert first_filters(network) is None


def test_attention_is_drawn_for_every_layer_and_head():
    network = transformer.build(
        TextSpec(5), 1, "language", transformer.Config(num_layers=2, num_heads=3, d_model=6, context_length=8)
    )
    shown = attention_section(attention_figure(network, pl.tensor(np.arange(5)[None]), list("abcde")))
    drawn = pictures(shown)
    assert "abcde" in shown and [picture.shape for picture in drawn] == [(20, 3 * 21 - 1)] * 2
    assert (drawn[0][:4, 4:20] == 0).all()  # the first token sees itself alone
    assert drawn[0][0, 0] == 255


def test_a_network_without_attention_has_none_to_show():
    network = lstm.build(TextSpec(5), 1, "language", lstm.Config(hidden_sizes=(4,), context_length=8))
    assert attention_figure(network, pl.tensor(np.arange(5)[None]), list("abcde")) is None
