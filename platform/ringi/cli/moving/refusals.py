"""Why something cannot be moved, and what the other system can do wrong."""

from ringi.cli.errors import Unreachable
from ringi.kit.errors import RingiError


class NotMoved(RingiError):
    """One that is left where it is: it is no PEFT adapter, or somebody has to decide first. Others go on."""

    code, status = "not_moved", 400

    def __init__(self, reason: str, *, next_step: str = "Look at it in the other system.") -> None:
        super().__init__(reason, next_step=next_step)


class NoPeftFolder(NotMoved):
    """No `adapter_config.json` among the files."""

    code = "no_peft_folder"

    def __init__(self) -> None:
        super().__init__("It has no PEFT folder: no adapter_config.json.", next_step="Ringi takes LoRA adapters; leave it where it is.")


class SeveralPeftFolders(NotMoved):
    """More than one PEFT folder at the same depth, and no rule that chooses."""

    code = "several_peft_folders"

    def __init__(self, folders: str) -> None:
        super().__init__(f"It holds several PEFT folders: {folders}.", next_step="Download them, and use: ringi import folders.")


class BaseNotDeclared(NotMoved):
    """The adapter's config names a base that nobody has said to be the chosen one."""

    code = "base_not_declared"

    def __init__(self, found: str, base: str) -> None:
        super().__init__(
            f"Its config names the base {found}, and nobody said that this is {base}.",
            next_step="If it is, say so: --trained-on NAME. If not, import it with another --base.",
        )


class ArtifactsOutOfReach(NotMoved):
    """The tracking server does not hand out the place where the artifacts are."""

    code = "artifacts_out_of_reach"

    def __init__(self, place: str) -> None:
        super().__init__(
            f"Its artifacts are at '{place[:200]}', which the tracking server does not hand out.",
            next_step="Download the folder where it can be reached, and use: ringi import folders.",
        )


class NameCollides(RingiError):
    """Several names elsewhere would become one adapter here."""

    code, status = "adapter_name_collides", 409

    def __init__(self, name: str, others: str) -> None:
        super().__init__(f"The name '{name}' would stand for several models: {others}.", next_step="Tell them apart: --rename 'OLD=NEW'.")


class NameTaken(RingiError):
    """An adapter of that name is here already, and is not this one."""

    code, status = "adapter_name_taken", 409

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The adapter '{name}' exists already: {reason}.", next_step="Choose another name: --rename 'OLD=NEW'.")


class ArtifactPathUnsafe(RingiError):
    """A listing names a file outside of the folder that was listed. Nothing of it is read."""

    code, status = "artifact_path_unsafe", 400

    def __init__(self, path: str, folder: str) -> None:
        super().__init__(
            f"The listing of '{folder[:200]}' names {path[:200]!a}, which is not a plain file or folder in it.",
            next_step="Look at the artifacts in the other system; somebody may have prepared them.",
            details={"path": ascii(path[:200])},
        )


class ArtifactTooLarge(RingiError):
    """More files, folders or bytes than an import reads."""

    code, status = "artifact_too_large", 413

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(
            f"There is more than an import reads: {what}, at most {limit:,}.",
            next_step="Raise --max-bytes if this is right; an adapter is usually far smaller.",
            details={"limit": limit},
        )


class ArtifactIncomplete(RingiError):
    """A file ended before its announced size, or went beyond it."""

    code, status = "artifact_incomplete", 502

    def __init__(self, path: str, found: int, announced: int) -> None:
        super().__init__(
            f"The file {path[:200]!a} came with {found:,} bytes; its listing says {announced:,}.",
            next_step="Try again; if it stays, look at the file in the other system.",
        )


class SourceUnreachable(Unreachable):
    """No answer from the other system."""

    code = "source_unreachable"

    def __init__(self, server: str, reason: str) -> None:
        RingiError.__init__(
            self,
            f"The server {server} to import from cannot be reached: {reason}.",
            next_step="Check its address. What is in stays in: the same command goes on.",
            details={"server": server},
        )


class SourceRefused(RingiError):
    """The other system answered with a refusal of its own."""

    code, status = "source_refused", 502

    def __init__(self, server: str, route: str, status: int, answer: str) -> None:
        denied = status in {401, 403}
        super().__init__(
            f"{server} answered {status} to {route}: {answer[:300]}.",
            next_step="Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            if denied
            else "Look at its log; the same command goes on where this one ended.",
            details={"status": status},
        )
        self.answered = status


class SourceNotUnderstood(RingiError):
    """An answer in another shape than MLflow's REST API 2.0."""

    code, status = "source_not_understood", 502

    def __init__(self, server: str, route: str, reason: str) -> None:
        super().__init__(
            f"{server} answered {route} in a shape that MLflow's REST API 2.0 does not have: {reason}.",
            next_step="Check that the address is that of an MLflow tracking server.",
        )
