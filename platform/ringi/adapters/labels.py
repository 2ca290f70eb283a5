"""What the classes of a classifier mean: `labels.json`, sealed beside its weights. Pure.

peft's config has no place for it. Whoever loads a base as a classifier without it has classes named LABEL_0, LABEL_1, ..., and a list of their own to read them by:
the third class would mean whatever stands third there.
"""

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ringi.kit.digests import canonical_json
from ringi.kit.errors import RingiError

LABELS = "labels.json"
# peft's word for an adapter that classifies.
CLASSIFIES = "SEQ_CLS"
FEWEST_LABELS, MOST_LABELS, MOST_CHARACTERS = 2, 1024, 1000
MAX_LABELS_BYTES = 8 * 1024 * 1024


class AdapterLabelsInvalid(RingiError):
    """`labels.json` is not a list of classes."""

    code, status = "adapter_labels_invalid", 400

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{LABELS} is not acceptable: {reason}.",
            next_step='Write it as {"id2label": {"0": "…", "1": "…"}}: every class of the head, counted from 0, with a text of its own.',
            details={"reason": reason},
        )


class AdapterLabelsMissing(RingiError):
    """A classifier of which nobody can tell what its classes mean."""

    code, status = "adapter_labels_missing", 400

    def __init__(self) -> None:
        super().__init__(
            f"The adapter classifies (its task_type is {CLASSIFIES}), and nothing says what its classes mean.",
            next_step=f'Add {LABELS} to the folder: {{"id2label": {{"0": "…", "1": "…"}}}}, in the order of the training.',
        )


class VersionClassifies(RingiError):
    """Something that writes texts was asked for, and the version has a head for classes: on the base as a language model its matrices would do anything."""

    code, status = "adapter_version_classifies", 409

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"{reference} is a classifier: it gives a text one of its labels, and writes none that a suite could ask for.",
            next_step="Evaluate it on the validation rows of a dataset: ringi evaluate … --dataset NAME.",
        )


class ClassLabels(BaseModel):
    """`names`: what each class means, in the order of the logits. `pad_token_id`: which token the head of a causal base takes for padding.

    Such a head reads the last token that is no padding, so with another padding token it may read another place. None: as the base's config says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    pad_token_id: int | None = None

    @model_validator(mode="after")
    def _a_list_of_classes(self) -> Self:
        if not FEWEST_LABELS <= len(self.names) <= MOST_LABELS:
            raise ValueError(f"it has {len(self.names)} classes, and a classifier has {FEWEST_LABELS} to {MOST_LABELS}")
        if len(set(self.names)) != len(self.names):
            raise ValueError("two classes have one label")
        if not all(name.strip() and len(name) <= MOST_CHARACTERS for name in self.names):
            raise ValueError(f"a label is blank, or longer than {MOST_CHARACTERS} characters")
        # Neither can be stored as text.
        if any(one == "\x00" or "\ud800" <= one <= "\udfff" for name in self.names for one in name):
            raise ValueError("a label holds a NUL character or half of a surrogate pair")
        return self

    @property
    def canonical(self) -> bytes:
        """RFC 8785 bytes: what is sealed. Equal labels in an equal order give equal bytes."""
        document: dict[str, Any] = {"id2label": {str(place): name for place, name in enumerate(self.names)}}
        return canonical_json(document if self.pad_token_id is None else document | {"pad_token_id": self.pad_token_id})


def parse_labels(raw: bytes) -> ClassLabels:
    """The labels in a `labels.json`; raises AdapterLabelsInvalid."""
    if len(raw) > MAX_LABELS_BYTES:
        raise AdapterLabelsInvalid(f"it has {len(raw)} bytes, at most {MAX_LABELS_BYTES} are read")
    try:
        document = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise AdapterLabelsInvalid("it is not JSON in UTF-8") from None
    named = document.get("id2label") if isinstance(document, dict) else None
    if not isinstance(named, dict) or set(named) != {str(place) for place in range(len(named))}:
        raise AdapterLabelsInvalid("it has no 'id2label' that counts its classes from 0 without a gap")
    names, padding = [named[str(place)] for place in range(len(named))], document.get("pad_token_id")
    if not all(isinstance(name, str) for name in names):
        raise AdapterLabelsInvalid("a label is no text")
    if padding is not None and (type(padding) is not int or padding < 0):
        raise AdapterLabelsInvalid("'pad_token_id' is no token")
    try:
        return ClassLabels(names=tuple(names), pad_token_id=padding)
    except ValidationError as error:
        raise AdapterLabelsInvalid(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
