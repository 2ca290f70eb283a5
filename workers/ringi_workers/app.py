"""The Celery application: two queues, one task, one prefetched message. No torch here: the task modules of a queue load it.

A message carries a job's id and nothing else; `runtime.run` claims the job in the database or leaves it.
"""

import importlib
from typing import Any
from uuid import UUID

from celery import Celery
from celery.signals import celeryd_after_setup, celeryd_init, setup_logging

from ringi.jobs.contracts import CONTRACTS, Queue
from ringi.observe import logs, serving
from ringi.settings import get_settings
from ringi_workers import runtime
from ringi_workers.workspace import remove_abandoned

RUN_JOB = "ringi.run_job"
TASK_MODULES: dict[Queue, tuple[str, ...]] = {
    Queue.CPU: ("ringi_workers.datasets.task", "ringi_workers.base_models.task"),
    Queue.GPU: ("ringi_workers.training.task", "ringi_workers.adapters.task", "ringi_workers.evaluation.task"),
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


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]  # Celery ships no types
def run_job(job_id: str) -> None:
    """Work on a job, if it is there to be claimed."""
    runtime.run(UUID(job_id))


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def log_as_we_do(**_: Any) -> None:
    """Someone listens, so Celery leaves the logging alone."""


@celeryd_init.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def speak_in_lines(instance: Any, **_: Any) -> None:
    """Before Celery's first warning; its banner would stand among the lines of the log."""
    logs.configure()
    instance.quiet = True


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def load_tasks(sender: str, instance: Any, **_: Any) -> None:
    """Load the task modules of the queues that this process consumes, so that the CPU queue's process never loads torch."""
    runtime.set_worker_name(sender)
    remove_abandoned()
    serving.start(broker=True)
    for queue in instance.app.amqp.queues.consume_from:
        for module in TASK_MODULES[Queue(queue)]:
            importlib.import_module(module)
