"""The commands that a finished fine-tuning suggests; test_run.py tests the rest."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from attnzoo.tools import export, predict, test
from attnzoo.zoo.finetune.report import next_commands

TOOLS = {"predict": predict, "export": export, "test": test}


def test_the_suggested_commands_are_those_of_the_tools():
    commands = [line.split() for line in next_commands(Path("work_dirs/mine"))]
    assert [(program, name) for program, name, *_ in commands] == [("attnzoo", name) for name in TOOLS]
    for _, name, *arguments in commands:
        assert isinstance(TOOLS[name].parse_args(arguments), argparse.Namespace)
        with pytest.raises(SystemExit):
            TOOLS[name].parse_args([*arguments, "--no-such-option"])
