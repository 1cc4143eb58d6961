import json
import multiprocessing
import os
import pickle
import sys
import tarfile
import types
import zlib

import numpy as np
import pytest

from attnzoo.zoo.data.classification import sources
from attnzoo.zoo.data.classification.sources import build_source, folder_class_names


def labels_of(source):
    found = {}
    for index in range(len(source)):
        file, label = source.open(index)
        file.close()
        found[source.path(index)] = label
    return found


def contents(source):
    found = set()
    for index in range(len(source)):
        file, label = source.open(index)
        with file:
            found.add((file.read(), label))
    return found


def pack(folder, tar_file, prefix=""):
    with tarfile.open(tar_file, "w") as tar:
        for path in sorted(folder.rglob("*.png")):
            tar.add(path, arcname=prefix + str(path.relative_to(folder)))
    return tar_file


def test_folders_are_classes_in_natural_order(make_folder):
    root = make_folder(classes=("c10", "c2", "c1"))
    source = build_source(str(root))
    assert source.classes == ("c1", "c2", "c10")
    assert labels_of(source) == {
        str(root / name / f"{number}.png"): label
        for label, name in enumerate(("c1", "c2", "c10"))
        for number in range(3)
    }


def test_a_split_is_a_folder_and_the_case_of_suffixes_is_ignored(make_folder):
    root = make_folder("data/val", suffix=".JPEG").parent
    assert len(build_source(str(root), "val")) == 6


def test_hidden_folders_and_other_files_are_ignored(make_folder):
    root = make_folder()
    (root / ".ipynb_checkpoints").mkdir()
    (root / "readme.txt").write_text("no image")
    (root / "cat" / "notes.txt").write_text("no image")
    source = build_source(str(root))
    assert source.classes == ("cat", "dog")
    assert len(source) == 6


def test_images_at_any_depth_belong_to_the_outermost_folder(make_folder):
    root = make_folder("train/cat", classes=("indoor", "outdoor")).parent
    make_folder("train/dog", classes=("indoor", "outdoor/night"))
    make_folder("train", classes=("cat",), count=1)
    source = build_source(str(root))
    assert source.classes == folder_class_names(str(root)) == ("cat", "dog")
    assert len(source) == 13
    assert all(label == ("/dog/" in path) for path, label in labels_of(source).items())
    mapped = build_source(str(root), class_map={"dog": 4})
    assert set(labels_of(mapped).values()) == {4}
    assert len(mapped) == 6


def test_the_layout_of_tiny_imagenet(make_folder):
    make_folder("train/n02", classes=("images",))
    root = make_folder("train/n01", classes=("images",)).parent
    assert build_source(str(root)).classes == ("n01", "n02")


def test_all_suffixes_that_pil_reads_are_found_and_others_counted(make_folder, make_image, monkeypatch):
    messages = []
    monkeypatch.setattr(sources, "print_log", lambda message, **_: messages.append(message))
    root = make_folder(count=1)
    for suffix in ("webp", "BMP", "gif", "tif", "TIFF", "jfif", "jp2", "tga", "avif"):
        make_image(0).save(root / "dog" / f"x.{suffix}")
    for name in ("a.heic", "b.HEIC", "notes.txt", "nothing", "clip.mpg", "page.pdf", ".hidden"):
        (root / "cat" / name).write_bytes(b"")
    assert len(build_source(str(root))) == 11
    (message,) = messages
    assert message.startswith(f"{root}: left out files that are not read as images: 2 .heic, 1 ")
    for part in ("1 .txt", "1 .mpg", "1 .pdf", "1 without a suffix"):
        assert part in message


def test_links_are_followed_once(make_folder, tmp_path):
    root = make_folder("data/train")
    elsewhere = make_folder("elsewhere", classes=("many",))
    for link, target in {
        "cat/loop": root,
        "cat/up": root / "cat",
        "dog/other": root / "cat",
        "dog/more": elsewhere / "many",
        "dog/again": elsewhere,
    }.items():
        (root / link).symlink_to(target)
    source = build_source(str(root))
    assert len(source) == 9
    assert sum("cat" in path for path in labels_of(source)) == 3
    (root / "kitten").symlink_to(root / "cat")
    with pytest.raises(ValueError, match=r"kitten and .*cat are the same folder"):
        build_source(str(root))


