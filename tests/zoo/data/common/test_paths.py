from pathlib import Path

from attnzoo.zoo.data.common.paths import GENERATED, did_you_mean, missing_path


def test_a_missing_path_names_the_argument_and_what_is_similar(tmp_path, monkeypatch):
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    sentence = missing_path("root", "pet")
    assert sentence == f"root: there is no pet (from {tmp_path}). Did you mean pets?"
    assert missing_path("root", tmp_path / "xyzzy") == f"root: there is no {tmp_path / 'xyzzy'} (from {tmp_path})."


def test_the_first_missing_part_of_the_path_is_corrected(tmp_path):
    (tmp_path / "images").mkdir()
    assert did_you_mean(tmp_path / "imags" / "train" / "a") == f" Did you mean {tmp_path / 'images'}?"
    assert did_you_mean(tmp_path / "images" / "train") == ""


def test_generated_data_sets_name_their_script(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "`python tools/make_digits.py` makes it." in missing_path("root", "data/digits")
    tools = Path(__file__).parents[4] / "tools"
    assert all((tools / f"{script}.py").is_file() for script in GENERATED.values())
