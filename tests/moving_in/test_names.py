"""Names of other systems become names here: always the same, always valid, and told when two become one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ringi.cli.moving.names import BadRename, adapter_name, collisions, parse_renames
from ringi.cli.references import BadReference
from ringi.web.schemas import Name

NAME: TypeAdapter[str] = TypeAdapter(Name)


@pytest.mark.parametrize(
    ("external", "name"),
    [
        ("faq", "faq"),
        ("FAQ Bot", "faq-bot"),
        ("team/FAQ bot v1.2", "team-faq-bot-v1.2"),
        ("a__b--c", "a-b-c"),
        ("ＦＡＱ", "faq"),
    ],
)
def test_what_a_name_becomes(external: str, name: str) -> None:
    assert adapter_name(external) == name


def test_a_name_that_the_hub_would_refuse_gets_another_end() -> None:
    assert re.fullmatch(r"ends\.git-[0-9a-f]{8}", adapter_name("ends.git"))


def test_japanese_names_keep_what_can_be_kept_and_stay_apart() -> None:
    assert re.fullmatch(r"faq-[0-9a-f]{8}", adapter_name("顧客対応 FAQ"))
    assert re.fullmatch(r"model-[0-9a-f]{8}", adapter_name("顧客対応"))
    assert adapter_name("顧客対応") != adapter_name("顧客応対")


@given(st.text(max_size=300).filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text)))
def test_every_name_becomes_a_valid_one_and_always_the_same(external: str) -> None:
    assert NAME.validate_python(adapter_name(external)) == adapter_name(external)


def test_what_would_be_one_adapter_is_told() -> None:
    names = {external: adapter_name(external) for external in ("FAQ Bot", "faq-bot", "other")}
    assert collisions(names) == {"faq-bot": ["FAQ Bot", "faq-bot"]}


def test_renames_part_at_the_last_equals_sign() -> None:
    assert parse_renames(["a=b=c", "顧客=kokyaku"]) == {"a=b": "c", "顧客": "kokyaku"}
    for wrong in (["a"], ["=b"], ["a=b", "a=c"]):
        with pytest.raises(BadRename):
            parse_renames(wrong)
    with pytest.raises(BadReference):
        parse_renames(["a=Not A Name"])
