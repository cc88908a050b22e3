"""GraphQL documents, parsed and validated once and then kept.

Nothing here depends on a request's variables: their share of the cost is only prepared, as a cost plan.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from graphql import (
    GraphQLSyntaxError,
    NoFragmentCyclesRule,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    validate,
)

from grid.service.api.cost import CostPlan
from grid.service.api.errors import ApiError, coded
from grid.service.api.execution import Selections
from grid.service.api.limits import MAX_DEPTH, MAX_TOKENS, check_depth, check_text
from grid.service.api.shapes import check_counts, check_selections
from grid.shared.wire import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphql import DocumentNode, GraphQLSchema

__all__ = ["Document", "DocumentRefused", "Documents", "Operation"]

_MAX_DOCUMENTS = 1_000
# A parsed document takes at most some 300 bytes for each character of its text, and its compiled selections 100, so
# this bounds the cache to about 200 MB whatever clients send. Real documents have about 500 characters.
_MAX_CHARACTERS = 512 * 1024
# How many characters of a name a message shows.
_SHOWN = 200


class DocumentRefused(Exception):
    """The document cannot be executed.

    Parameters
    ----------
    errors
        The reasons, formatted and with their codes.
    """

    def __init__(self, errors: Sequence[dict[str, Any]]) -> None:
        super().__init__("; ".join(error["message"] for error in errors))
        self.errors = list(errors)


class Operation:
    """One operation of a valid document.

    Parameters
    ----------
    schema
        The schema that the document is valid for.
    document
        The document.
    node
        The operation in it.
    selections
        The document's compiled selections.
    """

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, node: OperationDefinitionNode, selections: Selections
    ) -> None:
        self.name = node.name.value if node.name else None
        self.type: OperationType = node.operation
        self.variable_definitions = node.variable_definitions or ()
        self.selections = selections
        self._schema = schema
        self._document = document
        self._node = node
        self._plan: CostPlan | None = None

    def check_limits(self, variables: dict[str, Any] | None) -> None:
        """Check the operation, with these variables, against the limits on page sizes and cost.

        Parameters
        ----------
        variables
            The variables as the client sent them.

        Raises
        ------
        ApiError
            If a page size or the cost is not allowed.
        """
        if self._plan is None:
            self._plan = CostPlan(self._schema, self._document, self._node)
        self._plan.check(variables or {})


class Document:
    """A valid document.

    Parameters
    ----------
    schema
        The schema that the document is valid for.
    ast
        The parsed document.
    characters
        How long its text is.
    """

    def __init__(self, schema: GraphQLSchema, ast: DocumentNode, characters: int) -> None:
        self.ast = ast
        selections = Selections(ast, characters)
        operations = [
            Operation(schema, ast, node, selections)
            for node in ast.definitions
            if isinstance(node, OperationDefinitionNode)
        ]
        self._by_name: dict[str | None, Operation] = {operation.name: operation for operation in operations}
        self._only = operations[0] if len(operations) == 1 else None

    def operation(self, name: str | None) -> Operation:
        """Choose the operation to execute.

        Parameters
        ----------
        name
            Its name, or None for the only one.

        Returns
        -------
        Operation
            The operation.

        Raises
        ------
        ApiError
            If there is no such operation, or no name is given and the document holds several.
        """
        chosen = self._only if name is None else self._by_name.get(name)
        if chosen is None:
            names = ", ".join(sorted(known[:_SHOWN] for known in self._by_name if known)) or "none with a name"
            asked = "operationName is missing" if name is None else f"operationName is {name[:_SHOWN]!r}"
            raise ApiError(ErrorCode.BAD_REQUEST, f"{asked}: the document holds these operations: {names}")
        return chosen


class Documents:
    """The documents of one schema; the most recently used ones are kept.

    Parameters
    ----------
    schema
        The schema that documents are validated for.
    max_depth
        How deeply fields may be nested.
    """

    def __init__(self, schema: GraphQLSchema, *, max_depth: int = MAX_DEPTH) -> None:
        self._schema = schema
        self._max_depth = max_depth
        self._kept: OrderedDict[str, Document] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._kept)

    def load(self, text: str) -> Document:
        """Parse and validate a document, or return it from the cache.

        Parameters
        ----------
        text
            The document.

        Returns
        -------
        Document
            The valid document.

        Raises
        ------
        DocumentRefused
            If it is too large, nested too deeply, not GraphQL, or does not fit the schema.
        """
        document = self._kept.get(text)
        if document is not None:
            self._kept.move_to_end(text)
            return document
        document = Document(self._schema, self._read(text), len(text))
        self._kept[text] = document
        self._characters += len(text)
        while len(self._kept) > _MAX_DOCUMENTS or self._characters > _MAX_CHARACTERS:
            oldest, _ = self._kept.popitem(last=False)
            self._characters -= len(oldest)
        return document

    def _read(self, text: str) -> DocumentNode:
        try:
            check_text(text)
            ast = parse(text, max_tokens=MAX_TOKENS)
            check_counts(ast)
            if check_depth(ast, self._max_depth):
                check_selections(ast)
                # No rule may depend on a request: the outcome is kept for all of them.
                errors = validate(self._schema, ast, specified_rules)
            else:
                # Fragments form a cycle. Only the rule about cycles runs: others would follow it before they fail.
                errors = validate(self._schema, ast, [NoFragmentCyclesRule])
        except ApiError as error:
            raise DocumentRefused([coded(error, error.code)]) from None
        except GraphQLSyntaxError as error:
            raise DocumentRefused([coded(error, ErrorCode.GRAPHQL_PARSE_FAILED)]) from None
        except RecursionError:
            too_deep = ApiError(
                ErrorCode.LIMIT_EXCEEDED, "the document is nested too deeply: write it with fewer levels"
            )
            raise DocumentRefused([coded(too_deep, too_deep.code)]) from None
        if errors:
            raise DocumentRefused([coded(error, ErrorCode.GRAPHQL_VALIDATION_FAILED) for error in errors])
        return ast
