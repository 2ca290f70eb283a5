"""What a suite's scorers are told, compiled once before it is sealed: patterns and schemas that are wrong are refused here, not in a worker.

Both engines take linear time (RE2; the Rust `regex` crate inside `jsonschema_rs`), so that no pattern can hold up a worker, and the same pattern
gives the same score on a busy machine: a time limit would not. Pure; nothing is fetched.
"""

from typing import Any, NoReturn

import jsonschema_rs
import re2

from ringi.jobs.contracts.parts import Part
from ringi.jobs.contracts.scorer_parameters import JsonSchema, Regex
from ringi.jobs.contracts.scorers import ScorerMisused, check
from ringi.jobs.contracts.suites import Answering, ScorerSpec

# What a compiled pattern may hold, in bytes: `((a{1000}){1000})` is refused instead of built.
PATTERN_MEMORY = 8 * 1024**2


def check_deeply(spec: ScorerSpec, answering: Answering | None = None) -> Part:
    """`contracts.scorers.check`, and patterns and schemas compiled. Raises ScorerMisused."""
    told = check(spec, answering)
    if isinstance(told, Regex):
        compiled_pattern(told)
    if isinstance(told, JsonSchema):
        compiled_schema(told)
    return told


def compiled_pattern(told: Regex) -> Any:
    """The pattern of RE2. Raises ScorerMisused."""
    options = re2.Options()
    options.max_mem, options.log_errors, options.case_sensitive = PATTERN_MEMORY, False, not told.ignore_case
    try:
        return re2.compile(told.pattern, options)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ScorerMisused("suite_scorer_parameters", f"'regex' cannot be told this: RE2 says: {why}") from None


def compiled_schema(told: JsonSchema) -> jsonschema_rs.Validator:
    """The validator. Raises ScorerMisused, also where the schema names another document."""
    try:
        return jsonschema_rs.validator_for(
            dict(told.document), retriever=_nothing_is_fetched, pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_MEMORY)
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise ScorerMisused("suite_scorer_parameters", f"'json_schema' cannot be told this: {str(error)[:500]}") from None


def _nothing_is_fetched(uri: str) -> NoReturn:
    raise ValueError(f"'{uri}' is another document, and nothing is fetched")
