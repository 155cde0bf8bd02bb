"""Named sets: where their files are found, fetched, checked and refused. No test opens a network connection."""

from __future__ import annotations

import email.message
import gzip
import hashlib
import io
import re
import urllib.error

import pytest

from pellucid.data import datasets as shelf
from pellucid.data.datasets import Dataset, File, cache_folder, catalogue, find, locate
from pellucid.errors import DataError

BYTES = b"a,b\n1,2\n" * 1000
TOY = Dataset(
    "toy", "table", "a toy", "1,000", "none", "https://example.org",
    (File("toys/toy.csv", hashlib.sha256(BYTES).hexdigest(), len(BYTES), "https://example.org/toy.csv"),),
)  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """An empty cache, no PELLUCID_DATA, and a network that is not there."""
    monkeypatch.delenv("PELLUCID_DATA", raising=False)
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        shelf.urllib.request, "urlopen", lambda url, timeout: (_ for _ in ()).throw(urllib.error.URLError("no route"))
    )


class Answer(io.BytesIO):
    def __init__(self, data, length=None):
        super().__init__(data)
        self.headers = email.message.Message()
        self.headers["Content-Length"] = str(len(data) if length is None else length)


def serve(monkeypatch, data, length=None):
    asked = []
    monkeypatch.setattr(shelf.urllib.request, "urlopen", lambda url, timeout: asked.append(url) or Answer(data, length))
    return asked


def test_names():
    names = [dataset.name for dataset in catalogue()]
    assert len(set(names)) == len(names) and all(find(name).name == name for name in names)
    assert find("mnist") is catalogue()[1] and find("mnst") is None


@pytest.mark.parametrize("dataset", catalogue(), ids=lambda d: d.name)
def test_every_entry_is_whole(dataset):
    assert dataset.rows and dataset.licence and dataset.size > 0
    assert dataset.address.startswith("made on this machine" if dataset.generated else "https://")
    for file in dataset.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.url is None or file.url.startswith("https://")
    if dataset.kind == "table":
        assert dataset.target in dataset.columns and (dataset.generated or all(file.url for file in dataset.files))


def test_digits_need_no_network():
    assert find("digits").at_hand and locate(find("digits"))["digits.csv.gz"].is_file()
    digest = hashlib.sha256(gzip.decompress(locate(find("digits"))["digits.csv.gz"].read_bytes())).hexdigest()
    assert digest == find("digits").files[0].sha256


def test_the_data_folder_comes_before_the_cache(monkeypatch, tmp_path):
    for place in ("cache", "data"):
        (tmp_path / place / "toys").mkdir(parents=True)
        (tmp_path / place / "toys" / "toy.csv").write_bytes(BYTES)
    assert TOY.at_hand and locate(TOY)["toys/toy.csv"] == tmp_path / "cache" / "toys" / "toy.csv"
    monkeypatch.setenv("PELLUCID_DATA", str(tmp_path / "data"))
    assert locate(TOY)["toys/toy.csv"] == tmp_path / "data" / "toys" / "toy.csv"
    monkeypatch.setenv("PELLUCID_DATA", str(tmp_path / "empty"))
    assert locate(TOY)["toys/toy.csv"] == tmp_path / "cache" / "toys" / "toy.csv"


def test_offline_says_where_to_get_it_and_where_to_put_it(tmp_path):
    assert not TOY.at_hand
    with pytest.raises(DataError) as caught:
        locate(TOY)
    message = str(caught.value)
    assert "toy: not on this machine, and https://example.org/toy.csv cannot be reached (no route)" in message
    assert (
        f"put it at {tmp_path / 'cache' / 'toys' / 'toy.csv'}, or set PELLUCID_DATA to a folder that has toys/toy.csv"
        in message
    )
    assert not (tmp_path / "cache").exists()


def test_a_set_without_an_address(tmp_path):
    with pytest.raises(
        DataError, match="cifar10: images/cifar10-jpeg.tar.gz is not on this machine and has no address"
    ):
        locate(find("cifar10"))


def test_download_is_checked_and_kept(monkeypatch, tmp_path):
    asked, seen = serve(monkeypatch, BYTES), []
    path = locate(TOY, lambda *progress: seen.append(progress))["toys/toy.csv"]
    assert path.read_bytes() == BYTES and asked == ["https://example.org/toy.csv"]
    assert seen[-1] == ("toy.csv", len(BYTES), len(BYTES))
    locate(TOY)
    assert len(asked) == 1  # from the cache now
    assert [p.name for p in path.parent.iterdir()] == ["toy.csv"]


def test_wrong_bytes_are_not_kept(monkeypatch, tmp_path):
    serve(monkeypatch, BYTES + b"x")
    with pytest.raises(DataError, match=r"gave bytes with SHA-256 .*, expected .*; nothing was kept"):
        locate(TOY)
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_a_download_that_breaks_off(monkeypatch, tmp_path):
    serve(monkeypatch, BYTES[:100], length=len(BYTES))
    with pytest.raises(DataError, match=r"cannot be reached \(the connection ended after 100 of 8,000 bytes\)"):
        locate(TOY)
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_gzip_is_checked_by_what_is_in_it(monkeypatch):
    packed = Dataset(
        "toy",
        "image",
        "",
        "",
        "",
        "",
        (File("t.gz", hashlib.sha256(BYTES).hexdigest(), 0, "https://x/t.gz", unpacked=True),),
    )
    serve(monkeypatch, gzip.compress(BYTES, 1))
    assert gzip.decompress(locate(packed)["t.gz"].read_bytes()) == BYTES


def test_damaged_gzip_is_refused(monkeypatch):
    packed = Dataset(
        "toy",
        "image",
        "",
        "",
        "",
        "",
        (File("t.gz", hashlib.sha256(BYTES).hexdigest(), 0, "https://x/t.gz", unpacked=True),),
    )
    serve(monkeypatch, gzip.compress(BYTES)[:-9])
    with pytest.raises(DataError, match="damaged gzip"):
        locate(packed)


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file, no folder")
    serve(monkeypatch, BYTES)
    with pytest.raises(DataError, match="cannot be written .* set PELLUCID_CACHE to a folder"):
        locate(TOY)


def test_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("PELLUCID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    for platform, end in (
        ("linux", "xdg/pellucid"),
        ("win32", "local/pellucid/Cache"),
        ("darwin", "Library/Caches/pellucid"),
    ):
        monkeypatch.setattr(shelf.sys, "platform", platform)
        assert cache_folder().as_posix().endswith(end)
