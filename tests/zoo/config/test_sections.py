"""The sections of a config are those that the Runner takes."""

from __future__ import annotations

from attnzoo.zoo.training import Runner
from attnzoo.zoo.training.default_hooks import DEFAULT_HOOKS


def test_the_hooks_of_every_run_are_those_of_the_runner():
    class Stub:
        registered: list[dict] = []

        def register_hook(self, hook: dict) -> None:
            self.registered.append(hook)

    Runner.register_default_hooks(Stub(), {name: {} for name in DEFAULT_HOOKS})  # pyright: ignore[reportArgumentType]
    assert sorted(hook.get("type", "unknown to the Runner") for hook in Stub.registered) == sorted(
        DEFAULT_HOOKS.values()
    )
