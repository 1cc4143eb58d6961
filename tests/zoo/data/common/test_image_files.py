import pytest
from PIL import Image

from attnzoo.zoo.data.common.image_files import ImageFinder, image_suffixes


def test_every_suffix_that_pil_decodes_is_one_of_an_image():
    suffixes = image_suffixes()
    assert suffixes >= {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2"}
    assert suffixes >= {".mpo", ".ppm", ".tga", ".ico", ".qoi"}
    assert not suffixes & {".pdf", ".mpg", ".mpeg", ".eps", ".ps", ".wmf", ".h5", ".hdf", ".txt", ".json", ""}


def test_suffixes_of_plug_ins_are_found(monkeypatch):
    assert ".heic" not in image_suffixes()
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
    monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
    assert ".heic" in image_suffixes()


@pytest.fixture
def tree(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", "z/c.png", ".git/d.png", "b/._1.jpg", "n.txt", "z/n", "z/o.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_files_are_found_by_their_suffix_and_others_are_counted(tree):
    finder = ImageFinder()
    found = [path.removeprefix(f"{tree}/") for path in finder.find(tree)]
    assert found == ["a.webp", "b/1.jpg", "b/2.PNG", "z/c.png"]
    assert finder.left_out == {".txt": 2, "": 1}
    assert finder.summary(tree) == f"{tree}: left out files that are not read as images: 2 .txt, 1 without a suffix."
    assert ImageFinder().summary(tree) is None
    assert len(list(ImageFinder([".txt"]).find(tree))) == 2


def test_many_suffixes_are_summarized():
    finder = ImageFinder()
    for number in range(14):
        assert not finder.matches(f"a.x{number}")
    assert str(finder.summary("here")).endswith("1 .x9, 4 others.")


def test_each_real_folder_is_visited_once(tree):
    (tree / "b" / "loop").symlink_to(tree)
    (tree / "a_link").symlink_to(tree / "z")
    (tree / "z" / "self").symlink_to(tree / "z")
    found = [path.removeprefix(f"{tree}/") for path in ImageFinder().find(tree)]
    # The folder itself takes precedence over the link beside it.
    assert found == ["a.webp", "b/1.jpg", "b/2.PNG", "z/c.png"]
    finder = ImageFinder()
    assert finder.visit(tree / "z") is None
    assert finder.visit(tree / "a_link") == str(tree / "z")


def test_folders_that_cannot_be_listed_raise(tree):
    with pytest.raises(ValueError, match="nothing cannot be listed: No such file"):
        list(ImageFinder().find(tree / "nothing"))
