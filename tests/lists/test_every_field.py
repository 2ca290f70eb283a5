"""Every list that the API's document shows, sorted and filtered by every field that it declares."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from architecture.openapi_document import document
from lists.conftest import Api
from lists.world import Tenant
from ringi.adapters.models import AdapterVersion
from ringi.api import audit_lists, catalogue_lists
from ringi.api.app import API_PREFIX
from ringi.api.as_of import APPROVED_THEN, LIVE_THEN
from ringi.approvals.lists import APPROVALS
from ringi.base_models.lists import BASE_REVISIONS, BASES
from ringi.compatibility.lists import ASSESSMENTS
from ringi.datasets.lists import DATASET_VERSIONS, DATASETS
from ringi.evaluation.lists import EVALUATIONS
from ringi.events.lists import DELIVERIES, EVENTS, SUBSCRIPTIONS
from ringi.events.schemas import CreateSubscription
from ringi.gates.lists import GATES
from ringi.identity.lists import MEMBERSHIPS, PROJECTS, SESSIONS, TOKENS, USERS
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.lists import JOBS
from ringi.kit.digests import sha256_bytes
from ringi.measurements.lists import MEASUREMENTS
from ringi.measurements.models import Measurement
from ringi.origins.endpoints import ORIGINS, ORIGINS_OF_VERSION
from ringi.releases.lists import ALL_RELEASES, CHANNELS, RELEASES
from ringi.retraining.lists import RETRAININGS
from ringi.searches.lists import SEARCHES
from ringi.suites.lists import SUITE_VERSIONS, SUITES
from ringi.sweeps.lists import SWEEPS
from ringi.training.lists import RUNS
from ringi.uploads.session_endpoints import UPLOADS
from ringi.watches.lists import LOOKS, WATCHES
from ringi.web.listing import Field, Kind, Listing

pytestmark = pytest.mark.long

PROJECT, ADAPTER = "/projects/{project}", "/projects/{project}/adapters/{adapter}"
VERSION = f"{ADAPTER}/versions/{{selector}}"
# Who reads the list, and what it declares.
LISTS: dict[str, tuple[str, Listing]] = {
    "/audit/as-of": ("otto", LIVE_THEN),
    "/audit/as-of/approvals": ("otto", APPROVED_THEN),
    "/audit/events": ("otto", audit_lists.EVENTS),
    "/bases": ("aiko", BASES),
    "/bases/{base}/revisions": ("aiko", BASE_REVISIONS),
    "/bases/{base}/revisions/{selector}/compatibility": ("aiko", ASSESSMENTS),
    "/jobs": ("aiko", JOBS),
    "/memberships": ("idun", MEMBERSHIPS),
    "/projects": ("aiko", PROJECTS),
    "/sessions": ("idun", SESSIONS),
    "/tokens": ("idun", TOKENS),
    "/uploads/sessions": ("aiko", UPLOADS),
    "/users": ("idun", USERS),
    f"{PROJECT}/adapters": ("aiko", catalogue_lists.ADAPTERS),
    f"{PROJECT}/approvals": ("aiko", APPROVALS),
    f"{PROJECT}/channels": ("aiko", CHANNELS),
    f"{PROJECT}/channels/{{channel}}/adapters/{{adapter}}/releases": ("aiko", RELEASES),
    f"{PROJECT}/datasets": ("aiko", DATASETS),
    f"{PROJECT}/datasets/{{dataset}}/versions": ("aiko", DATASET_VERSIONS),
    f"{PROJECT}/evaluations": ("aiko", EVALUATIONS),
    f"{PROJECT}/events": ("aiko", EVENTS),
    f"{PROJECT}/gates": ("aiko", GATES),
    f"{PROJECT}/measurements": ("aiko", MEASUREMENTS),
    f"{PROJECT}/origins": ("aiko", ORIGINS),
    f"{PROJECT}/releases": ("aiko", ALL_RELEASES),
    f"{PROJECT}/runs": ("aiko", RUNS),
    f"{PROJECT}/retrainings": ("aiko", RETRAININGS),
    f"{PROJECT}/searches": ("aiko", SEARCHES),
    f"{PROJECT}/subscriptions": ("dana", SUBSCRIPTIONS),
    f"{PROJECT}/subscriptions/{{subscription}}/deliveries": ("dana", DELIVERIES),
    f"{PROJECT}/suites": ("aiko", SUITES),
    f"{PROJECT}/suites/{{suite}}/versions": ("aiko", SUITE_VERSIONS),
    f"{PROJECT}/sweeps": ("aiko", SWEEPS),
    f"{PROJECT}/watches": ("aiko", WATCHES),
    f"{PROJECT}/watches/{{watch}}/looks": ("aiko", LOOKS),
    f"{PROJECT}/versions": ("aiko", catalogue_lists.VERSIONS),
    f"{ADAPTER}/runs": ("aiko", RUNS),
    f"{ADAPTER}/trail": ("aiko", audit_lists.TRAIL),
    f"{ADAPTER}/versions": ("aiko", catalogue_lists.VERSIONS),
    f"{VERSION}/compatibility": ("aiko", ASSESSMENTS),
    f"{VERSION}/evaluations": ("aiko", EVALUATIONS),
    f"{VERSION}/origins": ("aiko", ORIGINS_OF_VERSION),
}
NAMES = {
    "project": "risk", "adapter": "bot", "selector": "latest", "base": "tiny", "channel": "production", "dataset": "faq", "subscription": "ops",
    "suite": "quality", "watch": "nightly",
}  # fmt: skip
VALUES = {
    Kind.TEXT: "応答", Kind.NUMBER: "-0.5", Kind.INTEGER: "1", Kind.TIME: "2025-10-10", Kind.ID: "00000000-0000-7000-8000-000000000000",
    Kind.FLAG: "true",
}  # fmt: skip


@pytest.fixture(scope="module")
def peopled(api: Api) -> Iterator[Tenant]:
    """An organisation with something in most of its lists, so that an order has something to order."""
    made = api.tenant()
    with made.sessions.begin() as session:
        base, dataset = made.base(session, "tiny"), made.dataset(session, "faq")
        adapter, channel = made.adapter(session, "bot", base, description="応答"), made.channel(session, "production")
        suite, measurements = made.suite(session, "quality"), list[Measurement]()
        made.suite(session, "letters")
        versions: list[AdapterVersion] = [made.version(session, adapter, rank=rank) for rank in (4, 8)]
        for version, measured in zip(versions, (0.5, None), strict=True):
            run = made.run(session, version, dataset, loss=measured)
            made.evaluation(session, version, dataset, improvement=measured)
            measurements.append(made.measurement(session, suite, version, mean=measured))
            made.release(session, channel, version, datetime(2025, 10, version.number, tzinfo=UTC))
        made.retraining(session, run)
        for name in ("nightly", "hourly"):
            made.watch(session, name, made.gate(session, *measurements))
            made.search(session)
        made.job(session, JobKind.TRAIN, project_id=made.projects["risk"])
    for size in (1, 2):
        made.as_("aiko").uploads.open(size=size, digest=sha256_bytes(b"x" * size))
    subscriptions = made.as_("dana").subscriptions
    for name in ("ops", "dev"):
        subscriptions.create("risk", CreateSubscription(name=name, url="https://93.184.215.14/hook", event_types=["*"]))
        subscriptions.test("risk", name)
    yield made
    made.close()


def value_of(field: Field) -> str:
    return field.choices[0] if field.choices else VALUES[field.kind]


def test_every_list_of_the_document_is_asked_here() -> None:
    found = {
        path.removeprefix(API_PREFIX)
        for path, methods in document()["paths"].items()
        if "filter" in {parameter["name"] for parameter in methods.get("get", {}).get("parameters", [])}
    }
    # Records lie in a file and have fields of their own: tests/evaluation/test_records.py asks for each kind of them.
    assert found == {*LISTS, f"{VERSION}/evaluations/{{evaluation_id}}/records"}


def batched(names: Iterable[str], size: int) -> Iterator[list[str]]:
    every = list(names)
    return (every[at : at + size] for at in range(0, len(every), size))


@pytest.mark.parametrize("path", LISTS)
def test_a_list_is_sorted_and_filtered_by_each_of_its_fields(peopled: Tenant, path: str) -> None:
    user, listing = LISTS[path]
    sortable = [name for name, field in listing.fields.items() if field.order is not None]
    # A few at a time: what one of them breaks, the request with it breaks.
    asked: list[dict[str, str | list[str]]] = [
        {"filter": [f"{name}={value_of(listing.fields[name])}" for name in some]} for some in batched(listing.fields, 6)
    ]
    asked += [{"sort": ",".join(f"-{name}" for name in some)} for some in batched(sortable, 3)]
    headers = {"Authorization": f"Bearer {peopled.tokens[user]}"}
    with httpx.Client(headers=headers, timeout=60) as client:
        url = f"{peopled.url}{API_PREFIX}{path.format(**NAMES)}"
        needed = {"time": datetime.now(UTC).isoformat(), "project": "risk"} if "as-of" in path else {}
        whole = len(client.get(url, params=needed).json()["items"])
        for parameters in asked:
            answer = client.get(url, params={**parameters, **needed})
            assert answer.status_code == 200, (parameters, answer.text)
            assert "filter" in parameters or len(answer.json()["items"]) == whole, f"{parameters} loses nothing"
