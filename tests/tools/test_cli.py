"""Tests of the console command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import attnzoo
from attnzoo.tools import arguments, cli


def test_commands_are_the_tools():
    found = cli.commands()
    assert {"train", "test", "make_digits", "draw_predictions"} <= set(found)
    assert not {"cli", "arguments", "__init__"} & set(found)
    assert all(line.endswith((".", ":")) or len(line) > 20 for line in found.values())


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--help"]) == 0
    output = capsys.readouterr().out
    assert "make_digits" in output
    assert cli.main([]) == 2


def test_version(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"attnzoo {attnzoo.__version__}\n"


def test_unknown_command_suggests_the_closest_one(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["tran"]) == 2
    assert "Unknown command 'tran'. Did you mean 'train'" in capsys.readouterr().err


def test_arguments_and_exit_codes_are_forwarded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["draw-predictions", str(tmp_path)]) == 2
    assert "predictions.json" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(cli.commands()))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--help"])
    assert exit_info.value.code == 0
    assert "usage:" in capsys.readouterr().out


ONLY_PARSE = """
import contextlib, io, sys
initial = {name.partition(".")[0] for name in sys.modules}
from attnzoo.tools import cli

allowed = initial | sys.stdlib_module_names | {"attnzoo"}
for name in cli.commands():
    for argument, code in (("--help", 0), ("--no-such-argument", 2)):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as stderr:
            try:
                cli.main([name, argument])
            except SystemExit as stop:
                assert stop.code == code, (name, argument, stderr.getvalue())
            else:
                raise AssertionError(f"{name} {argument} did not exit")
        imported = sorted({module.partition(".")[0] for module in sys.modules} - allowed)
        allowed |= set(imported)
        if imported:
            print(f"{name} {argument} imports {', '.join(imported)}")
"""


def test_parsing_imports_no_other_library():
    """Help and wrong arguments get their answer at once: importing torch alone takes seconds."""
    done = subprocess.run([sys.executable, "-c", ONLY_PARSE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_tool_runs_as_a_script():
    script = Path(cli.__file__).with_name("draw_predictions.py")
    done = subprocess.run([sys.executable, script, "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: There is no file nowhere")
    assert "Traceback" not in done.stderr


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(RuntimeError, match="a bug"), arguments.user_errors():
        raise RuntimeError("a bug")
    with arguments.user_errors() as outcome:
        raise ValueError("a mistake")
    assert outcome.code == 2
    assert capsys.readouterr().err == "error: a mistake\n"
    monkeypatch.setenv("ATTNZOO_TRACEBACK", "1")
    with pytest.raises(ValueError, match="a mistake"), arguments.user_errors():
        raise ValueError("a mistake")
