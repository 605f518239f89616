"""Compiled code of these tests goes to a directory of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlxflow.disk_cache import CACHE_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("objects")))
        yield
