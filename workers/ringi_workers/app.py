"""The Celery application: two queues, one task, one prefetched message. No torch here: the task modules of a queue load it.

A message carries a job's id and nothing else. It is a nudge: the worker takes the best job that the database has for it (membership.py).
"""

import gc
import importlib
import logging
from typing import Any

from celery import Celery
from celery.signals import celeryd_after_setup, celeryd_init, setup_logging, worker_ready, worker_shutdown

from ringi.db.session import work_for_all
from ringi.jobs.contracts.kinds import CONTRACTS, Queue
from ringi.kit.errors import RingiError
from ringi.observe import logs, serving
from ringi.settings import get_settings
from ringi_workers import runtime
from ringi_workers.membership import Membership
from ringi_workers.workspace import remove_abandoned

RUN_JOB = "ringi.run_job"
log = logging.getLogger("ringi.worker")
TASK_MODULES: dict[Queue, tuple[str, ...]] = {
    Queue.CPU: ("ringi_workers.datasets.task", "ringi_workers.base_models.task"),
    Queue.GPU: (
        "ringi_workers.training.task",
        "ringi_workers.training.search_task",
        "ringi_workers.adapters.task",
        "ringi_workers.evaluation.task",
        "ringi_workers.evaluation.sweep_task",
    ),
}

app = Celery("ringi", broker=get_settings().broker_url)
app.conf.update(
    task_default_queue=Queue.CPU,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    # Longer than the longest job: a redelivered message does no harm, but it need not come. What a dead worker leaves
    # behind is found by its lease within seconds, not by the broker.
    broker_transport_options={
        "visibility_timeout": 2 * max(contract.time_limit_s for contract in CONTRACTS.values()),
        "socket_connect_timeout": 2.0,
    },
)


_member: Membership | None = None
_looking: Any = None


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]  # Celery ships no types
def run_job(job_id: str) -> None:
    """Something is ready on a queue of this worker: take the best job that there is for it."""
    if _member is None or not _member.take():
        log.info("job %s: nothing to claim", job_id)


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def log_as_we_do(**_: Any) -> None:
    """Someone listens, so Celery leaves the logging alone."""


@celeryd_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def speak_in_lines(instance: Any, **_: Any) -> None:
    """Before Celery's first warning; its banner would stand among the lines of the log."""
    work_for_all()
    logs.configure()
    instance.quiet = True


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def load_tasks(sender: str, instance: Any, **_: Any) -> None:
    """Load the task modules of the queues that this process consumes, so that the CPU queue's process never loads torch either; register."""
    global _member  # noqa: PLW0603  # a process is one worker, known once it has read its command line
    # Whatever level the command line sets for the process: the log of a job begins at what Ringi says of it.
    logging.getLogger("ringi").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    runtime.set_worker_name(sender)
    remove_abandoned()
    serving.start(broker=True)
    queues = [Queue(name) for name in instance.app.amqp.queues.consume_from]
    # What is imported stays: to look for garbage in it meanwhile takes a third of the time that torch, transformers and peft take.
    gc.disable()
    for queue in queues:
        for module in TASK_MODULES[queue]:
            importlib.import_module(module)
    gc.freeze()
    gc.enable()
    _member = Membership(sender, queues)
    try:
        _member.start()
    except RingiError as refusal:
        log.error("this worker cannot start: %s", refusal)  # noqa: TRY400  # a refusal: its message is the story
        # Celery swallows any other exception of a signal's receiver, and would go on with a worker that nobody knows.
        raise SystemExit(1) from None


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def look_between_messages(sender: Any, **_: Any) -> None:
    """At every heartbeat without a job, look for one; sent again after each reconnection to the broker."""
    global _looking  # noqa: PLW0603  # the timer of this process
    if _looking is not None:
        sender.timer.cancel(_looking)
    if _member is not None:
        _looking = sender.timer.call_repeatedly(get_settings().heartbeat_s, _member.look)


@worker_shutdown.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def leave(**_: Any) -> None:
    """The process ends in good order."""
    if _member is not None:
        _member.stop()
