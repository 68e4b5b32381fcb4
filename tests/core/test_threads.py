"""Work in threads: in order, with errors passed on."""

import pytest

from sgdr_jax.core.threads import in_threads


def test_work_ahead_keeps_order_and_passes_errors_on():
    assert list(in_threads(lambda i: i * i, range(100))) == [i * i for i in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda i: 1 // (50 - i), range(100)))
