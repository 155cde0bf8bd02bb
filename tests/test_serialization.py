"""save and load: every dtype and shape there and back, and every file that is not what it should be."""

import io
import json
import os
import pickle
import stat
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pellucid as P
from pellucid import nn
from pellucid.errors import DataError, DTypeError, OptionError, PellucidError, StateError
from pellucid.serialization import load_metadata


def raw(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def place(tmp_path):
    return tmp_path / "model.safetensors"


STATE = {
    "float": P.tensor([[1.5, -2.0]]),
    "double": P.tensor([1 / 3], dtype=P.float64),
    "long": P.tensor(-(2**60)),
    "int": P.tensor([3], dtype=P.int32),
    "byte": P.tensor([255], dtype=P.uint8),
    "flag": P.tensor([True, False]),
    "none of it": P.zeros(0, 3),
    "special": P.tensor([np.nan, np.inf, -np.inf, -0.0], dtype=P.float32),
    "turned": P.arange(6).reshape(2, 3).T,
}


# ---- there and back --------------------------------------------------------------------------------------------------


def test_every_dtype_and_shape_comes_back_with_its_bits(place):
    P.save(STATE, place)
    found = P.load(place)
    assert sorted(found) == sorted(STATE)
    for name, value in STATE.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert found[name].array.tobytes() == value.array.tobytes(), name


def test_a_network_comes_back(place):
    net, other = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    net(P.randn(5, 3))
    P.save(net, str(place), metadata={"note": "två"})
    other.load_state_dict(P.load(str(place), map_location="cpu", weights_only=True))
    x = P.randn(2, 3)
    assert np.array_equal(net.eval()(x).array, other.eval()(x).array)
    assert load_metadata(place) == {"note": "två"}
    assert other[1].num_batches_tracked.shape == () and other[0].weight.requires_grad


def test_a_loaded_network_trains_on(place):
    net = nn.Linear(2, 1)
    P.save(net.state_dict(), place)
    state = P.load(place)
    state["weight"].add_(1)  # what was loaded may be written to
    net.load_state_dict(state)
    net(P.ones(1, 2)).sum().backward()
    assert net.weight.grad.tolist() == [[1, 1]]


def test_arrays_and_empty_dicts_are_saved_too(place):
    P.save({"a": np.arange(3)[::-1], "b": np.float16([0.5])}, place)
    found = P.load(place)
    assert found["a"].tolist() == [2, 1, 0] and found["b"].dtype == P.float32
    P.save({}, place)
    assert P.load(place) == {} and load_metadata(place) == {}


@pytest.mark.parametrize(
    "kind, data, expected",
    [
        ("F16", np.array([1.5, -2], "<f2").tobytes(), [1.5, -2]),
        ("BF16", (np.array([1.5, -2], "<f4").view("<u4") >> 16).astype("<u2").tobytes(), [1.5, -2]),
        ("I16", np.array([-3, 4], "<i2").tobytes(), [-3, 4]),
        ("I8", np.array([-3, 4], "i1").tobytes(), [-3, 4]),
        ("U16", np.array([3, 40000], "<u2").tobytes(), [3, 40000]),
    ],
)
def test_other_element_types_of_the_format_widen(place, kind, data, expected):
    place.write_bytes(raw({"x": {"dtype": kind, "shape": [2], "data_offsets": [0, len(data)]}}, data))
    x = P.load(place)["x"]
    assert x.tolist() == expected and x.dtype in (P.float32, P.int64, P.int32)


def test_an_element_type_nobody_has_is_named(place):
    place.write_bytes(raw({"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"ab"))
    with pytest.raises(
        StateError, match=r"model.safetensors: 'x' is stored as F8_E4M3; expected one of F64, .*save it as F32"
    ):
        P.load(place)


# ---- what cannot be saved ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], r"save: list; expected a Module or a dict of Tensors by name"),
        (
            {"model": {"w": P.ones(1)}},
            r"entry 'model' is dict; expected Tensors by name; save each state_dict to its own file",
        ),
        ({"epoch": 3}, "entry 'epoch' is int"),
        ({3: P.ones(1)}, "entry 3 is Tensor"),
    ],
)
def test_only_tensors_by_name_are_saved(place, content, message):
    with pytest.raises(OptionError, match=message):
        P.save(content, place)
    assert not place.exists()


def test_text_arrays_and_metadata_that_is_no_text_are_refused(place):
    with pytest.raises(DTypeError, match="save: entry 'names': .*expected numbers"):
        P.save({"names": np.array(["a"])}, place)
    with pytest.raises(OptionError, match="metadata 'epoch' is int; expected text; write it with json.dumps"):
        P.save({}, place, metadata={"epoch": 3})


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(
        DataError, match=r"absent.m.safetensors: cannot be written .no such file or directory.; expected a folder"
    ):
        P.save({}, tmp_path / "absent" / "m.safetensors")
    with pytest.raises(DataError, match="cannot be written .*choose another place"):
        P.save({}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole(place, monkeypatch, step):
    P.save({"x": P.ones(1)}, place)
    old = place.read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    if step == "write":

        class Full(io.BytesIO):
            write = fails

        real = open
        monkeypatch.setattr(
            "builtins.open", lambda path, mode="r", *a, **k: Full() if "w" in mode else real(path, mode, *a, **k)
        )
    else:
        monkeypatch.setattr(os, step, fails)
    with pytest.raises(DataError, match=r"model.safetensors: the disk is full; what was saved before is intact"):
        P.save({"x": P.zeros(1)}, place)
    monkeypatch.undo()
    assert place.read_bytes() == old
    assert [p.name for p in place.parent.iterdir()] == ["model.safetensors"]


# ---- what cannot be loaded ---------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def torch_style(path, name="archive"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/data.pkl", pickle.dumps(Bomb()))
        archive.writestr(f"{name}/data/0", b"\0" * 100)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "zip", "zip cut short"])
def test_a_pickle_is_refused_unopened_with_the_way_out(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    if isinstance(protocol, int):
        path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    else:
        torch_style(path)
        if protocol == "zip cut short":
            path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StateError) as caught:
        P.load(path)
    text = str(caught.value)
    assert "weights.pt: a pickle file, as torch.save writes them, which may run any code when opened" in text
    assert 'save_file(torch.load("weights.pt", weights_only=True), "weights.safetensors")' in text
    assert not (tmp_path / "exploded").exists()


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path):
    P.save({"x": P.ones(1), "y" * 530: P.zeros(2)}, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes().startswith(b"\x80\x02")  # a header of 640 bytes
    assert P.load(tmp_path / "model.safetensors")["x"].tolist() == [1]


def test_the_name_of_a_file_does_not_matter(tmp_path):
    P.save({"x": P.ones(1)}, tmp_path / "model.pt")
    assert P.load(tmp_path / "model.pt")["x"].tolist() == [1]


def test_absent_directory_empty(tmp_path, place):
    with pytest.raises(DataError, match="absent: no such file"):
        P.load(tmp_path / "absent")
    with pytest.raises(DataError, match="a directory; expected a safetensors file; name the file in it"):
        P.load(tmp_path)
    place.write_bytes(b"")
    with pytest.raises(StateError, match="model.safetensors: 0 bytes that are not a whole safetensors file"):
        P.load(place)


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind here"
)
def test_no_permission(place):
    P.save({}, place)
    place.chmod(stat.S_IWUSR)
    with pytest.raises(DataError, match="Permission denied"):
        P.load(place)


