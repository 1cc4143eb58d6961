"""Scripts limit the spinning of OpenMP's threads before they import torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnzoo.tools import cli
from attnzoo.tools.openmp import limit_spinning

TOOLS = Path(cli.__file__).parent


def test_the_user_decides():
    for given, expected in (
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ):
        environment = dict(given)
        limit_spinning(environment)
        assert environment == expected


@pytest.mark.parametrize("name", [*cli.commands(), "cli"])
def test_every_script_sets_it_before_other_imports(name: str):
    tree = ast.parse((TOOLS / f"{name}.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = [
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in sorted(imports, key=lambda node: node.lineno)
    ]
    others = [module for module in imported if module.partition(".")[0] not in sys.stdlib_module_names]
    assert others[0] == "attnzoo.tools.openmp"


REPORT = """
import os, runpy, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            os._exit(0)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (f"sys.argv[1:] = ['nat_digits']; runpy.run_path({str(TOOLS / 'train.py')!r}, run_name='__main__')", "1000"),
        ("import attnzoo.kernels", "None"),
    ],
    ids=["script", "library"],
)
def test_scripts_set_it_and_the_library_does_not(run: str, expected: str):
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", REPORT + run], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{expected}\n"
