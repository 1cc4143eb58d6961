"""Converts a report of `gpu_check.py` to Markdown, and inserts it into documents between marker comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attnzoo.names import unknown_name
from attnzoo.tools.benchmarking.kernels import PLAIN_COPY

_MARKERS = re.compile(r"<!-- gpu-check:([\w-]+) -->\n(.*?)<!-- /gpu-check:\1 -->", re.DOTALL)


def blocks(report: Mapping[str, Any]) -> dict[str, str]:
    """Converts a report to Markdown.

    Args:
        report: Report of `gpu_check.py`, which may be incomplete.

    Returns:
        The Markdown of each block by name: "environment", "tests", "models", and the name of each operation.
    """
    parts = {name: part for name, part in report["parts"].items() if part["results"]}
    found = {}
    if "environment" in parts:
        found["environment"] = _environment(parts["environment"]["results"])
    if "tests" in parts:
        found["tests"] = _tests(parts["tests"])
    for part in parts.values():
        if "operation" in part["results"]:
            operation = part["results"]["operation"]
            found[operation] = "\n\n".join(filter(None, [found.get(operation), _operation(part)]))
    models = [part["results"] for part in parts.values() if "model" in part["results"]]
    if models:
        found["models"] = _models(models)
    return found


def fill_markers(document: str, markdown: Mapping[str, str]) -> tuple[str, list[str]]:
    """Replaces the text between `<!-- gpu-check:NAME -->` and `<!-- /gpu-check:NAME -->` in a document.

    Args:
        document: The document.
        markdown: The Markdown of each block by name.

    Returns:
        The new document, and the names of the blocks that were replaced.

    Raises:
        ValueError: If the document has no markers, or one for a block that the report does not have.
    """
    names = [match.group(1) for match in _MARKERS.finditer(document)]
    if not names:
        raise ValueError("There is no pair of markers <!-- gpu-check:NAME --> and <!-- /gpu-check:NAME -->.")
    for name in names:
        if name not in markdown:
            raise ValueError(unknown_name("block", name, markdown))

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- gpu-check:{name} -->\n{markdown[name]}\n<!-- /gpu-check:{name} -->"

    return _MARKERS.sub(replace, document), names


def _environment(results: Mapping[str, Any]) -> str:
    libraries = results["libraries"]
    device = results["cpu"]
    if "gpu" in results:
        device = f"{results['gpu']} (compute capability {results['compute_capability']}, driver {results['driver']})"
    versions = ", ".join(f"{name} {libraries[name]}" for name in ("torch", "triton", "timm") if name in libraries)
    commit = f", commit {results['commit'][:12]}{' with changes' if results['modified'] else ''}"
    return f"`make gpu-check`: {device}, {versions}{commit if results['commit'] else ''}."


def _tests(part: Mapping[str, Any]) -> str:
    results = part["results"]
    if "skipped_because" in results:
        return f"Tests: not run, because {results['skipped_because']}."
    counts = ", ".join(f"{results[key]} {key}" for key in ("passed", "failed", "skipped"))
    return f"Tests: {counts} of {results['collected']}{_cut_off(part)}."


def _operation(part: Mapping[str, Any]) -> str:
    """Builds the tables of an operation: milliseconds, ratios and peak memory, a column per map size."""
    results = part["results"]
    maps = [entry for entry in reversed(results["maps"]) if entry["implementations"]]
    names = list(dict.fromkeys(name for entry in maps for name in entry["implementations"]))
    reference = next((name for name in names if name != PLAIN_COPY), "")
    head = [""] + [_map_name(entry) for entry in maps]
    settings = ", ".join(f"{key.replace('_', ' ')} {results[key]}" for key in results if key in _SHOWN_SETTINGS)

    def table(cell: Callable[[Mapping[str, Any]], str]) -> str:
        rows = [[f"`{name}`"] + [cell(entry["implementations"].get(name, {})) for entry in maps] for name in names]
        return _table(head, [row for row in rows if any(row[1:])])

    captions = [
        f"Milliseconds, forward / forward and backward ({settings}){_cut_off(part)}:",
        f"Time divided by that of `{reference}`:",
        "Peak memory beyond operands in MB, forward / forward and backward:",
    ]
    tables = [
        table(lambda row: row.get("error") or _pair(row, "forward_ms", "train_ms", _three_digits)),
        table(lambda row: _pair(row, "forward_ratio", "train_ratio", lambda value: f"{value:.2f}x")),
        table(lambda row: _pair(row, "forward_bytes", "train_bytes", lambda value: f"{value / 1e6:.0f}")),
    ]
    return "\n\n".join(f"{caption}\n\n{text}" for caption, text in zip(captions, tables, strict=True))


_SHOWN_SETTINGS = ("batch_size", "dim", "dtype", "kernel_size", "num_regions", "window_size", "block_size", "halo_size")


def _models(models: Iterable[Mapping[str, Any]]) -> str:
    """Builds the table of models: a row per model, mode and implementation."""
    head = ["Model", "Mode", "Implementation", "ms", "Images/s", "Ratio", "Peak memory, MB"]
    rows = []
    for results in models:
        model = f"`{results['model']}`, {'x'.join(map(str, results['img_size']))}, batch {results['batch_size']}"
        for mode in ("inference", "training"):
            for label, row in results.get(mode, {}).items():
                cells = [
                    row.get("error") or _value(row, "latency_ms", _three_digits),
                    _value(row, "throughput", lambda value: f"{value:.0f}"),
                    _value(row, "ratio", lambda value: f"{value:.2f}x"),
                    _value(row, "peak_bytes", lambda value: f"{value / 1e6:.0f}"),
                ]
                rows.append([f"{model}, {results['dtype']}", mode, label, *cells])
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _map_name(entry: Mapping[str, Any]) -> str:
    size = entry["size"]
    others = [f"{entry['heads']} heads"] + [f"top {entry['topk']}" for _ in range("topk" in entry)]
    return ", ".join([size if isinstance(size, str) else f"{size}x{size}", *others])


def _cut_off(part: Mapping[str, Any]) -> str:
    return "" if part["status"] in ("passed", "failed") else f"; {part['status']}, so incomplete"


def _pair(row: Mapping[str, Any], first: str, second: str, form: Callable[[float], str]) -> str:
    cells = [_value(row, key, form) for key in (first, second)]
    return f"{cells[0] or '–'} / {cells[1] or '–'}" if any(cells) else ""  # noqa: RUF001 - a dash for no value


def _value(row: Mapping[str, Any], key: str, form: Callable[[float], str]) -> str:
    return form(row[key]) if key in row else ""


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"
