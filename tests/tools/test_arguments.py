"""Arguments that tools share, and how a user's mistake is reported."""

from __future__ import annotations

import argparse

import pytest
from mmengine.config import Config

from attnzoo.tools.arguments import (
    UserError,
    add_check_argument,
    add_config_arguments,
    add_model_arguments,
    check_from_arguments,
    load_from_arguments,
    size_from_arguments,
    user_errors,
)
from attnzoo.zoo.config import ConfigError


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]):
    with user_errors() as outcome:
        raise UserError("no such model")
    assert outcome.code == 2
    assert capsys.readouterr().err == "error: no such model\n"


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(KeyError), user_errors():
        raise KeyError("ours")
    with pytest.raises(ValueError, match="later"), user_errors(over=lambda: True):
        raise ValueError("later")
    monkeypatch.setenv("ATTNZOO_TRACEBACK", "1")
    with pytest.raises(ValueError, match="asked for"), user_errors():
        raise ValueError("asked for")


def test_only_the_first_process_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("RANK", "1")
    with user_errors() as outcome:
        raise ValueError("wrong")
    assert outcome.code == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("given", "size"), [([], (224, 224)), (["96"], (96, 96)), (["64", "96"], (64, 96))])
def test_sizes(given: list[str], size: tuple[int, int]):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    args = parser.parse_args(["nat_mini", *(["--size", *given] if given else [])])
    assert size_from_arguments(args, (224, 224)) == size


@pytest.mark.parametrize("given", [["0"], ["1", "2", "3"]])
def test_invalid_sizes_raise(given: list[str]):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    with pytest.raises(UserError, match="one or two positive numbers, height and width, got"):
        size_from_arguments(parser.parse_args(["nat_mini", "--size", *given]), (224, 224))


def test_a_config_gets_its_work_dir_and_options():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    cfg = load_from_arguments(parser.parse_args(["nat_digits", "--cfg-options", "train_dataloader.batch_size=4"]))
    assert cfg.work_dir == "work_dirs/nat_digits"
    assert cfg.train_dataloader.batch_size == 4
    assert load_from_arguments(parser.parse_args(["nat_digits", "--work-dir", "w"])).work_dir == "w"


def test_checks_can_be_skipped(capsys: pytest.CaptureFixture[str]):
    parser = argparse.ArgumentParser()
    add_check_argument(parser)
    wrong = Config({"modle": {}})
    with pytest.raises(ConfigError, match="Did you mean 'model'"):
        check_from_arguments(parser.parse_args([]), wrong)
    check_from_arguments(parser.parse_args(["--no-check"]), wrong)
    assert capsys.readouterr().err.startswith("warning: --no-check: the keys, types and values of the config are not")
