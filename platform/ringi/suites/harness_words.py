"""What templates and patterns of a task of lm-evaluation-harness may hold. Pure; nothing is rendered here.

The library renders with a Jinja environment that is no sandbox: `{{ ''.__class__.__mro__ }}` leads from any text to every class of the
process. So a template holds what is listed here and nothing else, and the worker renders it in a sandbox all the same, which also bounds what it
makes. Patterns: harness_patterns.py.
"""

from collections.abc import Iterator
from typing import NoReturn

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from ringi.suites.harness_patterns import WordsRefused, check_pattern

# The longest `range`.
MAX_RANGE = 1000
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test,
    nodes.Call, nodes.Keyword, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add,
    nodes.Sub, nodes.Neg, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.For, nodes.Assign,
)  # fmt: skip
FILTERS = frozenset(
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


def _not_run(*_: object, **__: object) -> NoReturn:
    raise nodes.Impossible


# Jinja computes filters of constants while it looks for names; here nothing is computed.
_GRAMMAR.filters = dict.fromkeys(FILTERS, _not_run)


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
        if node.name not in FILTERS:
            raise WordsRefused(f"the filter '{node.name}' is none of {', '.join(sorted(FILTERS))}")
        if node.name == "regex_replace":
            _check_replacement(node)
    if isinstance(node, nodes.For) and (node.recursive or any(True for _ in node.find_all(nodes.For))):
        raise WordsRefused("a template may not hold a loop within a loop, or one that calls itself")
    if isinstance(node, nodes.Assign):
        _check_assigned(node)
    if isinstance(node, nodes.Call):
        called = node.node
        method = isinstance(called, nodes.Getattr) and called.attr in _METHODS
        if not method and not (isinstance(called, nodes.Name) and called.name in _FUNCTIONS):
            raise WordsRefused(f"a template calls nothing but methods of texts and lists: {', '.join(sorted(_METHODS))}")
        if not method:
            _check_range(node)


def _check_assigned(node: nodes.Assign) -> None:
    """What is made of itself doubles each time."""
    made = {one.name for one in _all(node.target) if isinstance(one, nodes.Name)}
    read = {one.name for one in _all(node.node) if isinstance(one, nodes.Name)}
    if made & read:
        raise WordsRefused(f"'{min(made & read)}' is set to what is made of itself")


def _check_range(node: nodes.Call) -> None:
    for one in (*node.args, *node.kwargs):
        if isinstance(one, nodes.Const) and isinstance(one.value, int) and one.value > MAX_RANGE:
            raise WordsRefused(f"a range has at most {MAX_RANGE} numbers")


def _check_replacement(node: nodes.Filter) -> None:
    pattern = node.args[_PATTERN_PLACE] if node.args else None
    if not isinstance(pattern, nodes.Const) or not isinstance(pattern.value, str):
        raise WordsRefused("the pattern of 'regex_replace' must stand in the template")
    check_pattern(pattern.value)
