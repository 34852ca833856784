"""Given: the SDK, connected through the door."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from noria.client.api import Api
from noria.client.datasets import Dataset, dataset
from tests.conftest import Noria


@pytest.fixture
def api(noria: Noria) -> Iterator[Api]:
    with Api(noria.client(), url=noria.config.control_url) as made:
        yield made


@pytest.fixture
def data(api: Api) -> Dataset:
    return dataset("flights", api=api)


@pytest.fixture(scope="session")
def noise() -> Callable[[int, int], bytes]:
    """Bytes that do not compress, the same for the same seed."""
    import random

    return lambda size, seed=0: random.Random(seed).randbytes(size)
