from __future__ import annotations

import io
import tarfile
from pathlib import Path

from mindsight.files.tar_stream import PIECE_BYTES, tar_of


def test_a_folder_goes_through_a_tar_file_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "pool").mkdir(parents=True)
    large = bytes(range(256)) * (PIECE_BYTES // 128 + 1)
    contents = {"a.json": b"{}", "empty": b"", "pool/large": large, "ü" * 80: b"x"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    pieces = list(tar_of(folder))
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert pieces == list(tar_of(folder)), "the same folder, the same bytes"
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as file:
        members = file.getmembers()
        read = {member.name: file.extractfile(member) for member in members}
        assert {name: stream.read() for name, stream in read.items() if stream is not None} == {
            f"bundle/{name}": content for name, content in contents.items()
        }
    assert {(member.uid, member.mtime) for member in members} == {(0, 0)}
