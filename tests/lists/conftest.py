"""One API process over one database for this folder, with an organisation that is only read and makers for more."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session, sessionmaker

from lists.world import Tenant, tenant
from ringi.adapters.schemas import VersionState
from ringi.embedded.postgres import PostgresHandle
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.schemas import JobState
from support.hub_client import HubServer, hub_server
from support.postgres import DatabaseUrls, application, drop_database, fresh_database

OCTOBER = [datetime(2025, 10, day, 9, 30, tzinfo=UTC) for day in (1, 10, 20)]


@dataclass(frozen=True)
class Api:
    """The API process and the database behind it."""

    server: HubServer
    sessions: sessionmaker[Session]

    def tenant(self) -> Tenant:
        """An organisation of its own."""
        return tenant(self.sessions, self.server.url, f"org-{uuid4().hex[:8]}")


@dataclass(frozen=True)
class Filled:
    """Organisation `acme`, whose rows every test knows and none changes; `rival` has adapters of the same names."""

    acme: Tenant
    rival: Tenant
    ids: dict[str, UUID]


@pytest.fixture(scope="package")
def api(postgres_server: PostgresHandle, migrated_template: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("lists")
    urls = fresh_database(postgres_server, f"lists_{uuid4().hex[:8]}", template=migrated_template.name)
    with application(urls) as sessions, hub_server(folder, urls=urls, blobs=folder / "blobs") as (server, _):
        yield Api(server, sessions)
    drop_database(postgres_server, urls.name)


@pytest.fixture
def fresh(api: Api) -> Iterator[Tenant]:
    """An organisation for a test that writes."""
    made = api.tenant()
    yield made
    made.close()


@pytest.fixture(scope="package")
def filled(api: Api) -> Iterator[Filled]:
    """What the tests that only read look at."""
    acme, rival = api.tenant(), api.tenant()
    ids: dict[str, UUID] = {}
    with api.sessions.begin() as session:
        tiny, other = acme.base(session, "tiny", revisions=2), acme.base(session, "other")
        faq, letters = acme.dataset(session, "faq", rows=900), acme.dataset(session, "letters", rows=50)
        bot = acme.adapter(session, "bot", tiny, description="お客様への応答アダプター")
        mail = acme.adapter(session, "mail", other, description="ﾒｰﾙの下書き 100%_off", owner="dana")
        acme.adapter(session, "empty", tiny, description="ＦＡＱ検索")
        hidden = acme.adapter(session, "hidden", tiny, project="secret", description="応答 極秘")
        secret_version = acme.version(session, hidden, rank=64)
        acme.evaluation(session, secret_version, acme.dataset(session, "sealed", project="secret"), improvement=9.9)
        versions = [acme.version(session, bot, rank=rank) for rank in (4, 8, 16)]
        versions[0].state, versions[0].state_reason = VersionState.DEPRECATED, "v2 の方が良い"
        versions.append(acme.version(session, mail, rank=8, method="IA3"))
        for version, dataset, loss in zip(versions, (faq, faq, letters, letters), (2.5, 1.25, None, 0.75), strict=True):
            ids[f"run:{version.number}:{version.adapter_id == bot.id}"] = acme.run(session, version, dataset, loss=loss).id
        for version, improvement in zip(versions, (0.05, 0.4, None, -0.2), strict=True):
            acme.evaluation(session, version, faq, improvement=improvement)
        production, staging = acme.channel(session, "production"), acme.channel(session, "staging", environment="staging")
        for version, at in zip(versions, OCTOBER, strict=False):
            acme.release(session, production, version, at)
        acme.release(session, staging, versions[2], OCTOBER[1])
        acme.release(session, production, versions[3], OCTOBER[2])
        acme.job(
            session,
            JobKind.TRAIN,
            state=JobState.FAILED,
            subject="adapter risk/bot",
            project_id=acme.projects["risk"],
            error={"code": "out_of_memory", "message": "", "next_step": "", "details": {}},
        )
        acme.job(session, JobKind.TRAIN, subject="adapter secret/hidden 応答", project_id=acme.projects["secret"])
        rival_base = rival.base(session, "tiny")
        foreign = rival.adapter(session, "bot", rival_base, description="お客様への応答アダプター")
        ids |= {"bot": bot.id, "mail": mail.id, "hidden": hidden.id, "foreign": foreign.id, "v1": versions[0].id, "v2": versions[1].id}
    yield Filled(acme, rival, ids)
    acme.close()
