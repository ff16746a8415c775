"""No test of this folder looks at a picture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pictures import draw_nothing


@pytest.fixture(scope="package", autouse=True)
def _undrawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        yield
