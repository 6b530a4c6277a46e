"""``memory://``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from sucrose.storage.objects import Storage, open_storage
from sucrose.testing.storage import StorageConformance


class TestMemory(StorageConformance):
    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        with open_storage(f"memory://{uuid.uuid4().hex}/run") as storage:
            yield storage