def test_a_file_cut_short_anywhere_is_refused(place):
    P.save(nn.Linear(3, 2), place, metadata={"a": "b"})
    whole = place.read_bytes()
    for size in range(len(whole)):
        place.write_bytes(whole[:size])
        for read in (P.load, load_metadata):
            with pytest.raises(StateError, match="model.safetensors: .*it is damaged or cut short"):
                read(place)
    place.write_bytes(whole + b"\0")
    with pytest.raises(StateError, match="damaged"):
        P.load(place)


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 64,
        raw({"x": {**ENTRY, "shape": [2]}}, b"\0" * 4),
        raw({"x": {**ENTRY, "data_offsets": [0, 2**40]}}, b"\0" * 4),
        raw({"x": {**ENTRY, "data_offsets": [4, 0]}}, b"\0" * 4),
        raw({"x": {**ENTRY, "shape": [-1]}}, b"\0" * 4),
        raw({"x": {**ENTRY, "shape": [2**62, 4]}}, b"\0" * 4),
        raw({"x": {"dtype": "F32"}}),
        raw({"x": ENTRY, "y": ENTRY}, b"\0" * 4),
        raw([1, 2]),
        raw({"__metadata__": {"epoch": 3}}),
        struct.pack("<Q", 2**63) + b"{}",
    ],
    ids=range(11),
)
def test_headers_that_lie_are_refused(place, content):
    place.write_bytes(content)
    with pytest.raises(StateError, match="not a whole safetensors file"):
        P.load(place)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_never_raises_anything_but_our_errors(tmp_path_factory, data):
    place = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    P.save({"weight": P.ones(2, 3), "bias": P.zeros(2)}, place)
    content = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(bytes(content))
    try:
        state = P.load(place)
        nn.Linear(3, 2).load_state_dict(state)
    except PellucidError:
        pass


@pytest.mark.parametrize("name", ["__metadata__", "a\ud800b"])
def test_a_name_that_the_header_cannot_hold_is_refused(place, name):
    with pytest.raises(OptionError, match="save: an entry is called"):
        P.save({name: P.tensor([1.0]), "other": P.tensor([2.0])}, place)
    assert not place.exists()
