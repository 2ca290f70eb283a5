"""What a serving team does: pull what the channel serves with the real clients, check the digests, ask a question.

Runs as a process of its own, because the clients read HF_ENDPOINT, HF_TOKEN and HF_HOME at import:
`python -m ringi_workers.demo.pull REPOSITORY REVISION [QUESTION]`. Prints one JSON line: files with digests, and the answer.
"""

import json
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from ringi.kit.digests import sha256_file


def pull(repository: str, revision: str) -> dict[str, str]:
    """Digest of every file of a revision; the client's own error in `refused` when the hub says no."""
    try:
        folder = Path(snapshot_download(repository, revision=revision))
    except HfHubHTTPError as error:
        return {"refused": type(error).__name__, "message": str(error).splitlines()[-1]}
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def answer(repository: str, revision: str, question: str) -> str:
    """Load base and adapter from the hub as peft does, and generate."""
    from peft import AutoPeftModelForCausalLM, PeftConfig  # noqa: PLC0415  # a pull alone needs no torch
    from transformers import AutoTokenizer  # noqa: PLC0415

    config = PeftConfig.from_pretrained(repository, revision=revision)
    model = AutoPeftModelForCausalLM.from_pretrained(repository, revision=revision)
    tokenizer: Any = AutoTokenizer.from_pretrained(config.base_model_name_or_path, revision=config.revision)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    tokens = model.generate(**prompt, max_new_tokens=40, do_sample=False)
    return str(tokenizer.decode(tokens[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))


if __name__ == "__main__":
    found: dict[str, Any] = {"files": pull(sys.argv[1], sys.argv[2])}
    if len(sys.argv) > 3 and "refused" not in found["files"]:  # noqa: PLR2004  # the third argument
        found["answer"] = answer(sys.argv[1], sys.argv[2], sys.argv[3])
    print(json.dumps(found, ensure_ascii=False))