@pytest.mark.parametrize("form", ["dict", "list", "txt", "json list", "json dict"])
def test_a_class_map_sets_labels(make_folder, form):
    root = make_folder()
    given = {"dict": {"dog": 2, "cat": 0}, "list": ["cat", "cow", "dog"]}
    (root / "map.txt").write_text("cat\ncow\n\ndog\n")
    (root / "list.json").write_text(json.dumps(given["list"]))
    (root / "dict.json").write_text(json.dumps(given["dict"]))
    files = {"txt": "map.txt", "json list": str(root / "list.json"), "json dict": "dict.json"}
    source = build_source(str(root), class_map=given.get(form) or files[form])
    assert {os.path.basename(os.path.dirname(path)): label for path, label in labels_of(source).items()} == {
        "cat": 0,
        "dog": 2,
    }
    assert source.classes == ("cat", "1" if "dict" in form else "cow", "dog")


def test_imagenets_classes_are_known_by_name(make_folder):
    root = make_folder(classes=("n01440764", "n15075141"))
    source = build_source(str(root), class_map="imagenet-1k")
    assert len(source.classes) == 1000
    assert set(labels_of(source).values()) == {0, 999}


def test_folders_outside_of_the_class_map_are_skipped_with_a_warning(make_folder, monkeypatch):
    messages = []
    monkeypatch.setattr(sources, "print_log", lambda message, **_: messages.append(message))
    source = build_source(str(make_folder()), class_map=["dog"])
    assert set(labels_of(source).values()) == {0}
    assert len(messages) == 1
    assert "1 of 2 folders are not in the class map: cat" in messages[0]


def test_a_missing_folder_is_reported_with_what_exists(make_folder):
    root = make_folder("data/train").parent
    with pytest.raises(ValueError, match=r"no folder .*contains train.*Did you mean 'train'"):
        build_source(str(root), "trian")
    with pytest.raises(ValueError, match=r"no folder .*nowhere"):
        build_source(str(root / "nowhere"), "train")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        build_source(str(root / "train" / "cat" / "0.png"), reader="folder")


def test_folders_of_splits_are_not_classes(make_folder):
    root = make_folder("data/train").parent
    make_folder("data/val")
    with pytest.raises(ValueError, match=r"\(train, val\) are splits, not classes.*split='train'"):
        build_source(str(root))


def test_images_outside_of_class_folders_raise(make_folder, make_image):
    root = make_folder()
    make_image(0).save(root / "loose.png")
    with pytest.raises(ValueError, match=r"loose\.png\) outside of any class's folder.*annotations"):
        build_source(str(root))


def test_empty_folders_raise(tmp_path, make_folder):
    with pytest.raises(ValueError, match="has no classes"):
        build_source(str(tmp_path))
    (tmp_path / "bare" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="has no images"):
        build_source(str(tmp_path / "bare"))
    root = make_folder()
    (root / "cow").mkdir()
    with pytest.raises(ValueError, match=r"1 of the 3 class folders .* have no images: cow\. Remove"):
        build_source(str(root))
    assert build_source(str(root), class_map=["cat", "cow", "dog"]).classes == ("cat", "cow", "dog")


def test_a_list_contains_images_and_labels(make_folder):
    root = make_folder("data/val")
    (root / "val.txt").write_text("cat/0.png 1\ncat/1.png 0\n\ndog/2.png 3\n")
    source = build_source(str(root.parent), "val", annotations="val.txt")
    assert list(labels_of(source).items()) == [
        (str(root / "cat/0.png"), 1),
        (str(root / "cat/1.png"), 0),
        (str(root / "dog/2.png"), 3),
    ]
    assert source.classes == ("0", "1", "2", "3")
    (root / "named.txt").write_text("cat/0.png dog\ncat/1.png 0\n")
    source = build_source(str(root), annotations=str(root / "named.txt"), class_map=["cat", "dog"])
    assert list(labels_of(source).values()) == [1, 0]
    assert source.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("lines", "class_map", "message"),
    [
        ("", None, "is empty"),
        ("cat/0.png\n", None, "line 1: 'cat/0.png' is not a path and a label"),
        ("cat/0.png 1\ncat/9.png 1\n", None, r"1 of the 2 files .* do not exist: .*cat/9\.png"),
        ("cat/0.png cat\n", None, "line 1: the label 'cat' is not a number"),
        ("cat/0.png cta\n", ["cat"], "line 1: Unknown class 'cta'. Did you mean 'cat'"),
        ("cat/0.png 1\n", ["cat"], "line 1: Unknown class '1'"),
        ("cat/0.png 1\ncat 1\n", None, r"do not exist: .*cat \(line 2\)"),
        ("cat/0.png 1000000\n", None, "line 1: a label must be less than 1000000, got 1000000"),
        (f"cat/0.png {'9' * 5000}\n", None, r"list.txt, line 1: a label must be less than"),
        ("cat/0.png 0\n\ncat/\0.png 1\n", None, r"list.txt, line 3: it has a null character"),
        (b"cat/0.png 0\n\xff\xfe 1\n", None, r"list.txt, line 2: it is not text in UTF-8"),
    ],
)
def test_impossible_lists_raise(make_folder, lines, class_map, message):
    root = make_folder()
    (root / "list.txt").write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(ValueError, match=message):
        build_source(str(root), annotations="list.txt", class_map=class_map)


