"""What an operation costs: the number of fields in its answer, computed before it is executed.

The size and depth of documents and the size of bodies are limited in `limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    VariableNode,
    get_named_type,
)

from grid.service.api.errors import ApiError
from grid.service.api.limits import exceeded
from grid.service.system.settings import MAX_EXPERIMENTS
from grid.shared.wire import MAX_PAGE_SIZE, ErrorCode, ExperimentStatus

if TYPE_CHECKING:
    from graphql import (
        DocumentNode,
        GraphQLArgument,
        GraphQLNamedType,
        GraphQLOutputType,
        GraphQLSchema,
        OperationDefinitionNode,
        SelectionSetNode,
    )

__all__ = ["MAX_COST", "CostPlan"]

MAX_COST = 100_000

# How many elements a list is assumed to have if nothing states its length.
_LIST_SIZE = 10

# Lists of objects that hold more or fewer. A run may have 10,000 failures that all differ; the client asks for all of
# one run's at once, with everything about each, so they count for as many as let that pass.
_LENGTHS = {
    "RunStatus.groups": len(ExperimentStatus),
    "Run.failures": MAX_EXPERIMENTS // 2,
    "Cluster.instanceTypes": 100,
    # As many as there are pieces in an answer.
    "RunLogs.pages": 1_000,
}

# The longest page of those that are no lists of objects.
_MOST = {"Experiment.log": 10_000}

# What a field costs that is more than one value. Names: all groups of a run together have 10,000 of them, as many as a
# run has experiments. Deleted indices: as many as let pass a page of 100 runs, for which the client asks. Events:
# those of each run take two statements. A forecast takes two as well, which read some hundreds of rows and a queue.
_WEIGHTS = {
    "Cancellation.ended": MAX_EXPERIMENTS // 2,
    "Cancellation.pending": MAX_EXPERIMENTS // 2,
    "FailureGroup.names": MAX_EXPERIMENTS // _LENGTHS["Run.failures"],
    "Retry.names": MAX_EXPERIMENTS,
    "Run.deletedIndices": 500,
    "Run.events": 100,
    "RunStatus.forecast": 10_000,
    "Run.varying": 20,
    "StatusGroup.names": MAX_EXPERIMENTS // _LENGTHS["RunStatus.groups"],
    # A page of text each, from a file that is opened for it.
    "Experiment.log": 1_000,
    "Experiment.buildLog": 100,
    "Run.buildLog": 100,
    "Run.logs": 10_000,
    # These look at files, or read one whole.
    "Experiment.artifacts": 100,
    "Experiment.artifact": 20,
    "Artifact.sha256": 10,
    # These cost far more than an answer: they expand a sweep of up to 10,000 experiments.
    "Query.estimate": 10_000,
    "Query.preview": 10_000,
    "Mutation.startRun": 10_000,
}


class _Sum:
    """A cost: a constant plus, for each list whose length is a variable, a multiple of that list's cost."""

    __slots__ = ("constant", "lists")

    def __init__(self, constant: int = 0) -> None:
        self.constant = constant
        self.lists: dict[int, int] = {}

    def add(self, other: _Sum, times: int = 1) -> None:
        self.constant += times * other.constant
        for index, count in other.lists.items():
            self.lists[index] = self.lists.get(index, 0) + times * count

    def value(self, lists: list[int]) -> int:
        return self.constant + sum(count * lists[index] for index, count in self.lists.items())


class _Length:
    """The length of a page that is set by a variable."""

    __slots__ = ("default", "field", "index", "variable")

    def __init__(self, index: int, field: str, variable: str, default: int) -> None:
        self.index = index
        self.field = field
        self.variable = variable
        self.default = default


