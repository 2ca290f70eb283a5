"""The example of autoscaling: its address is a route, its value is in the answer, its worker is the one of the other examples."""

import importlib.util
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from fastapi.routing import iter_route_contexts

from ringi.api.app import API_PREFIX, create_app
from ringi.fleet.matching import GIB
from ringi.fleet.schemas import Device
from ringi.jobs.contracts.kinds import Queue
from ringi.jobs.schemas import DemandOut

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "keda.yaml").read_text(encoding="utf-8")
PARTS: dict[str, dict[str, Any]] = {part["kind"]: part for part in yaml.safe_load_all(TEXT)}
TRIGGER = PARTS["ScaledObject"]["spec"]["triggers"][0]
ADDRESS = urlsplit(TRIGGER["metadata"]["url"])


def test_the_trigger_asks_a_route_that_exists_with_values_that_it_takes() -> None:
    queue = ADDRESS.path.removeprefix(f"{API_PREFIX}/queues/").removesuffix("/demand")
    assert Queue(queue) is Queue.GPU
    routes = {str(context.path): context for context in iter_route_contexts(create_app().routes)}
    assert f"{API_PREFIX}/queues/{{queue}}/demand" in routes
    query = parse_qs(ADDRESS.query, strict_parsing=True)
    assert set(query) == {"device", "memory_bytes"}
    assert Device(query["device"][0]) is Device.CUDA
    assert int(query["memory_bytes"][0]) == 24 * GIB


def test_the_value_is_a_number_of_the_answer() -> None:
    assert TRIGGER["type"] == "metrics-api"
    assert DemandOut.model_fields[TRIGGER["metadata"]["valueLocation"]].annotation is int
    assert float(TRIGGER["metadata"]["targetValue"]) == 1


def test_the_token_comes_from_a_secret_that_is_not_filled_in() -> None:
    assert TRIGGER["metadata"]["authMode"] == "bearer"
    reference = PARTS["TriggerAuthentication"]["spec"]["secretTargetRef"][0]
    assert reference == {"parameter": "token", "name": PARTS["Secret"]["metadata"]["name"], "key": "token"}
    assert TRIGGER["authenticationRef"]["name"] == PARTS["TriggerAuthentication"]["metadata"]["name"]
    assert PARTS["Secret"]["stringData"] == {"token": ""}
    assert ADDRESS.scheme == "https"


def test_the_scaled_worker_is_the_worker_of_the_compose_file() -> None:
    assert PARTS["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == PARTS["Deployment"]["metadata"]["name"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    container = PARTS["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == compose["services"]["worker-gpu"]["command"]
    assert container["image"] == compose["services"]["worker-gpu"]["image"]
    assert importlib.util.find_spec(container["command"][container["command"].index("-A") + 1]) is not None


def test_a_pod_that_ends_has_the_time_of_the_longest_job() -> None:
    from ringi.jobs.contracts.kinds import CONTRACTS

    longest = max(contract.time_limit_s for contract in CONTRACTS.values())
    assert PARTS["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= longest


def test_the_commands_in_the_comments_name_scopes_that_exist() -> None:
    from ringi.identity.permissions import Permission

    assert [Permission(scope) for scope in re.findall(r"--scope (\S+)", TEXT)] == [Permission.FLEET_READ]
