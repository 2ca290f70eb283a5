"""What every event is made of: a frozen model with a name `domain.thing.past`, a Japanese title, and annotated plain values."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_EXPLANATION = 500  # characters


def _bounded(text: Any) -> Any:
    return text[:MAX_EXPLANATION] if isinstance(text, str) else text


Explanation = Annotated[str, BeforeValidator(_bounded), Field(description="Why, in words; at most 500 characters.")]


VersionName = Annotated[str, Field(description="The version, as `project/adapter:v3`.")]


AdapterName = Annotated[str, Field(description="The adapter, as `project/adapter`.")]


RevisionName = Annotated[str, Field(description="The revision of the base model, as `name:r2`.")]


JobId = Annotated[UUID, Field(description="The job that did it.")]


Code = Annotated[str, Field(description="The stable code of the refusal: docs/errors.md.")]


class EventData(BaseModel):
    """What an event says: frozen and closed. A subclass with a `NAME` is an event of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    NAME: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""
