"""The worker process as a member of the fleet: what it has, its heartbeat, and the jobs that it takes.

A message of the broker says "something is ready on this queue"; which job it becomes, the database says (jobs/placement.py). Between
messages the worker looks by itself at every heartbeat, so a message that reached a worker which could not use it costs seconds. No torch.
"""

import importlib.metadata
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from sqlalchemy.exc import SQLAlchemyError

from ringi.db.session import transaction
from ringi.fleet import service as fleet
from ringi.fleet.schemas import Device, Wanted, WorkerFacts
from ringi.fleet.service import WorkerNameTaken
from ringi.jobs import service as jobs
from ringi.kit.errors import RingiError
from ringi.settings import get_settings
from ringi_workers import runtime

log = logging.getLogger("ringi.worker")
# What work may run on; a worker has those that are installed.
ENGINES = ("transformers", "peft", "lm_eval", "vllm", "gguf", "onnxruntime")
_VERSIONS = ("ringi", "torch", "safetensors", *ENGINES)
# Control groups of a container, version 2 and version 1.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int:
    """Bytes of memory that this process can have at all: the machine's, or the container's where that is less."""
    found = [psutil.virtual_memory().total]
    for limit in _MEMORY_LIMITS:
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)


def device_facts() -> tuple[Device, str, int]:
    """Device, its name and its memory in bytes. A process that has not loaded torch computes on its CPU."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device.CUDA, str(properties.name), int(properties.total_memory)
    return Device.CPU, platform.machine(), machine_memory()


def versions() -> dict[str, str]:
    """Versions of the libraries that matter, as far as they are installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def facts(name: str, queues: Sequence[str]) -> WorkerFacts:
    """What this process says of itself."""
    settings, known = get_settings(), versions()
    device, device_name, memory = device_facts()
    return WorkerFacts(
        name=name, owner=runtime.lease_owner(), queues=sorted(queues), device=device, device_name=device_name, claimed_bytes=settings.worker_memory_bytes,
        measured_bytes=memory, engines=[engine for engine in ENGINES if engine in known], versions=known, organization=settings.worker_organization,
        heartbeat_s=settings.heartbeat_s,
    )  # fmt: skip


class Membership:
    """Registers, beats from a thread of its own, and takes jobs in the thread that asks."""

    def __init__(self, name: str, queues: Sequence[str]) -> None:
        self.facts = facts(name, queues)
        self._registered = False
        self._job_id: UUID | None = None
        self._leaving = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="fleet-heartbeat", daemon=True)

    def start(self) -> None:
        """Register, now or when the database is there, and go on beating. Raises what cannot pass: a setting that names nothing."""
        try:
            self._register()
        except SQLAlchemyError as error:
            log.warning("not registered yet: %s", _brief(error))
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye, if the database hears it."""
        self._stop.set()
        self._thread.join(timeout=get_settings().heartbeat_s)
        try:
            with transaction() as session:
                fleet.stop(session, self.facts.name, owner=self.facts.owner)
        except SQLAlchemyError as error:
            log.warning("left without a goodbye: %s", _brief(error))

    def take(self) -> bool:
        """Work on the best job that this worker can do; returns whether there was one."""
        if not self._registered:
            self._register()
        with transaction() as session:
            claimed = jobs.claim_next(session, worker=self.facts.name, owner=self.facts.owner, lease_s=get_settings().lease_s)
        if claimed is None:
            return False
        self._job_id = claimed.id
        try:
            runtime.work_on(claimed)
        finally:
            self._job_id = None
        return True

    def look(self) -> None:
        """Take a job that no message told of. Called between messages; never raises."""
        if self._leaving:
            return
        try:
            self.take()
        except (SQLAlchemyError, RingiError) as error:
            log.warning("cannot look for jobs: %s", _brief(error))

    def _register(self) -> None:
        with transaction() as session:
            worker = fleet.register(session, self.facts)
        self._registered = True
        memory = (worker.memory_bytes or 0) / 2**30
        log.info("registered as %s: %s, %.1f GiB, %s", worker.name, worker.device, memory, worker.wanted)
        if (worker.claimed_bytes or 0) > (worker.measured_bytes or 0):
            log.warning(
                "settings claim %d bytes of memory, the device has %s: the latter counts", worker.claimed_bytes, worker.measured_bytes
            )

    def _beat(self) -> None:
        told = False
        while not self._stop.wait(get_settings().heartbeat_s):
            try:
                if not self._registered:
                    self._register()
                with transaction() as session:
                    wanted = fleet.beat(session, self.facts.name, owner=self.facts.owner, job_id=self._job_id)
                self._registered, told = wanted is not None, False
                if wanted is Wanted.DRAINING and self._job_id is None and not self._leaving:
                    self._leaving = True
                    log.info("drained: this worker ends")
                    os.kill(os.getpid(), signal.SIGTERM)
            except WorkerNameTaken as error:
                if not told:
                    log.error("%s This process takes no more jobs.", error)  # noqa: TRY400  # a refusal: its message is the story
                told = True
            except (SQLAlchemyError, RingiError) as error:
                log.warning("no heartbeat of the worker: %s", _brief(error))


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