def test_a_missing_list_raises(make_folder):
    with pytest.raises(ValueError, match=r"'list\.txt' \(annotations\) does not exist"):
        build_source(str(make_folder()), annotations="list.txt")


@pytest.fixture
def tars(make_folder, tmp_path):
    root = make_folder("images/train")
    folder = tmp_path / "tars"
    folder.mkdir()
    pack(root, folder / "train.tar")
    by_class = tmp_path / "by_class" / "train"
    by_class.mkdir(parents=True)
    for name in ("cat", "dog"):
        pack(root / name, by_class / f"{name}.tar")
    return {"folder": root, "file": folder / "train.tar", "split": folder, "by class": by_class.parent}


@pytest.mark.parametrize("form", ["file", "split", "by class"])
def test_tar_files_have_the_same_content_as_folders(tars, form):
    folder = build_source(str(tars["folder"]))
    tar = build_source(str(tars[form]), None if form == "file" else "train")
    assert tar.classes == folder.classes
    assert contents(tar) == contents(folder)
    assert len(tar) == len(folder) == 6
    paths = [tar.path(index) for index in range(len(tar))]
    assert len(set(paths)) == 6
    assert all(".tar" in path for path in paths)


def test_a_tar_file_takes_a_class_map(tars):
    source = build_source(str(tars["file"]), class_map=["dog"])
    assert source.classes == ("dog",)
    assert len(source) == 3
    with pytest.raises(ValueError, match="contains none of the 2 classes in"):
        build_source(str(tars["file"]), class_map=["cow"])


@pytest.mark.parametrize(
    ("members", "classes"),
    [
        ({"": ["cat/indoor/1.png", "cat/outdoor/1.png", "dog/indoor/2.webp"]}, ("cat", "dog")),
        ({"": ["./train/cat/indoor/1.png", "./train/cat/2.png", "./train/dog/indoor/2.png"]}, ("cat", "dog")),
        ({"n01": ["n01/images/1.png"], "n02": ["n02/images/1.png", "n02/images/2.JFIF"]}, ("n01", "n02")),
        ({"cat": ["./1.png"], "dog": ["1.png"]}, ("cat", "dog")),
        ({"shard0": ["cat/1.png"], "shard1": ["cat/2.png", "dog/1.png"]}, ("cat", "dog")),
    ],
)
def test_the_outermost_folder_in_a_tar_file_is_the_class(tmp_path, make_image, members, classes):
    make_image(0).save(tmp_path / "image.png")
    for name, files in members.items():
        with tarfile.open(tmp_path / f"{name or 'all'}.tar", "w") as tar:
            for file in files:
                tar.add(tmp_path / "image.png", arcname=file)
    source = build_source(str(tmp_path if "" not in members else tmp_path / "all.tar"))
    assert source.classes == classes
    assert len(source) == sum(map(len, members.values()))
    assert all(classes[label] in path for path, label in labels_of(source).items())


def read_all(source, times, queue, start=None):
    if start is not None:
        start.wait(60)
    checksums = set()
    for _ in range(times):
        for index in range(len(source)):
            file, _ = source.open(index)
            with file:
                checksums.add((index, zlib.crc32(file.read())))
    queue.put(checksums)


