"""Every place in the database that refers to stored bytes, by table and column name: what is found here is kept.

A test (tests/retention/test_references.py) walks all tables and fails for a column that could hold digests and stands in neither list,
so that a new table cannot be forgotten. `uploads` is no reference: an upload that nothing came of is what the collector is for.
"""

from typing import NamedTuple


class Place(NamedTuple):
    """A column; `where` narrows its rows (SQL)."""

    table: str
    column: str
    where: str = "true"


_TO_BE_DONE = "state IN ('queued', 'running', 'paused')"

# Columns that hold one digest.
COLUMNS = (
    Place("dataset_versions", "source_digest"),
    Place("dataset_versions", "train_digest"),
    Place("dataset_versions", "validation_digest"),
    Place("evaluations", "records_digest"),
    Place("measurements", "records_digest"),
    Place("suite_versions", "digest"),
)
# JSON documents: every text in them that has the form of a digest counts, at any depth.
DOCUMENTS = (
    Place("adapter_versions", "files"),
    Place("base_revisions", "files"),
    Place("base_revisions", "parts"),
    Place("suite_versions", "document"),
    Place("jobs", "payload", _TO_BE_DONE),
    # Also of a run that failed or was cancelled, for a while: another one may branch from it.
    Place("jobs", "checkpoint"),
)
# Digests of other things than stored bytes, and documents that name bytes without needing them.
NOT_REFERENCES = {
    "adapter_versions.effect": "a measurement; its digest is of the probe prompts",
    "adapter_versions.facts": "what the header says",
    "adapter_versions.manifest_digest": "of the manifest, which is a column",
    "adapter_versions.runtime": "versions of libraries",
    "approval_grants.base_parts": "fingerprints",
    "approval_grants.evidence": "digests of evidence documents, which are columns",
    "approval_grants.manifest_digest": "of a manifest",
    "approval_grants.policy_digest": "of a policy document",
    "approval_policies.digest": "of the policy document",
    "approval_policies.document": "rules",
    "approval_requests.evidence": "digests of evidence documents, which are columns",
    "approval_requests.evidence_digest": "of the list beside it",
    "approval_requests.manifest_digest": "of a manifest",
    "approval_requests.policy_digest": "of a policy document",
    "approval_votes.evidence_digest": "of what was voted on",
    "approval_votes.manifest_digest": "of a manifest",
    "approval_votes.policy_digest": "of a policy document",
    "audit_event.after_digest": "of a state row",
    "base_comparisons.facts": "names of tensors",
    "base_revisions.digest": "of the list of files",
    "base_revisions.facts": "what the configuration says",
    "blobs.digest": "the bytes themselves",
    "browser_sessions.amr": "words of the identity provider",
    "compatibility_assessments.report": "what the rules found",
    "compatibility_assessments.report_digest": "of the report beside it",
    "dataset_versions.digest": "of the parts together",
    "dataset_versions.recipe": "how its rows were prepared",
    "dataset_versions.report": "counts",
    "dataset_versions.split": "how it was split",
    "evaluations.evidence": "names the records, which records_digest refers to",
    "evaluations.evidence_digest": "of the document beside it",
    "evaluations.summary": "figures",
    "events.data": "names bytes without needing them",
    "gate_decisions.digest": "of the document beside it",
    "gate_decisions.document": "names evidence, which are columns",
    "idempotency_keys.fingerprint": "of a request",
    "idempotency_keys.headers": "of an answer",
    "job_log.data": "what happened to a job",
    "jobs.error": "what went wrong",
    "jobs.losses": "names of workers",
    "jobs.progress": "figures",
    "jobs.requirements": "what a worker must have",
    "jobs.result": "kept by the rows that were written with it, or not wanted",
    "measurements.evidence": "names the records, which records_digest refers to",
    "measurements.evidence_digest": "of the document beside it",
    "measurements.operations": "figures",
    "measurements.problem": "what went wrong",
    "measurements.runtime": "versions of libraries",
    "measurements.runtime_digest": "of the document beside it",
    "measurements.stopped": "names records of another measurement, which its own records_digest refers to",
    "measurements.summary": "figures",
    "outbox.payload": "a queue's name",
    "project_bytes.digest": "counts what a project holds: goes by the rows that hold it",
    "retrainings.problem": "what went wrong",
    "search_trials.comparisons": "figures",
    "search_trials.problem": "what went wrong",
    "search_trials.spec": "hyperparameters",
    "subscriptions.event_types": "names of events",
    "suite_versions.facts": "counts",
    "tokens.networks": "addresses",
    "tokens.scopes": "permissions",
    "training_runs.metrics": "figures",
    "training_runs.provenance": "names rows and bases, which have rows of their own",
    "training_runs.provenance_digest": "of the record beside it",
    "training_runs.spec": "hyperparameters",
    "upload_sessions.digest": "announced; its bytes are parts, which the session keeps by their ids",
    "uploads.digest": "who sent the bytes: goes with them",
    "version_origins.digest": "of the record beside it",
    "version_origins.facts": "what another system said",
    "watch_looks.drift": "figures",
    "watch_looks.problem": "what went wrong",
    "watches.channels": "names of channels",
    "watches.drift": "limits",
    "watches.placement": "what a worker must have",
    "workers.engines": "versions of libraries",
    "workers.queues": "names of queues",
    "workers.versions": "versions of libraries",
}

# Lax mode would look at each item of a list twice, which is harmless and slower.
_DIGESTS_IN = """strict $.** ? (@.type() == "string" && @ starts with "sha256:")"""


def referenced() -> str:
    """SQL: the digests that anything refers to, in a column `digest`. One statement, so that it sees one moment of the database."""
    # Made of the constants above alone.
    plain = [f"SELECT {one.column} AS digest FROM {one.table} WHERE {one.where}" for one in COLUMNS]  # noqa: S608
    deep = [
        f"SELECT found #>> '{{}}' FROM {one.table}, LATERAL jsonb_path_query({one.column}, '{_DIGESTS_IN}') AS found WHERE {one.where}"  # noqa: S608
        for one in DOCUMENTS
    ]
    return "\nUNION ".join([*plain, *deep])
