from multiraft.client.transaction import hot_keys
from multiraft.client.transaction.hot_keys import HotKeys


def test_a_key_is_hot_for_a_while_after_the_last_fight() -> None:
    keys = HotKeys(1.0)
    assert not keys
    keys.remember(b"a", 1.0)
    keys.remember(b"a", 1.5)
    assert keys.holds(b"a", 2.4)
    assert not keys.holds(b"b", 2.4)
    assert not keys.holds(b"a", 2.5)
    assert not keys


def test_the_number_is_bounded_and_the_oldest_goes_first() -> None:
    keys = HotKeys(1.0)
    for number in range(hot_keys.MOST):
        keys.remember(b"%d" % number, 0.0)
    keys.remember(b"0", 0.1)
    keys.remember(b"new", 0.1)
    assert keys.holds(b"0", 0.5)
    assert not keys.holds(b"1", 0.5)
    assert keys.holds(b"2", 0.5)
