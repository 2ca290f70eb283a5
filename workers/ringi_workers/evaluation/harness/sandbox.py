"""Where templates of a YAML are rendered: nothing leads out of a document, and what a template makes is bounded, whatever it is made of.

A template is read when it is sealed (ringi.suites.harness_words); this holds for what that cannot see, because it depends on the documents.
"""

from collections.abc import Callable, Iterator
from functools import cache, wraps
from itertools import islice
from typing import Any

from jinja2 import BaseLoader, StrictUndefined, Template, nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJAS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ringi.suites.harness_patterns import MAX_TEXT, check_pattern, replaced
from ringi.suites.harness_words import FILTERS, MAX_RANGE

# Characters and values that the steps of one rendering may read and make.
MAX_WORK = 20 * MAX_TEXT
_MAX_PRECISION = 20


class _Bounded(Template):
    """A template that ends when it has said too much."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        """As Jinja's. Raises SecurityError."""
        environment: Any = self.environment
        environment.spent, said, size = 0, [], 0
        for part in self.generate(*args, **kwargs):
            size += len(part)
            if size > MAX_TEXT:
                raise _too_much()
            said.append(part)
        return "".join(said)


class _Joined(NodeTransformer):
    """`a ~ b` as `[a, b]|join`, which is bounded."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802  # the name that Jinja calls
        """Inner ones first."""
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """Filters, calls, `~` and `+` count what they are given and make."""

    intercepted_binops = frozenset({"+"})
    template_class = _Bounded

    def __init__(self) -> None:
        super().__init__(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True, finalize=self._printed)
        self.spent = 0
        own: dict[str, Any] = {"join": _join, "replace": _replace, "round": _round, "regex_replace": _regex_replace, "tojson": _as_json}
        self.filters = {name: self._counted(own[name] if name in own else JINJAS[name]) for name in FILTERS}
        self.globals = {**self.globals, "range": _range}
        for name in ("namespace", "lipsum"):
            del self.globals[name]

    def spend(self, *values: Any) -> None:
        """Count values. Raises SecurityError."""
        for value in values:
            self.spent += weight(value)
        if self.spent > MAX_WORK:
            raise _too_much()

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Of texts, what makes more than it is given is done here. Raises SecurityError."""
        self.spend(*args, *kwargs.values())
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "replace":
            made: Any = _replace(owner, *args, **kwargs)
        elif isinstance(owner, str) and name == "join":
            made = owner.join(_joinable(args[0], owner))
        else:
            made = super().call(context, obj, *args, **kwargs)
        self.spend(made)
        return made

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`+`. Raises SecurityError."""
        self.spend(left, right)
        if weight(left) + weight(right) > MAX_TEXT:
            raise _too_much()
        return super().call_binop(context, operator, left, right)

    def _counted(self, made_by: Any) -> Callable[..., Any]:
        @wraps(made_by)  # with what Jinja notes on it
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.spend(*args, *kwargs.values())
            made = made_by(*args, **kwargs)
            self.spend(made)
            return made

        return counted

    def _printed(self, value: Any) -> Any:
        self.spend(value)
        return value

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Joined().visit(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree


@cache
def sandbox() -> Sandbox:
    """The one of this process, which renders one template at a time."""
    return Sandbox()


def weight(value: Any) -> int:
    """About how long a value is as a text. Raises SecurityError where that is more than MAX_TEXT: a list can hold itself a million times."""
    total = 0
    for one in _within(value):
        total += len(one) + 1 if isinstance(one, str) else 1
        if total > MAX_TEXT:
            raise _too_much()
    return total


def _within(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _within(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _within(one)


def _too_much() -> SecurityError:
    return SecurityError(f"a template makes or reads too much: at most {MAX_TEXT} characters at once")


def _joinable(value: Any, between: str) -> list[Any]:
    values = list(islice(value, MAX_TEXT + 1))
    if weight(values) + len(values) * len(between) > MAX_TEXT:
        raise _too_much()
    return values


@pass_eval_context
def _join(context: Any, value: Any, d: str = "", attribute: str | int | None = None) -> Any:
    return JINJAS["join"](context, _joinable(value, str(d)), d, attribute)


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = str(s), str(old), str(new)
    times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    if len(text) + times * len(new) > MAX_TEXT:
        raise _too_much()
    return text.replace(old, new, -1 if count is None else count)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if abs(precision) > _MAX_PRECISION:
        raise _too_much()
    return JINJAS["round"](value, precision, method)


@pass_eval_context
def _as_json(context: Any, value: Any, indent: int | None = None) -> Any:
    if indent is not None and indent > _MAX_PRECISION:
        raise _too_much()
    return JINJAS["tojson"](context, value, indent)


def _regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    check_pattern(pattern)
    return replaced(pattern, repl, string, count)


def _range(*told: int) -> range:
    found = range(*told)
    if len(found) > MAX_RANGE:
        raise SecurityError(f"a range has at most {MAX_RANGE} numbers")
    return found
