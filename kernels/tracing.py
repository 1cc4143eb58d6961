"""Functions that torch.fx records as one call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch.fx import Proxy

_Function = TypeVar("_Function", bound=Callable[..., Any])


def fx_leaf(function: _Function) -> _Function:
    """Makes torch.fx record a call of the function instead of tracing into it.

    Inside of the function, sizes are numbers then, which it may check and branch on. A graph refers to the function by
    its module and name, so it must be defined at the top level of its module.

    Args:
        function: At least one of its arguments is a tensor or a size that may be traced.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, Proxy):
                return argument.tracer.create_proxy("call_function", call, args, kwargs)
        return function(*args, **kwargs)

    return cast(_Function, call)