class CostPlan:
    """What an operation costs, computed as far as possible without its variables.

    A field costs 1, or as many values as it can hold. What is selected below a list counts once for each element: as
    many as the argument `first` says for a page, and for any other list as many as it can hold, or 10.

    Parameters
    ----------
    schema
        The schema that the document is valid for.
    document
        The valid document.
    operation
        The operation in it.

    Raises
    ------
    ApiError
        If a page size that the document itself states is not allowed.
    """

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._defaults = {
            node.variable.name.value: _literal(node.default_value)
            for node in operation.variable_definitions or ()
            if node.default_value is not None
        }
        self._lengths: list[_Length] = []
        # Each list's length and the cost of one element; an inner list comes before the list that contains it.
        self._lists: list[tuple[int, _Sum]] = []
        self._spread: dict[tuple[str, int | _Length], _Sum] = {}
        root = schema.get_root_type(operation.operation)
        self._total = self._selections(operation.selection_set, root, _LIST_SIZE)

    def check(self, variables: dict[str, Any], max_cost: int = MAX_COST) -> int:
        """Check a request against the limits.

        Parameters
        ----------
        variables
            The variables as the client sent them.
        max_cost
            The highest cost that is allowed.

        Returns
        -------
        int
            The cost.

        Raises
        ------
        ApiError
            If a page size or the cost is not allowed.
        """
        lengths = [self._length(length, variables) for length in self._lengths]
        lists: list[int] = []
        for index, element in self._lists:
            lists.append(lengths[index] * element.value(lists))
        cost = self._total.value(lists)
        if cost > max_cost:
            raise exceeded("cost of the operation", cost, max_cost, "ask for smaller pages or fewer fields", key="cost")
        return cost

    def _length(self, length: _Length, variables: dict[str, Any]) -> int:
        if length.variable in variables:
            value = variables[length.variable]
        elif length.variable in self._defaults:
            value = self._defaults[length.variable]
        else:
            return length.default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            # Either it does not fit the variable's type, or it is null and the page size is optional.
            return _LIST_SIZE
        return _page_size(value, length.field)

    def _selections(
        self, selection_set: SelectionSetNode, parent: GraphQLNamedType | None, elements: int | _Length
    ) -> _Sum:
        """Add up a selection; `elements` is the assumed length of lists in it that do not state their own."""
        total = _Sum()
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                total.constant += _WEIGHTS.get(f"{parent}.{selection.name.value}", 1)
                if selection.selection_set or selection.arguments:
                    total.add(self._below(selection, parent, elements))
            elif isinstance(selection, FragmentSpreadNode):
                total.add(self._fragment(selection.name.value, elements))
            elif isinstance(selection, InlineFragmentNode):
                narrowed = parent
                if selection.type_condition:
                    narrowed = self._schema.get_type(selection.type_condition.name.value)
                total.add(self._selections(selection.selection_set, narrowed, elements))
        return total

    def _fragment(self, name: str, elements: int | _Length) -> _Sum:
        known = self._spread.get((name, elements))
        if known is None:
            fragment = self._fragments[name]
            on = self._schema.get_type(fragment.type_condition.name.value)
            known = self._spread[name, elements] = self._selections(fragment.selection_set, on, elements)
        return known

    def _below(self, node: FieldNode, parent: GraphQLNamedType | None, elements: int | _Length) -> _Sum:
        field = getattr(parent, "fields", {}).get(node.name.value)
        if field is None:
            # `__schema` and `__type` are in every schema, but not among the fields of its root type.
            named = self._schema.get_type({"__schema": "__Schema", "__type": "__Type"}.get(node.name.value, ""))
            return self._selections(node.selection_set, named, _LIST_SIZE) if node.selection_set else _Sum()
        is_list = _is_list(field.type)
        first = field.args.get("first")
        page: int | _Length | None = None
        if first is not None and get_named_type(first.type) is GraphQLInt:
            page = self._page(node, first, f"{parent}.{node.name.value}")
        if node.selection_set is None:
            return _Sum()
        # The lists inside a connection are the page; its other fields appear in the answer once.
        inside = page if page is not None and not is_list else _LIST_SIZE
        element = self._selections(node.selection_set, get_named_type(field.type), inside)
        if not is_list:
            return element
        times = _LENGTHS.get(f"{parent}.{node.name.value}", elements) if page is None else page
        total = _Sum()
        if isinstance(times, int):
            total.add(element, times)
        else:
            total.lists[len(self._lists)] = 1
            self._lists.append((times.index, element))
        return total

    def _page(self, node: FieldNode, first: GraphQLArgument, field: str) -> int | _Length:
        # The default is taken from the schema's text, which every version of graphql-core keeps in the same form.
        default = (_literal(first.ast_node.default_value) if first.ast_node else None) or _LIST_SIZE
        for argument in node.arguments or ():
            if argument.name.value == "first":
                if isinstance(argument.value, VariableNode):
                    length = _Length(len(self._lengths), field, argument.value.name.value, default)
                    self._lengths.append(length)
                    return length
                value = _literal(argument.value)
                return _LIST_SIZE if value is None else _page_size(value, field)
        return default


def _literal(node: object) -> int | None:
    if isinstance(node, IntValueNode):
        return int(node.value)
    return None if node is None or isinstance(node, NullValueNode) else _LIST_SIZE


def _is_list(type_: GraphQLOutputType) -> bool:
    return isinstance(type_.of_type if isinstance(type_, GraphQLNonNull) else type_, GraphQLList)


def _page_size(size: int, field: str) -> int:
    most = _MOST.get(field, MAX_PAGE_SIZE)
    if 1 <= size <= most:
        return size
    code = ErrorCode.INVALID_ARGUMENT if size < 1 else ErrorCode.LIMIT_EXCEEDED
    message = f"the argument first of {field} is {size}: it must be from 1 to {most}"
    if size > 1:
        message += "; get the rest with `after` and the page's endCursor"
    raise ApiError(code, message, {"argument": "first", "minimum": 1, "maximum": most})
