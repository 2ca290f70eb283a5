"""The vocabulary of what leaves the database."""

from enum import StrEnum


class Topic(StrEnum):
    """`job.ready`: a worker of the queue in the payload may claim the job whose id is the key."""

    JOB_READY = "job.ready"
