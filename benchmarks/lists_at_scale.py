"""How long lists take over 100,000 rows: `python -m benchmarks.lists_at_scale [ROWS]`.

Fills a database of its own with one project of ROWS adapters (a version, an evaluation and two tags each) and as many jobs, beside an equal
project that the caller may not see, then times every kind of question as the API asks it: the query of one page of 50, without HTTP.
Prints the median and the slowest of nine runs in milliseconds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import Select, create_engine, text
from sqlalchemy.orm import Session

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.api.catalogue_lists import ADAPTERS, VERSIONS
from ringi.embedded import postgres
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.lists import JOBS
from ringi.kit.actor import Actor, ActorKind
from ringi.web import filters
from ringi.web.listing import Listing
from ringi.web.paging import Ask, rows_of

ROOT = Path(__file__).parents[1]
TIMES = 9
_FILL = """
INSERT INTO organizations (id, name, display_name) VALUES (:org, 'acme', '');
INSERT INTO users (id, organization_id, name, display_name, kind) VALUES (:user, :org, 'aiko', '', 'human');
INSERT INTO projects (id, organization_id, name, display_name) VALUES (:risk, :org, 'risk', ''), (:secret, :org, 'secret', '');
INSERT INTO jobs (id, organization_id, kind, queue, subject, state, payload, attempt, max_attempts, created_by)
  VALUES (:job, :org, 'fingerprint', 'cpu', 'base', 'succeeded', '{}', 0, 5, :user);
INSERT INTO base_models (id, organization_id, name, description) SELECT uuidv7(), :org, 'base-' || n, '' FROM generate_series(0, 9) n;
INSERT INTO base_revisions (id, organization_id, base_model_id, number, state, digest, files, note, parts, job_id, created_by)
  SELECT uuidv7(), :org, id, 1, 'sealed', 'sha256:' || md5(name), '[]', '', '{}', :job, :user FROM base_models;
INSERT INTO jobs (id, organization_id, project_id, kind, queue, subject, state, payload, attempt, max_attempts, created_by)
  SELECT uuidv7(), :org, p.id, 'train', 'gpu', 'adapter ' || p.name || '/adapter-' || n, CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END,
         jsonb_build_object('spec', repeat('x', 1500)), 1, 5, :user FROM generate_series(1, :rows) n, projects p;
INSERT INTO adapters (id, project_id, name, base_model_id, description, created_by)
  SELECT uuidv7(), p.id, 'adapter-' || n, (SELECT id FROM base_models WHERE name = 'base-' || n % 10),
         CASE WHEN n % 1000 = 0 THEN '与信審査の稟議書 ' || n ELSE 'お客様への応答アダプター その' || n || ' 金融業務の問い合わせに答える' END, :user
  FROM generate_series(1, :rows) n, projects p;
INSERT INTO adapter_versions (id, project_id, adapter_id, number, state, source, manifest_digest, manifest, files, base_revision_id, facts, effect, runtime, job_id, created_by)
  SELECT uuidv7(), a.project_id, a.id, 1, 'sealed', 'trained', 'sha256:' || md5(a.id::text) || md5(a.name), '{}', '[]', r.id,
         jsonb_build_object('peft_type', 'LORA', 'rank', 8, 'target_modules', '[]'::jsonb, 'parameters', 1000), '{"change": 0.5, "noise": 0.01}', '{}', :job, :user
  FROM adapters a JOIN base_revisions r ON r.base_model_id = a.base_model_id;
INSERT INTO datasets (id, project_id, name, description) SELECT uuidv7(), id, 'faq', '' FROM projects;
INSERT INTO blobs (digest, size) VALUES ('sha256:a', 1);
INSERT INTO dataset_versions (id, project_id, dataset_id, number, digest, source_digest, split, train_digest, train_size, validation_digest, validation_size, report, created_by)
  SELECT uuidv7(), project_id, id, 1, 'sha256:b', 'sha256:a', '{}', 'sha256:a', 1, 'sha256:a', 1, '{}', :user FROM datasets;
INSERT INTO jobs (id, organization_id, project_id, kind, queue, subject, state, payload, attempt, max_attempts, created_by)
  SELECT v.id, :org, v.project_id, 'evaluate', 'gpu', 'evaluation', 'succeeded', '{}', 1, 5, :user FROM adapter_versions v;
INSERT INTO evaluations (id, project_id, version_id, base_revision_id, baseline, dataset_version_id, job_id, summary, evidence_digest, requested_by)
  SELECT uuidv7(), v.project_id, v.id, v.base_revision_id, 'base', d.id, v.id,
         jsonb_build_object('verdict', 'better', 'improvement', random() - 0.5, 'slices', repeat('x', 1000)), 'sha256:c', :user
  FROM adapter_versions v JOIN dataset_versions d ON d.project_id = v.project_id;
INSERT INTO tags (id, organization_id, project_id, object_type, object_id, key, value, set_by)
  SELECT uuidv7(), :org, a.project_id, 'adapter', a.id, k, CASE k WHEN 'team' THEN 'team-' || ascii(right(a.name, 1)) % 10 ELSE right(a.name, 4) END, :user
  FROM adapters a, unnest(ARRAY['team', 'cost']) k;
