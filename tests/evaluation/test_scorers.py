"""Normalised match, in English and Japanese."""

import pytest

from ringi_workers.evaluation.scorers import normalised_match


@pytest.mark.parametrize(
    ("output", "reference"),
    [
        ("The capital is Paris.", "the capital is PARIS"),
        ("  Yes!\n", "yes"),
        ("はい、そうです。", "はいそうです"),
        ("「東京」です！", "東京です"),
        ("ﾗｼﾞｵ", "ラジオ"),
        ("１２３", "123"),
        ("don’t", "don't"),
        ("straße", "STRASSE"),
        ("1,000", "1000"),
        ("が", "か\u3099"),
    ],
)
def test_texts_that_differ_in_form_only_match(output: str, reference: str) -> None:
    assert normalised_match(output, reference) is True


@pytest.mark.parametrize(
    ("output", "reference"),
    [
        ("1.5", "15"),
        ("-3", "3"),
        ("C#", "C"),
        ("50%", "50"),
        ("はい", "いいえ"),
        ("", "yes"),
        ("ハハ", "ハ"),
        ("おばあさん", "おばさん"),
        ("ビール", "ビル"),
    ],
)
def test_texts_that_mean_different_things_do_not_match(output: str, reference: str) -> None:
    assert normalised_match(output, reference) is False


@pytest.mark.parametrize("reference", ["…", "？！", " ", "。"])
def test_a_reference_of_punctuation_alone_is_not_measurable(reference: str) -> None:
    assert normalised_match("anything", reference) is None
