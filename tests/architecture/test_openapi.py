"""The API's document: kept in docs/openapi.json, so that a change of the API is a change that a reviewer sees."""

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from architecture.openapi_document import COMMAND, KEPT, as_text, document
from ringi.api.app import API_PREFIX

DOCUMENT = document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
PROBLEM = "application/problem+json"


class Operation(NamedTuple):
    """One method of one path, with its entry in the document."""

    name: str
    path: str
    entry: dict[str, Any]


OPERATIONS = [
    Operation(f"{method.upper()} {path}", path, entry) for path, methods in DOCUMENT["paths"].items() for method, entry in methods.items()
]
# A browser is sent on; there is nothing to read.
LEADS_ELSEWHERE = {"/auth/login", "/auth/callback"}
each = pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.name for operation in OPERATIONS])


def references(node: Any) -> Iterator[str]:
    """Names of the schemas that a piece of the document points at."""
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def closure(node: Any) -> set[str]:
    """Every schema that is reachable from a piece of the document."""
    found: set[str] = set()
    waiting = set(references(node))
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(references(SCHEMAS[name])) - found
    return found


def test_the_document_is_the_one_that_is_kept() -> None:
    kept, made = KEPT.read_text(encoding="utf-8"), as_text(DOCUMENT)
    changes = "\n".join(difflib.unified_diff(kept.splitlines(), made.splitlines(), "docs/openapi.json", "the API now", lineterm="", n=1))
    assert kept == made, f"The API changed. If that is meant, run: {COMMAND}\n{changes[:4000]}"


@each
def test_an_operation_says_what_it_does(operation: Operation) -> None:
    assert operation.entry["summary"]
    assert operation.entry["description"].strip().endswith(".")
    assert operation.path.startswith(API_PREFIX) == bool(set(operation.entry["tags"]) - {"health", "login"})


@each
def test_an_operation_documents_its_refusals_with_their_codes(operation: Operation) -> None:
    refusals = {status: answer for status, answer in operation.entry["responses"].items() if status.startswith("4") and status != "422"}
    if operation.path.startswith(API_PREFIX):
        assert "401" in refusals
        for answer in refusals.values():
            assert PROBLEM in answer["content"]
            assert answer["description"].startswith("`")


@each
def test_a_request_refuses_fields_that_it_does_not_know(operation: Operation) -> None:
    for name in closure(operation.entry.get("requestBody", {})):
        schema = SCHEMAS[name]
        if schema.get("type") == "object":
            assert schema.get("additionalProperties") is False, name


@each
def test_an_answer_has_a_shape(operation: Operation) -> None:
    if operation.path in LEADS_ELSEWHERE:
        assert "302" in operation.entry["responses"]
        return
    successes = [answer for status, answer in operation.entry["responses"].items() if status.startswith("2")]
    assert len(successes) == 1
    (content,) = successes[0]["content"].values()
    assert content["schema"] != {}


@each
def test_a_secret_in_an_answer_is_declared_as_one(operation: Operation) -> None:
    """Answers with a declared secret are kept encrypted; one that is not declared would lie in the database for a day."""
    for status, answer in operation.entry["responses"].items():
        for name in closure(answer) if status.startswith("2") else ():
            for field, schema in SCHEMAS[name].get("properties", {}).items():
                if field in {"token", "secret", "password", "signing_secret", "private_key"} and schema.get("type") == "string":
                    assert schema.get("format") == "password", f"{name}.{field}: use web.schemas.Secret"


@each
def test_long_work_answers_202_and_names_its_job(operation: Operation) -> None:
    answer = operation.entry["responses"].get("202")
    if answer is not None:
        (content,) = answer["content"].values()
        assert "job_id" in SCHEMAS[content["schema"]["$ref"].rpartition("/")[2]]["properties"]


def test_operation_ids_are_unique() -> None:
    ids = [operation.entry["operationId"] for operation in OPERATIONS]
    assert len(ids) == len(set(ids))
