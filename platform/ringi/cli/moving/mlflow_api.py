"""A tracking server as its REST API 2.0 shows it (mlflow.org/docs, "REST API"). Reads only; redirects are not followed.

Every answer is bounded, every list ends. The credentials go to this one server: `MLFLOW_TRACKING_TOKEN`, or `…_USERNAME` and `…_PASSWORD`.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ringi.cli.connection import BACK_OFF_S, RETRIED
from ringi.cli.contexts import clean_server
from ringi.cli.moving.refusals import ArtifactTooLarge, SourceNotUnderstood, SourceRefused, SourceUnreachable

Model = TypeVar("Model", bound=BaseModel)
API = "/api/2.0/mlflow"
MAX_ANSWER_BYTES = 16 * 2**20
MAX_PAGES = 1000
_FAILED = 400
# The end of the year 9999: the last second that a datetime holds.
_LATEST_MS = 253_402_300_799_000


class Answer(BaseModel):
    """What is read of an answer; servers of other versions may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Tag(Answer):
    """A tag or a parameter."""

    key: str
    value: str = ""


class Alias(Answer):
    """A registered model's alias and the version that it names."""

    alias: str
    version: str


class RegisteredModel(Answer):
    """A name with its tags and aliases."""

    name: str
    description: str = ""
    tags: tuple[Tag, ...] = ()
    aliases: tuple[Alias, ...] = ()


class ModelVersion(Answer):
    """A version; `creation_timestamp` in milliseconds since 1970."""

    name: str
    version: str
    description: str = ""
    source: str = ""
    run_id: str = ""
    run_link: str = ""
    model_id: str = ""
    status: str = ""
    current_stage: str = ""
    creation_timestamp: int | None = Field(default=None, ge=0, le=_LATEST_MS)
    tags: tuple[Tag, ...] = ()


class Metric(Answer):
    """The last value of a metric; NaN and the infinities come as text, and are numbers here."""

    key: str
    value: float


class RunInfo(Answer):
    """Which run."""

    run_id: str
    run_name: str = ""
    experiment_id: str = ""
    artifact_uri: str = ""


class RunData(Answer):
    """What was logged."""

    metrics: tuple[Metric, ...] = ()
    params: tuple[Tag, ...] = ()
    tags: tuple[Tag, ...] = ()


class Run(Answer):
    """A run."""

    info: RunInfo
    data: RunData = RunData()


class _Models(Answer):
    registered_models: tuple[RegisteredModel, ...] = ()
    next_page_token: str = ""


class _Versions(Answer):
    model_versions: tuple[ModelVersion, ...] = ()
    next_page_token: str = ""


class _OneRun(Answer):
    run: Run


class _Place(Answer):
    artifact_uri: str = ""


class TrackingServer:
    """One server. Raises SourceUnreachable, SourceRefused, SourceNotUnderstood."""

    def __init__(self, server: str, environ: Mapping[str, str]) -> None:
        self.server = clean_server(server)
        token, user = environ.get("MLFLOW_TRACKING_TOKEN"), environ.get("MLFLOW_TRACKING_USERNAME")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        basic = httpx.BasicAuth(user, environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user and not token else None
        self._http = httpx.Client(base_url=self.server, headers=headers, auth=basic, timeout=httpx.Timeout(60.0, connect=5.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def models(self) -> list[RegisteredModel]:
        """Every registered model; prompts, which MLflow keeps in the same registry, are left out by the server."""
        route = f"{API}/registered-models/search"
        return [model for page in self.pages(route, _Models, max_results="100") for model in page.registered_models]

    def versions(self, name: str) -> list[ModelVersion]:
        """The versions of a model, oldest first."""
        quote = '"' if "'" in name else "'"
        route = f"{API}/model-versions/search"
        pages = self.pages(route, _Versions, filter=f"name={quote}{name}{quote}", max_results="1000")
        found = [version for page in pages for version in page.model_versions]
        for version in found:
            if version.name != name or not (version.version.isascii() and version.version.isdigit()):
                raise SourceNotUnderstood(self.server, route, f"a version {version.version[:40]!a} of another model")
        return sorted(found, key=lambda version: int(version.version))

    def run(self, run_id: str) -> Run:
        """A run with the last value of each metric."""
        return self.read(f"{API}/runs/get", _OneRun, run_id=run_id).run

    def artifact_uri(self, version: ModelVersion) -> str:
        """Where the version's files are."""
        return self.read(f"{API}/model-versions/get-download-uri", _Place, name=version.name, version=version.version).artifact_uri

    def pages(self, route: str, model: type[Model], **query: str) -> Iterator[Model]:
        """Every page of a list; a token that comes again, or pages without end, are refused."""
        token, seen = "", set[str]()
        for _ in range(MAX_PAGES):
            page = self.read(route, model, **query, **({"page_token": token} if token else {}))
            yield page
            token = getattr(page, "next_page_token", "")
            if not token:
                return
            if token in seen:
                raise SourceNotUnderstood(self.server, route, "the list leads back to itself")
            seen.add(token)
        raise SourceNotUnderstood(self.server, route, f"the list has more than {MAX_PAGES} pages")

    def read(self, route: str, model: type[Model], **query: str) -> Model:
        """One JSON answer, of at most 16 MiB."""
        with self.stream(route, **query) as answer:
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise ArtifactTooLarge(f"the answer to {route} in bytes", MAX_ANSWER_BYTES)
        try:
            return model.model_validate_json(bytes(body))
        except ValidationError as error:
            first = error.errors()[0]
            raise SourceNotUnderstood(self.server, route, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    @contextmanager
    def stream(self, route: str, **query: str) -> Iterator[httpx.Response]:
        """An answer whose body is not read yet. It is asked for again while the server is unwell; a body that breaks off is not."""
        pauses = iter((*BACK_OFF_S, None))
        while True:
            pause = next(pauses)
            try:
                answer = self._http.send(self._http.build_request("GET", route, params=query), stream=True)
            except httpx.TransportError as error:
                if pause is None:
                    raise SourceUnreachable(self.server, _reason(error)) from error
                time.sleep(pause)
                continue
            if answer.status_code not in RETRIED or pause is None:
                break
            answer.close()
            time.sleep(pause)
        try:
            self._check(route, answer)
            yield answer
        except httpx.HTTPError as error:
            raise SourceUnreachable(self.server, _reason(error)) from error
        finally:
            answer.close()

    def _check(self, route: str, answer: httpx.Response) -> None:
        if answer.is_redirect:
            raise SourceNotUnderstood(self.server, route, f"it redirects to {answer.headers.get('location', '')[:200]!a}")
        if answer.status_code >= _FAILED:
            raise SourceRefused(self.server, route, answer.status_code, _message(answer))


def _message(answer: httpx.Response) -> str:
    head = b""
    for piece in answer.iter_bytes():
        head += piece
        if len(head) > MAX_ANSWER_BYTES // 16:
            break
    try:
        document: Any = json.loads(head)
        return str(document.get("message") or document.get("error_code") or document)
    except (ValueError, AttributeError):
        return head[:200].decode("utf-8", "replace").strip() or "without a word"


def _reason(error: httpx.HTTPError) -> str:
    return str(error).rstrip(".") or type(error).__name__
