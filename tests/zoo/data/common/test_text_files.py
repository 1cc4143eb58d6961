import pytest

from attnzoo.zoo.data.common.text_files import read_json, read_lines


def test_lines_are_numbered_from_one(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcat \r\n\r\n  d\xc3\xb6g\xe2\x80\xa8\rcow")
    assert read_lines(tmp_path / "a.txt") == [(1, "cat"), (3, "dög"), (4, "cow")]
    with pytest.raises(ValueError, match=r"none\.txt cannot be read: No such file"):
        read_lines(tmp_path / "none.txt")


@pytest.mark.parametrize("line", [b"\xff", b"a\0b"])
def test_lines_that_are_not_text_raise(tmp_path, line):
    (tmp_path / "a.txt").write_bytes(b"cat\n" + line)
    with pytest.raises(ValueError, match=r"a\.txt, line 2: .* UTF-8"):
        read_lines(tmp_path / "a.txt")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"[" * 10**5, b"9" * 5000, b'{"a": "\xff"}'])
def test_damaged_json_names_the_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_json_in_any_unicode_encoding_is_read(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "a.json").write_bytes('["ö"]'.encode(encoding))
        assert read_json(str(tmp_path / "a.json")) == ["ö"]
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory"):
        read_json(tmp_path)
