"""What a line may hold: text of any language, and nothing that steers a terminal or opens a door."""

import pytest

from ringi.identity import tokens
from ringi.jobs.cleaning import MAX_CHARACTERS, clean
from ringi.observe.redaction import HIDDEN


def test_ordinary_text_stays_as_it_is() -> None:
    for text in (
        "step 10/60, loss 1.25",
        "学習を始めます：日本語の行\n\t二行目",
        "ratio=0.5 tokens: 512",
        "token 7 of 9",
        "password reset page",
    ):
        assert clean(text) == text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m text", "red text"),
        ("\x1b]0;a new title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("progress 1%\rprogress 2%", "progress 1%\nprogress 2%"),
        ("a\x00b\x07c", "a\ufffdb\ufffdc"),
        ("safe\u202eexe.txt", "safe\ufffdexe.txt"),
        ("name \udcff.bin", "name ?.bin"),
    ],
)
def test_what_steers_a_terminal_is_gone(line: str, shown: str) -> None:
    assert clean(line) == shown


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        pytest.param(f"using {tokens.draw()} for the pull", None, id="a token"),
        ("cannot reach postgresql+psycopg://ringi_app:hunter2horse@db:5432/ringi", "hunter2horse"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("AKIAIOSFODNN7EXAMPLE was refused", "AKIAIOSFODNN7EXAMPLE"),
        ("{'password': 'opensesame', 'user': 'hana'}", "opensesame"),
        ("aws_secret_access_key=wJalrXUtnFEMIK7MDENG", "wJalrXUtnFEMIK7MDENG"),
        ("the setup key is 開けゴマ開けゴマ", "開けゴマ開けゴマ"),
    ],
)
def test_secrets_are_hidden(line: str, secret: str | None) -> None:
    shown = clean(line, secrets=("開けゴマ開けゴマ",))
    assert HIDDEN in shown
    assert (secret or "hf_rgi") not in shown


def test_a_line_has_an_end() -> None:
    shown = clean("長" * 100_000)
    assert shown.startswith("長" * MAX_CHARACTERS)
    assert shown.endswith("(100000 characters)")
    assert len(shown) < MAX_CHARACTERS + 40
