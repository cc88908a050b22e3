"""What a document selects below a field: a resolver that reads for its whole answer at once must know it beforehand."""

from __future__ import annotations

from graphql import FieldNode, FragmentSpreadNode, InlineFragmentNode

from grid.service.api.context import Info


def selects(info: Info, name: str) -> bool:
    """Return whether a field of that name is selected anywhere below the field that is being resolved.

    One that a directive leaves out counts as selected.
    """
    open_sets = [node.selection_set for node in info.field_nodes]
    spread: set[str] = set()
    while open_sets:
        selection_set = open_sets.pop()
        for selection in selection_set.selections if selection_set else ():
            if isinstance(selection, FragmentSpreadNode):
                fragment = selection.name.value
                if fragment not in spread:
                    spread.add(fragment)
                    open_sets.append(info.fragments[fragment].selection_set)
            elif isinstance(selection, FieldNode) and selection.name.value == name:
                return True
            elif isinstance(selection, FieldNode | InlineFragmentNode):
                open_sets.append(selection.selection_set)
    return False
