"""graphql-core's execution, with compiled selections for the lists in an answer.

graphql-core's executor calls itself for every value. Ours steps in where a list begins, and only there: if what is
selected of its items can be compiled (see `compiled`), the list is answered whole, and otherwise as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import graphql
from graphql import DocumentNode, VariableNode, Visitor, default_field_resolver, visit

from grid.service.api.columns import Columns
from grid.service.api.compiled import Compiled, Unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CompilingExecutor", "Selections"]

_ON_THE_LOOP = 1_000
"""How many fields the items of a list may have in all to be answered on the event loop, which takes about a
millisecond; a longer list is answered in a thread."""

# Of their own: what else runs in threads, such as unpacking an archive, may take them for long.
_answering = ThreadPoolExecutor(2, thread_name_prefix="grid-answers")

# graphql-core 3.3 has a new name for its executor, and another by default, for incremental delivery, which takes a
# quarter longer.
_Executor: Any = getattr(graphql, "Executor", None) or graphql.ExecutionContext  # type: ignore[attr-defined, unused-ignore]


class Selections:
    """The compiled selections of one document, kept with it.

    Parameters
    ----------
    document
        The document, valid.
    characters
        How long its text is. The selections that are kept have at most a field, which takes some 750 bytes, for every
        eight characters of it, so that they are limited as the documents are.
    """

    def __init__(self, document: DocumentNode, characters: int) -> None:
        self._document = document
        self._most = characters // 8
        self._kept: dict[Any, Compiled | None] = {}
        self._size = 0
        self._deciding: tuple[str, ...] | None = None

    def of(self, place: Any, item: Any, executor: CompilingExecutor) -> Compiled | None:
        """Return the selection of a list's items, compiled; None if it cannot be."""
        if self._deciding is None:
            self._deciding = _variables_of_directives(self._document)
        values = executor.variables
        nodes = [getattr(each, "node", each) for each in place]
        # A document's nodes live as long as what is kept here, so that their ids are theirs alone.
        key = (id(item), *map(id, nodes), *(values.get(name) for name in self._deciding))
        if key in self._kept:
            return self._kept[key]
        compiled: Compiled | None
        try:
            compiled = Compiled(item, place, executor.selected)
        except Unknown:
            compiled = None
        size = 1 + (compiled.size if compiled else 0)
        if self._size + size > self._most:
            self._kept.clear()
            self._size = 0
        if size <= self._most:
            self._kept[key] = compiled
            self._size += size
        return compiled

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Make an executor, as graphql-core does with the class of one; it passes nothing of ours to it."""
        executor = CompilingExecutor.build(*args, **kwargs)
        if isinstance(executor, CompilingExecutor):  # and not a list of errors
            executor.selections = self
        return executor


class CompilingExecutor(_Executor):  # type: ignore[misc]
    """An executor that answers lists by compiled selections, if it is given any."""

    selections: Selections | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """The values of the operation's variables."""
        values: Any = self.variable_values
        return dict(getattr(values, "coerced", values))  # the former since graphql-core 3.3

    def selected(self, type_: Any, place: Any) -> dict[str, Any]:
        """Collect the fields of a selection."""
        collected = self.collect_subfields(type_, place)
        return dict(getattr(collected, "grouped_field_set", collected))  # the former since graphql-core 3.3

    def complete_list_value(
        self, return_type: Any, place: Any, info: Any, path: Any, result: Any, *more: Any
    ) -> Sequence[Any] | Awaitable[Sequence[Any]]:
        """Answer a list: what is selected of its items, in the order of the items."""

        def as_before() -> Any:
            return super(CompilingExecutor, self).complete_list_value(return_type, place, info, path, result, *more)

        if type(result) not in (list, tuple, Columns) or not result or self.selections is None:
            return as_before()  # type: ignore[no-any-return]
        if self.field_resolver is not default_field_resolver or self.middleware_manager:
            return as_before()  # type: ignore[no-any-return]
        try:
            compiled = self.selections.of(place, return_type.of_type, self)
            if compiled is not None and (compiled.reads or len(result) * compiled.size > _ON_THE_LOOP):
                return _later(compiled, result, as_before)
            if compiled is not None:
                return compiled.answer(result)
        except Exception:  # noqa: BLE001, S110 - graphql-core meets it again, whatever it is, and tells the client where
            pass
        return as_before()  # type: ignore[no-any-return]


async def _later(compiled: Compiled, items: Sequence[Any], as_before: Callable[[], Any]) -> Any:
    try:
        prepared = await compiled.prepare(items) if compiled.reads else None
        if len(items) * compiled.size <= _ON_THE_LOOP:
            return compiled.answer(items, prepared)
        return await asyncio.get_running_loop().run_in_executor(_answering, compiled.encoded, items, prepared)
    except Exception:  # noqa: BLE001 - as above
        answer = as_before()
        return await answer if hasattr(answer, "__await__") else answer


def _variables_of_directives(document: DocumentNode) -> tuple[str, ...]:
    """Return the names of the variables that decide what is selected."""
    names: dict[str, None] = {}

    class Directives(Visitor):
        def enter_directive(self, node: Any, *_: Any) -> None:
            for argument in node.arguments or ():
                if isinstance(argument.value, VariableNode):
                    names[argument.value.name.value] = None

    visit(document, Directives())
    return tuple(names)
