"""A suite as people write it: YAML. Pure, and safe with what anybody sends.

YAML's traps are closed: an alias is refused (a few of them expand to gigabytes), and so is depth, a key that stands twice, and every tag that
makes an object. `no`, `yes`, `on`, `1_000` and dates stay texts, as YAML 1.2 reads them: a list of choices is not turned into truth values.
"""

import re
from typing import Any, ClassVar

import yaml

from ringi.kit.errors import InvalidInput

MAX_DEPTH = 32
MAX_BYTES = 64 * 2**20


class SuiteYamlRefused(InvalidInput):
    """Not YAML, or YAML that does more than hold data."""

    code: ClassVar[str] = "suite_yaml_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The document cannot be read: {reason}.",
            next_step="Write plain YAML or JSON in UTF-8: no anchors, no aliases, no tags, every key once.",
        )


# libyaml reads as the Python parser does, about ten times as fast.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # one of two classes of one interface
    """The core schema of YAML 1.2 (section 10.3.2) in place of YAML 1.1."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # PyYAML's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise SuiteYamlRefused(f"line {key.start_mark.line + 1} has a key that is no text")
            if key.value in seen:
                raise SuiteYamlRefused(f"line {key.start_mark.line + 1} has the key '{key.value[:80]}' for the second time")
            seen.add(key.value)
        return {str(key.value): self.construct_object(value, deep=deep) for key, value in node.value}


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    # PyYAML's own reads 1.1's sexagesimal numbers too.
    return float(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_document(content: bytes) -> dict[str, Any]:
    """The mapping that `content` holds. Raises SuiteYamlRefused."""
    if len(content) > MAX_BYTES:
        raise SuiteYamlRefused(f"it is larger than {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SuiteYamlRefused(f"byte {error.start} is not UTF-8") from None
    try:
        _refuse_bombs(text)
        found = yaml.load(text, Loader=_Loader)  # noqa: S506  # built on SafeLoader
    except yaml.YAMLError as error:
        raise SuiteYamlRefused(" ".join(str(error).split())[:300]) from None
    if not isinstance(found, dict):
        raise SuiteYamlRefused("it is no mapping with 'tasks' and 'requirements'")
    return found


def _refuse_bombs(text: str) -> None:
    depth = 0
    # Events come one by one, before anything is built of them.
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise SuiteYamlRefused(f"{_place(event)} an alias")
        if getattr(event, "tag", None) is not None:
            raise SuiteYamlRefused(f"{_place(event)} a tag")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise SuiteYamlRefused(f"it is more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _place(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1} has" if event.start_mark is not None else "it has"