"""


class Question(NamedTuple):
    """What is asked of a list, in words and in parameters."""

    words: str
    listing: Listing
    filter: tuple[str, ...] = ()
    sort: str | None = None
    q: str | None = None
    page: int = 1
    counted: bool = False


QUESTIONS = (
    Question("adapters, first page", ADAPTERS),
    Question("adapters, page 100", ADAPTERS, page=100),
    Question("adapters by name, page 100", ADAPTERS, sort="name", page=100),
    Question("adapters by base and name, first page", ADAPTERS, sort="base,name"),
    Question("adapters, count", ADAPTERS, counted=True),
    Question("adapters, q=応答 (common)", ADAPTERS, q="応答"),
    Question("adapters, q=与信審査 (1 in 1,000)", ADAPTERS, q="与信審査"),
    Question("adapters, q=存在しない (none)", ADAPTERS, q="存在しない"),
    Question("adapters, q=与信審査, count", ADAPTERS, q="与信審査", counted=True),
    Question("adapters, base=base-3, count", ADAPTERS, filter=("base=base-3",), counted=True),
    Question("adapters, tags.team=team-5", ADAPTERS, filter=("tags.team=team-5",)),
    Question("adapters, tags.cost=-777 (1 in 1,000)", ADAPTERS, filter=("tags.cost=-777",)),
    Question("adapters sorted by tags.cost", ADAPTERS, sort="tags.cost"),
    Question("adapters, versions.metrics.improvement>0.49", ADAPTERS, filter=("versions.metrics.improvement>0.49",)),
    Question("versions, metrics.improvement>0.49", VERSIONS, filter=("metrics.improvement>0.49",)),
    Question("versions sorted by metrics.improvement", VERSIONS, sort="-metrics.improvement"),
    Question("jobs, first page", JOBS),
    Question("jobs, state=failed", JOBS, filter=("state=failed",)),
    Question("jobs, state=running (none)", JOBS, filter=("state=running",)),
    Question("jobs, q=adapter-77777", JOBS, q="adapter-77777"),
)


def filled(url: str, rows: int) -> Actor:
    """The rows, and somebody who may see one of the two projects."""
    ids = {name: uuid4() for name in ("org", "user", "risk", "secret", "job")}
    with create_engine(url).begin() as connection:
        for statement in filter(str.strip, _FILL.split(";\n")):
            connection.execute(text(statement), {"rows": rows, **ids})
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
    read = frozenset({"project:read", "organization:read"})
    return Actor(ActorKind.USER, ids["user"], "aiko", ids["org"], project_permissions={ids["risk"]: read})


def query_of(listing: Listing, actor: Actor, project: UUID) -> Select[Any]:
    """What the list's endpoint starts from."""
    if listing is JOBS:
        return jobs.listed(actor)
    model = Adapter if listing is ADAPTERS else AdapterVersion
    return visible(actor, model).where(model.project_id == project)


def asked(question: Question, after: tuple[Any, ...] | None) -> Ask:
    """The question as the API understands it."""
    found = [*filters.conditions_of(question.listing, question.filter), *filters.search_of(question.listing, question.q)]
    order = tuple(filters.order_of(question.listing, question.sort))
    return Ask(question.listing, 50, after, tuple(found), order, "benchmark", question.counted)


def timed(session: Session, actor: Actor, question: Question) -> list[float]:
    """Milliseconds of every run."""
    (project,) = actor.project_permissions
    query, after = query_of(question.listing, actor, project), None
    if question.page > 1:
        order = asked(question, None).order
        keys = [one.value for one in order]
        ordered = query.with_only_columns(*keys).order_by(
            *(key.desc() if one.descending else key for one, key in zip(order, keys, strict=True))
        )
        after = tuple(session.execute(ordered.offset(50 * (question.page - 1) - 1).limit(1)).one())
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        rows_of(session, query, asked(question, after))
        taken.append(1000 * (time.perf_counter() - began))
        session.expunge_all()
    return taken


def main() -> None:
    """Fill, ask, print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="ringi-bench-") as folder:
        handle = postgres.start(Path(folder), durable=False)
        try:
            postgres.create_database(handle, "lists")
            owner, application = (handle.url(role, "lists") for role in (postgres.OWNER, postgres.PLATFORM))
            migrate(owner, application)
            actor = filled(owner, rows)
            medians = {}
            print(f"{'question':<48} {'median ms':>10} {'slowest':>9}")
            with Session(create_engine(application)) as session:
                for question in QUESTIONS:
                    taken = timed(session, actor, question)
                    medians[question.words] = statistics.median(taken)
                    print(f"{question.words:<48} {medians[question.words]:>10.1f} {max(taken):>9.1f}", flush=True)
            slowest = max(medians, key=lambda words: medians[words])
            print(f"lists_at_scale rows={rows} questions={len(medians)} slowest_median_ms={medians[slowest]:.0f} slowest='{slowest}'")
        finally:
            postgres.stop(Path(folder), grace_s=10)


def migrate(owner: str, application: str) -> None:
    """Alembic, as a deployment runs it."""
    environment = os.environ | {"RINGI_OWNER_DATABASE_URL": owner, "RINGI_DATABASE_URL": application}
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True, capture_output=True)


if __name__ == "__main__":
    main()
