"""A tiny decoder, without caches that an earlier test left."""

from __future__ import annotations

import goldens
import pytest

import rlxflow


@pytest.fixture(scope="module")
def loaded() -> rlxflow.Model:
    return rlxflow.load(goldens.gguf_case("llama_gqa_tied").path)


@pytest.fixture
def model(loaded: rlxflow.Model) -> rlxflow.Model:
    loaded.spare_caches.clear()
    return loaded
