"""Files that are whole or not there: full disks, missing permissions, lines cut short."""

import errno
import os

import pytest

from pellucid.errors import DataError
from pellucid.files import append_line, read_lines, write_bytes


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "no permission"), (errno.EIO, "cannot be written")],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, call, code, words):
    path = tmp_path / "model.safetensors"
    write_bytes(path, b"old")

    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(DataError, match=f"model.safetensors: .*{words}"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_many_threads_that_write_one_file_leave_one_of_theirs_whole(tmp_path, at_once):
    path = tmp_path / "model.safetensors"

    def write(i):
        for _ in range(20):
            write_bytes(path, bytes([i]) * 100_000)
            found = path.read_bytes()
            assert len(found) == 100_000 and len(set(found)) == 1

    at_once(write, threads=4)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, '{"epoch": 1}')
    append_line(path, '{"epoch": 2}')
    path.write_bytes(path.read_bytes()[:-4])
    assert read_lines(path) == [{"epoch": 1}]
    assert read_lines(tmp_path / "missing.jsonl") == []
