"""How the arguments of `Run` behave: which of them were given, and that they are set until the run is started."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from grid.run import Run

_P = ParamSpec("_P")
_T = TypeVar("_T")


def noting_what_was_given(init: Callable[_P, None]) -> Callable[_P, None]:
    """Let an ``__init__`` know what its caller wrote: that wins over a configuration file, a default does not."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def noting(*args: _P.args, **kwargs: _P.kwargs) -> None:
        given = signature.bind(*args, **kwargs).arguments
        run = given.pop("self")
        object.__setattr__(run, "_given", given)
        init(*args, **kwargs)

    return noting


class Argument(Generic[_T]):
    """An argument of a run: set until the run is started, read afterwards."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, run: None, owner: type) -> Argument[_T]: ...
    @overload
    def __get__(self, run: Run, owner: type) -> _T: ...
    def __get__(self, run: Run | None, owner: type) -> _T | Argument[_T]:
        return self if run is None else getattr(run._definition, self._name)  # noqa: SLF001

    def __set__(self, run: Run, value: _T) -> None:
        run._change(self._name, value)  # noqa: SLF001
