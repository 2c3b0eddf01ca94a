"""Where a server listens."""

from __future__ import annotations

import pytest

from scribbleseg.errors import ConfigError

FIRST = 8321


def test_a_port_that_is_taken_is_told_or_another_one_is_picked():
    from scribbleseg.web.listening import listening

    with listening("127.0.0.1", None, FIRST) as first, listening("127.0.0.1", None, FIRST) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        with pytest.raises(ConfigError, match="in use"), listening("127.0.0.1", first.getsockname()[1], FIRST):
            pass


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("a.example", False),
    ],
)
def test_which_addresses_only_this_computer_reaches(host, alone):
    from scribbleseg.web.listening import is_loopback

    assert is_loopback(host) == alone
