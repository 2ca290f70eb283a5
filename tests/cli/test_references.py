"""References as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ringi.cli.references import (
    BadReference,
    BaseReference,
    Reference,
    check_name,
    dataset_within,
    parse_adapter,
    parse_base_revision,
    parse_dataset_version,
    parse_version,
)
from ringi.web.schemas import Name

DIGEST = "sha256:" + "ab" * 32
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("risk/answers:v3", "v3"),
        ("risk/answers:production", "production"),
        ("risk/answers:latest", "latest"),
        (f"risk/answers@{DIGEST}", DIGEST),
        (f"risk/answers:{COMMIT}", COMMIT),
    ],
)
def test_a_version_is_named_by_number_channel_digest_or_commit(text: str, selector: str) -> None:
    reference = parse_version(text)
    assert reference == Reference("risk", "answers", selector)
    assert str(reference) == text


def test_a_dataset_and_a_base_without_a_number_mean_their_latest() -> None:
    assert parse_dataset_version("risk/questions") == Reference("risk", "questions", "latest")
    assert parse_dataset_version("risk/questions:v2") == Reference("risk", "questions", "v2")
    assert parse_base_revision("smollm2") == BaseReference("smollm2", "latest")
    assert parse_base_revision("smollm2:r2") == BaseReference("smollm2", "r2")
    assert parse_base_revision(f"smollm2@{DIGEST}") == BaseReference("smollm2", DIGEST)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("answers:v3", "the project is missing"),
        ("risk/answers", "it names no version"),
        ("risk/answers:", "'' is no version"),
        ("risk/answers:v3@" + DIGEST, "one is enough"),
        ("risk/answers:" + DIGEST, "follows '@'"),
        ("risk/answers@sha256:abc", "64 lowercase hex"),
        ("risk/answers:3", "numbered v1"),
        ("risk/answers:r3", "numbered v1"),
        ("Risk/answers:v3", "'Risk' is not a name"),
        ("risk/../etc:v1", "is not a name"),
        ("risk/:v1", "is not a name"),
        ("/answers:v1", "is not a name"),
        ("risk/回答:v1", "is not a name"),
        ("", "the project is missing"),
    ],
)
def test_what_names_no_version_is_refused_with_the_reason_and_an_example(text: str, because: str) -> None:
    with pytest.raises(BadReference) as refusal:
        parse_version(text)
    assert because in refusal.value.message
    assert "risk/answers" in refusal.value.next_step


def test_a_version_where_an_adapter_is_meant_is_refused() -> None:
    with pytest.raises(BadReference, match="no version is meant"):
        parse_adapter("risk/answers:v1")


def test_a_base_belongs_to_no_project_and_counts_revisions() -> None:
    with pytest.raises(BadReference, match="belongs to no project"):
        parse_base_revision("risk/smollm2:r1")
    with pytest.raises(BadReference, match="numbered r1"):
        parse_base_revision("smollm2:v1")


def test_a_dataset_beside_a_project_may_repeat_it_but_not_name_another() -> None:
    assert dataset_within("questions", project="risk") == "questions"
    assert dataset_within("questions:v2", project="risk") == "questions:v2"
    assert dataset_within("risk/questions:v2", project="risk") == "questions:v2"
    assert dataset_within(f"questions@{DIGEST}", project="risk") == f"questions:{DIGEST}"
    with pytest.raises(BadReference, match="must be in the project 'risk'"):
        dataset_within("other/questions", project="risk")


@given(st.one_of(st.text(max_size=70), st.from_regex(r"[a-z0-9_.-]{0,66}\n?", fullmatch=True)))
def test_the_client_and_the_platform_agree_on_what_a_name_is(text: str) -> None:
    try:
        TypeAdapter(Name).validate_python(text)
        accepted = True
    except ValidationError:
        accepted = False
    try:
        check_name(text, what="thing")
        assert accepted
    except BadReference:
        assert not accepted


@given(st.text(max_size=120))
def test_any_text_is_a_reference_or_a_clear_refusal(text: str) -> None:
    try:
        reference = parse_version(text)
    except BadReference as refusal:
        assert refusal.next_step  # noqa: PT017
    else:
        assert parse_version(str(reference)) == reference
