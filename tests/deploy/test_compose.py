"""The container set-up, without a container engine: its commands exist, nothing has a default password, and the API image carries no torch."""

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = {"migrate", "api", "relay", "sequencer", "notifier", "watcher", "worker-gpu", "worker-cpu"}
HEAVY = ("torch", "transformers", "peft", "mlflow")


def modules_of(service: dict[str, Any]) -> list[str]:
    """What `python -m` runs, and what it is told to load."""
    words = " ".join(service.get("command", [])).split()
    found = [words[place + 1] for place, word in enumerate(words) if word in {"-m", "-A"}]
    return found + [word.partition(":")[0] for word in words if word.startswith("ringi.")]


def variables() -> set[str]:
    return set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))


def requirements(extra: str) -> set[str]:
    """The names that an extra brings, with those of the extras it includes."""
    names: set[str] = set()
    for line in PYPROJECT["project"]["optional-dependencies"][extra]:
        inner = re.fullmatch(r"ringi\[(\w+)\]", line)
        names |= requirements(inner[1]) if inner else {re.split(r"[\[<>=~ ]", line)[0].lower()}
    return names


def test_every_part_of_the_platform_is_a_service() -> None:
    assert set(SERVICES) == OURS | {"postgres", "valkey", "mlflow"}


@pytest.mark.parametrize("name", sorted(OURS | {"mlflow"}))
def test_every_command_names_modules_that_exist(name: str) -> None:
    modules = modules_of(SERVICES[name])
    assert modules, f"{name} runs no module"
    for module in modules:
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate"}))
def test_every_service_that_stays_up_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_nothing_starts_before_the_tables_are_there() -> None:
    for name in OURS - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


def test_only_the_migration_gets_the_owner_role() -> None:
    holders = {name for name, service in SERVICES.items() if "RINGI_OWNER_DATABASE_URL" in service.get("environment", {})}
    assert holders == {"migrate"}


def test_every_value_is_required_and_the_example_names_them_all_and_fills_in_none() -> None:
    assert re.findall(r"(?<!\$)\$\{[A-Z_]+(?!:\?)[^A-Z_]", TEXT) == []
    lines = [line for line in (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert {line.partition("=")[0] for line in lines} == variables()
    assert all(line.endswith("=") for line in lines)


def test_no_password_is_written_down() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|KEY$|AUTH$", key):
                assert str(value).startswith("${"), f"{name}: {key}"
            for password in re.findall(r"://[^:/@]*:([^@]+)@", str(value)):
                assert password.startswith("${"), f"{name}: {key}"


def test_the_ports_are_published_on_loopback_only() -> None:
    assert [port for service in SERVICES.values() for port in service.get("ports", [])] == SERVICES["api"]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])


def test_the_api_image_and_the_relay_extra_carry_nothing_heavy() -> None:
    text = (DEPLOY / "api.Dockerfile").read_text(encoding="utf-8")
    assert "[worker" not in text
    assert {SERVICES[name]["build"]["args"]["EXTRA"] for name in ("relay", "sequencer", "watcher")} == {"[relay]"}
    assert "args" not in SERVICES["api"]["build"]
    base = {re.split(r"[\[<>=~ ]", line)[0].lower() for line in PYPROJECT["project"]["dependencies"]}
    assert not (base | requirements("relay")) & set(HEAVY)
    assert "celery" not in base
    assert set(HEAVY) <= requirements("worker")
    assert requirements("relay") <= requirements("worker")


@pytest.mark.parametrize("name", ["api.Dockerfile", "worker.Dockerfile"])
def test_an_image_runs_as_nobody_special_on_the_pinned_versions(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    last_user = re.findall(r"^USER (\S+)$", text, flags=re.MULTILINE)[-1]
    assert last_user == "ringi"
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)
    for source in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / part).exists() for part in source.split())
