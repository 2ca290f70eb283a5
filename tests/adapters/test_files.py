"""Names of uploaded files: what a PEFT folder may bring."""

import pickle

import pytest

from ringi.adapters.files import CONFIG, WEIGHTS, AdapterFileMissing, UploadFileNotAllowed, UploadPathUnsafe, check_content, check_paths
from ringi.adapters.weights import WeightsPickle

REQUIRED = [CONFIG, WEIGHTS]


def test_a_usual_peft_folder_passes_and_comes_back_sorted() -> None:
    extra = ["README.md", "tokenizer.json", "vocab.json", "merges.txt", "chat_template.jinja", "docs/notes.md"]
    assert check_paths([*extra, *REQUIRED]) == tuple(sorted([*extra, *REQUIRED]))


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd.txt", "../x.txt", "a/../../x.txt", "a//b.txt", "./a.txt", "a/./b.txt", "a/", "a\\b.txt", "..\\x.txt", "C:evil.txt",
        "a\0.txt", "a\n.txt", "a\x7f.txt", "a\u202etxt.md", "a\u200b.md", "\ud800.txt", "a .txt/b.txt ", " a.txt",
        "dir./a.txt", "x" * 256 + ".md",
        "/".join(["abcdefgh"] * 130) + ".md",
    ],
)  # fmt: skip
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(UploadPathUnsafe) as refusal:
        check_paths([*REQUIRED, path])
    assert refusal.value.code == "upload_path_unsafe"
    str(refusal.value).encode()


@pytest.mark.parametrize(
    "pair",
    [
        ("README.md", "readme.MD".lower()),
        ("notes.txt", "Notes.txt"),
        ("stra\u00dfe.txt", "STRASSE.txt"),
        ("caf\u00e9.txt", "cafe\u0301.txt"),
        (CONFIG, "Adapter_Config.json"),
    ],
)
def test_names_that_some_file_systems_hold_for_one_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(UploadPathUnsafe):
        check_paths({*REQUIRED, *pair})


def test_a_name_that_is_a_file_and_a_folder_is_refused() -> None:
    with pytest.raises(UploadPathUnsafe):
        check_paths([*REQUIRED, "a.md", "a.md/b.md"])


@pytest.mark.parametrize(
    "path",
    ["adapter_model.bin", "x.pt", "x.pth", "x.pkl", "x.npy", "x.h5", "x.ckpt", "code.py", "tokenizer.model", "run.sh", "x.zip",
     ".gitattributes",
     ".hidden/a.txt", "other.safetensors", "sub/adapter_model.safetensors", "noext", "a.json.exe"],
)  # fmt: skip
def test_a_kind_that_is_not_listed_is_refused(path: str) -> None:
    with pytest.raises(UploadFileNotAllowed):
        check_paths([*REQUIRED, path])


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_folder_without_a_required_file_is_refused(missing: str) -> None:
    with pytest.raises(AdapterFileMissing) as refusal:
        check_paths(["README.md", *(path for path in REQUIRED if path != missing)])
    assert refusal.value.details == {"missing": missing}


def test_two_hundred_files_pass_and_one_more_is_refused() -> None:
    assert len(check_paths([*REQUIRED, *(f"{number}.txt" for number in range(198))])) == 200
    with pytest.raises(UploadFileNotAllowed):
        check_paths([*REQUIRED, *(f"{number}.txt" for number in range(199))])


def test_a_pickle_called_json_is_refused_by_content_and_text_passes() -> None:
    check_content("tokenizer.json", b'{"version": "1.0"}')
    check_content("README.md", "稟議".encode())
    with pytest.raises(WeightsPickle):
        check_content("tokenizer.json", pickle.dumps({"a": 1}))
    with pytest.raises(UploadFileNotAllowed):
        check_content("notes.txt", b"abc\0def")
