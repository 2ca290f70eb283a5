"""Scorers of form: whether an answer is JSON, and JSON that a schema allows."""

import json
import re
from typing import Any

from ringi.jobs.contracts.scorer_parameters import JsonSchema, JsonValid
from ringi.suites.compiling import compiled_schema
from ringi_workers.evaluation.grading.parts import TextScorer

_FENCE = re.compile(r"```[A-Za-z0-9_+-]*[ \t]*\n(.*?)```", re.DOTALL)
_KINDS = {"any": object, "object": dict, "array": list}
# `jsonschema_rs` and Python's own reader both end somewhere below; deeper than this is no document that anyone asked for.
_DEEPEST = 100
_NOTHING = object()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _depth(text: str) -> int:
    """An upper bound that is right for JSON without brackets in its strings."""
    depth = deepest = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest


def read(text: str, *, fenced: bool) -> Any:
    """The JSON of an answer (RFC 8259: no NaN), or `_NOTHING`. What is nested more than 100 deep is taken for none."""
    block = _FENCE.search(text) if fenced else None
    text = block[1] if block else text
    if _depth(text) > _DEEPEST:
        return _NOTHING
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _NOTHING


def json_valid(told: JsonValid) -> TextScorer:
    """See `JsonValid`."""
    return lambda _, output: float((found := read(output, fenced=told.fenced)) is not _NOTHING and isinstance(found, _KINDS[told.kind]))


def json_schema(told: JsonSchema) -> TextScorer:
    """See `JsonSchema`; raises ScorerMisused where the schema is none."""
    validator = compiled_schema(told)
    return lambda _, output: float((found := read(output, fenced=told.fenced)) is not _NOTHING and validator.is_valid(found))
