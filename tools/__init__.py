"""Scripts, one per job: each has `main(argv=None) -> int` and runs as `attnzoo NAME` or `python tools/NAME.py`."""
