"""What a supervisor writes down in run/platform.json, and `ringi status` reads."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ringi.embedded.children import Process
from ringi.embedded.folder import write_private

Phase = Literal["down", "starting", "ready", "stopping", "failed"]


class RecordedService(BaseModel):
    """A service's process when it was last started (`since`: UTC, ISO 8601); `process` is None when it ended at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    process: Process | None
    since: str
    restarts: int


class PlatformRecord(BaseModel):
    """The supervisor's own view; whether the processes still live is asked of the operating system."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phase: Phase = "down"
    message: str = ""
    api_url: str | None = None
    services: tuple[RecordedService, ...] = ()


def write_record(data_dir: Path, record: PlatformRecord) -> None:
    """Replace the record in one step."""
    write_private(data_dir / "run" / "platform.json", record.model_dump_json(indent=1))


def read_record(data_dir: Path) -> PlatformRecord:
    """The last record; phase 'down' where there never was one."""
    try:
        return PlatformRecord.model_validate_json((data_dir / "run" / "platform.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return PlatformRecord()