def test_forked_workers_do_not_share_an_open_tar_file(tmp_path):
    # Files are larger than Python's read buffer, so that every read moves the position in the tar file.
    noise = np.random.default_rng(0)
    (tmp_path / "cat").mkdir()
    for number in range(8):
        (tmp_path / "cat" / f"{number}.png").write_bytes(noise.bytes(100_000))
    context = multiprocessing.get_context("fork")
    source = build_source(str(pack(tmp_path, tmp_path / "noise.tar")))
    queue = context.Queue()
    start = context.Barrier(3)
    read_all(source, 1, queue)
    expected = queue.get(timeout=60)
    workers = [context.Process(target=read_all, args=(source, 50, queue, start)) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        found = [queue.get(timeout=60) for _ in workers]
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()
    assert len(expected) == 8
    assert found == [expected] * 3


def test_an_opened_tar_source_can_be_pickled(tars):
    source = build_source(str(tars["by class"]), "train")
    labels_of(source)
    assert labels_of(pickle.loads(pickle.dumps(source))) == labels_of(source)


def test_impossible_tar_files_raise(tars, tmp_path):
    with pytest.raises(ValueError, match="has no split 'val'"):
        build_source(str(tars["file"]), "val")
    compressed = tmp_path / "a.tar.gz"
    with tarfile.open(compressed, "w:gz") as tar:
        tar.add(tars["folder"])
    with pytest.raises(ValueError, match=r"not a \.tar file\. Compressed archives have no random access"):
        build_source(str(compressed))
    bad = tmp_path / "bad.tar"
    bad.write_bytes(b"no tar file" * 1000)
    with pytest.raises(ValueError, match="cannot be read as a tar file"):
        build_source(str(bad))
    empty = tmp_path / "empty.tar"
    tarfile.open(empty, "w").close()
    with pytest.raises(ValueError, match="contains no images"):
        build_source(str(empty))
    for number, prefix in enumerate(("", "./", "./././")):
        flat = pack(tars["folder"] / "cat", tmp_path / f"flat{number}.tar", prefix)
        with pytest.raises(ValueError, match="outside of any class's folder"):
            build_source(str(flat))
    with pytest.raises(ValueError, match=r"contains no \.tar files"):
        build_source(str(tars["folder"]), reader="tar")


class Column(dict):
    """The part of a Hugging Face data set that timm's reader uses."""

    def __init__(self, items, names):
        self.items_ = items
        self.info = types.SimpleNamespace(
            features={"label": types.SimpleNamespace(names=names) if names else object()}, splits={}
        )

    def cast_column(self, key, feature):
        assert key == "image"
        return self

    def __len__(self):
        return len(self.items_)

    def __getitem__(self, index):
        return self.items_[index]


@pytest.fixture
def hub(monkeypatch, make_folder):
    images = sorted(make_folder().rglob("*.png"))
    items = [
        {"image": {"bytes": path.read_bytes(), "path": path.name if label else None}, "label": label}
        for label, path in enumerate(images[:2])
    ]
    asked = {}

    def load_dataset(name, split, cache_dir=None):
        asked.update(name=name, split=split, cache_dir=cache_dir)
        return Column([] if split == "none" else items, None if name == "org/unlabelled" else ["cat", "dog"])

    module = types.ModuleType("datasets")
    module.__spec__ = types.SimpleNamespace()  # pyright: ignore[reportAttributeAccessIssue]
    module.load_dataset = load_dataset  # pyright: ignore[reportAttributeAccessIssue]
    module.Image = lambda decode: None  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.delitem(sys.modules, "timm.data.readers.reader_hfds", raising=False)
    return asked


@pytest.mark.parametrize(("root", "reader"), [("org/pets", "hfds"), ("hfds/org/pets", "auto")])
def test_hugging_face_data_sets_go_through_timms_reader(hub, root, reader):
    source = build_source(root, "validation", reader, reader_options={"root": "cache"})
    assert hub == {"name": "org/pets", "split": "validation", "cache_dir": "cache"}
    assert source.classes == ("cat", "dog")
    assert labels_of(source) == {"org/pets/validation/0": 0, "org/pets/validation/1/1.png": 1}
    mapped = build_source(root, "validation", reader, class_map=["dog", "cat"])
    assert list(labels_of(mapped).values()) == [1, 0]


def test_impossible_hugging_face_data_sets_raise(hub, make_folder):
    with pytest.raises(ValueError, match="no class labels under 'label'"):
        build_source("org/unlabelled", reader="hfds")
    with pytest.raises(ValueError, match="no images in its split 'none'"):
        build_source("org/pets", "none", "hfds")
    with pytest.raises(ValueError, match="not with a Hugging Face data set"):
        build_source("org/pets", reader="hfds", annotations="a.txt")
    with pytest.raises(ValueError, match="work with Hugging Face data sets only"):
        build_source(str(make_folder()), reader_options={"input_key": "image"})


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install datasets"):
        build_source("org/pets", reader="hfds")


def test_an_unknown_reader_raises(make_folder):
    with pytest.raises(ValueError, match=r"Unknown reader 'foldr'. Did you mean 'folder'"):
        build_source(str(make_folder()), reader="foldr")
