"""What the tests of data share."""

from __future__ import annotations

import pytest


@pytest.fixture
def write(tmp_path):
    """write(content, name): a file of these bytes, or of this text in UTF-8."""

    def write(content, name="people.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
