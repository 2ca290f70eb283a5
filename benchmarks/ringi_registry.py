"""Ringi's side of the registry benchmark: a platform of its own with sealed, approved and released versions, and the calls on them."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.load import Call
from ringi.approvals.policy import PolicyDocument, Seat, Stage
from ringi.approvals.schemas import VoteDecision
from ringi.cli.client import RingiClient
from ringi.embedded.environment import environment_for
from ringi.embedded.folder import free_port
from ringi.embedded.processes import platform_down, platform_up
from ringi.evaluation.schemas import RequestEvaluation
from ringi.identity.schemas import Role
from ringi.kit.digests import sha256_file
from ringi.tags.schemas import Taggable

# The tiny model of the tests, built in code, is this benchmark's base too.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.tiny_model import make_tiny_base, make_tiny_rows

PROJECT, BASE, CHANNEL = "bench", "tiny", "production"
PROCESSES = "2"


class Registry(NamedTuple):
    """A running platform; `calls` in the order create version, get version, list with filter, move channel."""

    server: str
    calls: tuple[Callable[[int, int], Call], ...]
    sealed_per_s: float


@contextmanager
def platform(data: Path, *, adapters: int, versions: int) -> Iterator[Registry]:
    """Up with workers until every version is sealed and two of each adapter are approved; then up without them, for the clients."""
    port = free_port()
    # uvicorn reads it: so many processes serve the API.
    os.environ["WEB_CONCURRENCY"] = PROCESSES
    # Counted all the same; one token of the benchmark stands for many callers.
    os.environ["RINGI_REQUESTS_PER_MINUTE"] = "100000000"
    try:
        status = platform_up(data, api_port=port, workers={"gpu": 1, "cpu": 1}, on_progress=_say)
        server = str(status.api_url)
        story = _Story(server, environment_for(data)["RINGI_SETUP_KEY"])
        sealed_per_s = story.seal(data.parent, adapters, versions)
        story.evaluate(data.parent, adapters)
        story.approve_and_release(adapters)
        platform_down(data)
        platform_up(data, api_port=port, workers={"gpu": 0, "cpu": 0}, on_progress=_say)
        yield Registry(server, _calls(story, adapters, versions), sealed_per_s)
    finally:
        platform_down(data)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Story:
    """An organisation with people, and what they have registered."""

    def __init__(self, server: str, setup_key: str) -> None:
        self.server = server
        with RingiClient(server, setup_key) as operator:
            self.admin = RingiClient(server, operator.identity.create_organization("bench", admin="admin").token.token)
        self.admin.identity.create_project(PROJECT)
        self.tokens: dict[str, str] = {}
        for name, role, project in (
            ("contributor", Role.CONTRIBUTOR, PROJECT), ("reviewer", Role.REVIEWER, PROJECT), ("deployer", Role.DEPLOYER, PROJECT),
            ("policy", Role.POLICY_ADMIN, None),
        ):  # fmt: skip
            self.admin.identity.create_user(name)
            self.admin.identity.grant_role(name, role, project=project)
            self.tokens[name] = self.admin.identity.issue_token(name).token
        self.files: list[list[dict[str, str]]] = []

    def as_(self, user: str) -> RingiClient:
        return RingiClient(self.server, self.tokens[user])

    def seal(self, folder: Path, adapters: int, versions: int) -> float:
        """Register every version and wait until all are sealed; returns how many were sealed per second."""
        base = make_tiny_base(folder / "base")
        self.admin.bases.create(BASE)
        revision = self.admin.bases.register(BASE, base)
        if revision.job_id is not None:
            self.admin.wait(revision.job_id)
        contributor = self.as_("contributor")
        for adapter in range(adapters):
            contributor.adapters.create(PROJECT, f"adapter-{adapter}", base=BASE)
        commit = self.admin.bases.revision(BASE).commit
        folders = [_drawn_adapter(base, folder / f"peft-{number}", number, commit=commit) for number in range(adapters * versions)]
        _say(f"sealing {len(folders)} versions")
        begun = time.monotonic()
        jobs = [contributor.adapters.register(PROJECT, f"adapter-{at % adapters}", each).job_id for at, each in enumerate(folders)]
        for job in jobs:
            contributor.wait(job)
        took = time.monotonic() - begun
        for adapter in range(adapters):
            for version in contributor.adapters.versions(PROJECT, f"adapter-{adapter}"):
                contributor.tags.set(Taggable.ADAPTER_VERSION, version.id, "team", "sales" if version.number % 2 else "risk")
            # As they were uploaded: what is sealed is the canonical form of the configuration.
            self.files.append([{"path": file.name, "digest": sha256_file(file)} for file in sorted(folders[adapter].iterdir())])
        return len(folders) / took

    def evaluate(self, folder: Path, adapters: int) -> None:
        """One completed evaluation of each version that is to be released, as the gate asks for."""
        contributor = self.as_("contributor")
        contributor.datasets.create(PROJECT, "rows")
        sealing = contributor.datasets.add_version(PROJECT, "rows", make_tiny_rows(folder / "rows.jsonl", 60))
        if sealing.job_id is not None:
            contributor.wait(sealing.job_id)
        _say(f"evaluating {2 * adapters} versions")
        wanted = RequestEvaluation(dataset="rows", max_new_tokens=1)
        every = [(f"adapter-{number}", version) for number in range(adapters) for version in ("v1", "v2")]
        for job in [contributor.evaluations.request(PROJECT, adapter, version, wanted).job_id for adapter, version in every]:
            contributor.wait(job)

    def approve_and_release(self, adapters: int) -> None:
        """Two approved versions of each adapter, the first of them released; the policy asks for one reviewer and no evaluation."""
        document = PolicyDocument(stages=(Stage(name="technical", seats=(Seat(role=Role.REVIEWER),)),), evidence=())
        self.as_("policy").approvals.set_policy(PROJECT, document)
        contributor, reviewer, deployer = (self.as_(name) for name in ("contributor", "reviewer", "deployer"))
        deployer.releases.create_channel(PROJECT, CHANNEL, environment="production")
        for adapter in (f"adapter-{number}" for number in range(adapters)):
            for version in ("v1", "v2"):
                asked = contributor.approvals.request(PROJECT, adapter, version)
                reviewer.approvals.vote(PROJECT, asked, decision=VoteDecision.APPROVE, reason="benchmark of the registry")
        for adapter in (f"adapter-{number}" for number in range(adapters)):
            for version in ("v1", "v2"):
                self._await_gates(deployer, adapter, version)
            deployer.releases.publish(PROJECT, adapter, version="v2", channel=CHANNEL, reason="benchmark of the registry")

    @staticmethod
    def _await_gates(deployer: RingiClient, adapter: str, version: str) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            failing = [gate for gate in deployer.releases.standing(PROJECT, adapter, version).gates[CHANNEL] if not gate.passed]
            if not failing:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{adapter}:{version} cannot be released: {failing}")


def _drawn_adapter(base: Path, folder: Path, seed: int, *, commit: str) -> Path:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapter = get_peft_model(model, config)
    # As Ringi's hub names the base and its revision; peft would write this machine's folder.
    adapter.peft_config["default"].base_model_name_or_path = f"bases/{BASE}"
    adapter.peft_config["default"].revision = commit
    adapter.save_pretrained(str(folder))
    return folder


def _calls(story: _Story, adapters: int, versions: int) -> tuple[Callable[[int, int], Call], ...]:
    root = f"/api/v1/projects/{PROJECT}"
    bearer = {user: {"Authorization": f"Bearer {token}"} for user, token in story.tokens.items()}

    def written(user: str) -> dict[str, str]:
        return bearer[user] | {"Idempotency-Key": str(uuid4())}

    def create(client: int, number: int) -> Call:
        at = client % adapters
        # Another set of files each time, as in life: a file more, under a name of its own. The same set twice would be refused.
        own = {
            "path": f"notes/{client}-{number}.txt",
            "digest": next(one["digest"] for one in story.files[at] if one["path"] == "adapter_config.json"),
        }
        body = {"files": [*story.files[at], own], "base_revision": "r1"}
        return Call("POST", f"{root}/adapters/adapter-{at}/versions", body, written("contributor"))

    def get(client: int, number: int) -> Call:
        return Call("GET", f"{root}/adapters/adapter-{client % adapters}/versions/v{number % versions + 1}", None, bearer["contributor"])

    def listed(client: int, _number: int) -> Call:
        return Call(
            "GET", f"{root}/adapters/adapter-{client % adapters}/versions?limit=50&filter=tags.team%3Drisk", None, bearer["contributor"]
        )

    def move(client: int, number: int) -> Call:
        body = {"version": f"v{number % 2 + 1}", "reason": "benchmark of the registry"}
        return Call("POST", f"{root}/channels/{CHANNEL}/adapters/adapter-{client % adapters}/releases", body, written("deployer"))

    return create, get, listed, move
