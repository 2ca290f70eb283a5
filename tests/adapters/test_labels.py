"""What `labels.json` may say: every class once, in an order, in equal bytes for equal labels."""

import json
from typing import Any

import pytest

from ringi.adapters.labels import MOST_LABELS, AdapterLabelsInvalid, ClassLabels, parse_labels

LABELS = ClassLabels(names=("解約", "返金", "配送"), pad_token_id=3)


def test_what_is_sealed_reads_back_and_has_one_form() -> None:
    assert parse_labels(LABELS.canonical) == LABELS
    assert LABELS.canonical.decode() == '{"id2label":{"0":"解約","1":"返金","2":"配送"},"pad_token_id":3}'
    loose = json.dumps({"pad_token_id": 3, "id2label": {"2": "配送", "0": "解約", "1": "返金"}, "label2id": {}}, indent=2)
    assert parse_labels(loose.encode()).canonical == LABELS.canonical
    assert parse_labels(b'{"id2label": {"0": "a", "1": "b"}}').pad_token_id is None


def test_more_than_ten_classes_are_in_the_order_of_their_numbers() -> None:
    many = ClassLabels(names=tuple(f"分類{place}" for place in range(12)))
    assert parse_labels(many.canonical).names == many.names


@pytest.mark.parametrize(
    "document",
    [
        b"\xff", b"[]", b"{}", b'{"id2label": ["a", "b"]}', b'{"id2label": {"0": "a", "2": "b"}}', b'{"id2label": {"1": "a", "2": "b"}}',
        b'{"id2label": {"0": "a"}}', b'{"id2label": {"0": "a", "1": "a"}}', b'{"id2label": {"0": "a", "1": " "}}', b'{"id2label": {"0": "a", "1": 1}}',
        b'{"id2label": {"0": "a", "1": "b\\u0000"}}', b'{"id2label": {"0": "a", "1": "\\ud800"}}',
        b'{"id2label": {"0": "a", "1": "b"}, "pad_token_id": -1}', b'{"id2label": {"0": "a", "1": "b"}, "pad_token_id": true}', b"[" * 100_000,
        json.dumps({"id2label": {str(place): str(place) for place in range(MOST_LABELS + 1)}}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_list_of_classes_is_refused_with_the_reason(document: Any) -> None:
    with pytest.raises(AdapterLabelsInvalid) as refusal:
        parse_labels(document)
    assert "pydantic" not in refusal.value.message
    assert refusal.value.details["reason"]
