"""Which files of a folder are sent: what a base model or an adapter consists of, and what is left at home."""

from collections.abc import Callable
from pathlib import Path

from ringi.cli.errors import Usage

_TEXTS = (".json", ".jinja", ".txt", ".md")
BASE_SUFFIXES = (*_TEXTS, ".safetensors", ".model")
ADAPTER_SUFFIXES = (*_TEXTS, ".safetensors")


class NothingToSend(Usage):
    """The folder is missing, or holds no file of the wanted kinds."""

    code = "nothing_to_send"

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"'{folder}' {reason}.", next_step="Name the folder that save_pretrained() wrote.")


def base_files(folder: Path) -> list[Path]:
    """The files of a Hugging Face model folder, by relative path: configuration, weights as safetensors, tokenizer, chat template."""
    return _chosen(folder, lambda path: path.name.endswith(BASE_SUFFIXES))


def adapter_files(folder: Path) -> list[Path]:
    """The files of a PEFT folder. Pickled weights are sent too, so that the platform, not this client, decides about them."""
    return _chosen(folder, lambda path: path.name.endswith((*ADAPTER_SUFFIXES, ".bin", ".pt", ".pth", ".pkl", ".ckpt")))


def _chosen(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    if not folder.is_dir():
        raise NothingToSend(folder, "is not a folder")
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    chosen = sorted(path for path in inside if wanted(path) and not any(part.startswith(".") for part in path.parts))
    if not chosen:
        raise NothingToSend(folder, "holds no file that belongs to a model")
    return chosen
