"""The console command: `attnzoo NAME ...` runs what `python tools/NAME.py ...` runs in a checkout."""

from __future__ import annotations

import attnzoo.tools.openmp  # isort: skip  # before torch is imported

import ast
import importlib
import sys
from pathlib import Path

from attnzoo.names import unknown_name
from attnzoo.tools.arguments import EXIT_USER_ERROR


def commands() -> dict[str, str]:
    """Finds the tools in the folder of this file.

    Returns:
        Each command's name and first line of help, sorted by name.
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if has_main and path.stem != Path(__file__).stem:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def overview() -> str:
    """Returns the usage message of the console command."""
    tools = commands()
    width = max(map(len, tools))
    lines = ["usage: attnzoo COMMAND ... | --version", "", "commands:"]
    lines += [f"  {name:<{width}}  {line}" for name, line in tools.items()]
    lines += ["", "`attnzoo COMMAND --help` lists the arguments of a command."]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the command that the first argument names; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--version"]:
        print(f"attnzoo {attnzoo.__version__}")
        return 0
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return 0 if argv else EXIT_USER_ERROR
    name = argv[0].replace("-", "_")
    tools = commands()
    if name not in tools:
        print(f"error: {unknown_name('command', argv[0], tools)}", file=sys.stderr)
        return EXIT_USER_ERROR
    return importlib.import_module(f"attnzoo.tools.{name}").main(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
