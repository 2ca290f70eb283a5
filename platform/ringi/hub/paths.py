"""The path of a hub request, taken apart before it is decoded: a revision is ONE percent-encoded segment (`env%2Fprod`), so `/` may be in it.

Under the hub's own prefix (one segment, `/hf`) and the channel:

    api/models/{namespace}/{name}[/{verb}[/{revision}[/{path}]]]      verb: revision, tree, refs, commits, paths-info, auth-check
    {namespace}/{name}/resolve/{revision}/{path}
"""

from typing import NamedTuple
from urllib.parse import unquote

MAIN = "main"
_API = ["api", "models"]


class Target(NamedTuple):
    """What a request asks for. `path` is relative to the repository's root, POSIX, '' for the root itself."""

    channel: str
    namespace: str
    name: str
    revision: str
    path: str

    @property
    def repository(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


def split(raw_path: bytes, *, root_path: str = "") -> Target:
    """The target of a raw (still percent-encoded) path; parts that are not there are '', the revision `main`."""
    text = raw_path.decode("ascii", "replace")
    if root_path and text.startswith(root_path):
        text = text[len(root_path) :]
    segments = [unquote(segment) for segment in text.strip("/").split("/")]
    channel, rest = "".join(segments[1:2]), segments[2:]
    if rest[:2] == _API:
        rest = rest[2:]
    namespace, name, _verb, revision, *path = [*rest, "", "", "", ""][: max(4, len(rest))]
    return Target(channel, namespace, name, revision or MAIN, "/".join(path).strip("/"))
