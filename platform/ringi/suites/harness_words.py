"""What templates and patterns of a task of lm-evaluation-harness may hold. Pure; nothing is rendered here.

The library renders with a Jinja environment that is no sandbox: `{{ ''.__class__.__mro__ }}` leads from any text to every class of the
process. So a template holds what is listed here and nothing else, and the worker renders it in a sandbox all the same. Patterns run in Python's
`re`, which may go back and forth for ever and holds the whole process while it does: those that can are refused.
"""

import importlib
import re
from collections.abc import Iterator
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

MAX_PATTERN, MAX_OPEN_ENDED = 1000, 4
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test,
    nodes.Call, nodes.Keyword, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add,
    nodes.Sub, nodes.Neg, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.For, nodes.Assign,
)  # fmt: skip
_FILTERS = frozenset(
    {
        "trim", "lower", "upper", "capitalize", "title", "replace", "join", "first", "last", "length", "count", "string", "int", "float", "list",
        "round", "default", "d", "tojson", "regex_replace", "sort", "unique", "reverse",
    }
)  # fmt: skip
_METHODS = frozenset(
    {
        "strip", "lstrip", "rstrip", "lower", "upper", "capitalize", "title", "split", "rsplit", "splitlines", "replace", "startswith", "endswith",
        "find", "index", "count", "join", "removeprefix", "removesuffix", "isdigit", "get", "keys", "values", "items",
    }
)  # fmt: skip
_FUNCTIONS = frozenset({"range"})
_PATTERN_PLACE = 0
# As the library's own, so that names are found as it finds them. Nothing is rendered with it.
_GRAMMAR = Environment(autoescape=False)  # noqa: S701
_GRAMMAR.filters["regex_replace"] = str
# Python's own reading of a pattern; the module has no public name since 3.11.
_parser: Any = importlib.import_module("re._parser")


class WordsRefused(ValueError):
    """A template or a pattern that does more than it may; says what."""


def names_of(template: str) -> frozenset[str]:
    """The fields of a document that a template reads. Raises WordsRefused."""
    try:
        tree = _GRAMMAR.parse(template)
        for node in _all(tree):
            _check(node)
        return frozenset(meta.find_undeclared_variables(tree)) - _FUNCTIONS
    except (TemplateSyntaxError, RecursionError) as error:
        raise WordsRefused(f"it is no template: {error}") from None


def _all(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _all(child)


def _check(node: nodes.Node) -> None:
    if not isinstance(node, _NODES):
        raise WordsRefused(f"a template may not hold '{type(node).__name__}'")
    if isinstance(node, nodes.Name) and node.name.startswith("_"):
        raise WordsRefused(f"'{node.name}' is no field of a document")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        raise WordsRefused(f"'.{node.attr}' leads out of the document")
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and str(node.arg.value).startswith("_"):
        raise WordsRefused(f"'{node.arg.value}' leads out of the document")
    if isinstance(node, nodes.Filter):
        if node.name not in _FILTERS:
            raise WordsRefused(f"the filter '{node.name}' is none of {', '.join(sorted(_FILTERS))}")
        if node.name == "regex_replace":
            _check_replacement(node)
    if isinstance(node, nodes.Call):
        called = node.node
        method = isinstance(called, nodes.Getattr) and called.attr in _METHODS
        if not method and not (isinstance(called, nodes.Name) and called.name in _FUNCTIONS):
            raise WordsRefused(f"a template calls nothing but methods of texts and lists: {', '.join(sorted(_METHODS))}")


def _check_replacement(node: nodes.Filter) -> None:
    pattern = node.args[_PATTERN_PLACE] if node.args else None
    if not isinstance(pattern, nodes.Const) or not isinstance(pattern.value, str):
        raise WordsRefused("the pattern of 'regex_replace' must stand in the template")
    check_pattern(pattern.value)


def check_pattern(pattern: str) -> None:
    """A pattern of Python that ends in reasonable time on any text. Raises WordsRefused."""
    if len(pattern) > MAX_PATTERN:
        raise WordsRefused(f"a pattern has at most {MAX_PATTERN} characters")
    try:
        re.compile(pattern)
        parsed = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise WordsRefused(f"'{pattern[:80]}' is no pattern: {error}") from None
    if _open_ended(parsed, inside=False) > MAX_OPEN_ENDED:
        raise WordsRefused(f"'{pattern[:80]}' has more than {MAX_OPEN_ENDED} repetitions without an end")


def _open_ended(parsed: Any, *, inside: bool) -> int:
    """How many repetitions without an end there are; one within another, or alternatives within one, can take exponential time."""
    count = 0
    for operation, told in parsed:
        name = str(operation)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            least, most, body = told
            if inside and least != most:
                raise WordsRefused("a pattern repeats what is itself repeated a varying number of times")
            count += int(most == _parser.MAXREPEAT) + _open_ended(body, inside=inside or int(most) > 1)
        elif inside and name in {"BRANCH", "GROUPREF", "GROUPREF_EXISTS"}:
            raise WordsRefused("a pattern repeats alternatives, or what it found before")
        else:
            count += sum(_open_ended(part, inside=inside) for part in _parts(name, told))
    return count


def _parts(name: str, told: Any) -> list[Any]:
    """The patterns within an operation."""
    if name == "BRANCH":
        return list(told[1])
    if name in {"SUBPATTERN", "ASSERT", "ASSERT_NOT"}:
        return [told[-1]]
    if name == "ATOMIC_GROUP":
        return [told]
    return [one for one in told[1:] if one is not None] if name == "GROUPREF_EXISTS" else []
