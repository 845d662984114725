import asyncio

from multiraft.cli.torture.cuts import CLIENT, Cuts


def test_one_direction_is_cut_and_the_other_is_not() -> None:
    cuts = Cuts()
    cuts.cut(1, 2)
    assert cuts.is_cut(1, 2)
    assert not cuts.is_cut(2, 1)


def test_a_way_that_two_have_cut_opens_when_both_have_healed_it() -> None:
    cuts = Cuts()
    cuts.cut(1, 2)
    cuts.cut(1, 2)
    cuts.heal(1, 2)
    assert cuts.is_cut(1, 2)
    cuts.heal(1, 2)
    assert not cuts.is_cut(1, 2)


def test_an_isolated_node_reaches_nobody_and_nobody_reaches_it() -> None:
    cuts = Cuts()
    cuts.isolate(2)
    assert cuts.is_cut(2, 1)
    assert cuts.is_cut(1, 2)
    assert cuts.is_cut(CLIENT, 2)
    assert not cuts.is_cut(1, 3)


def test_healing_what_is_not_cut_changes_nothing() -> None:
    cuts = Cuts()
    cuts.heal(1, 2)
    cuts.rejoin(1)
    cuts.cut(1, 2)
    assert cuts.is_cut(1, 2)


def test_who_waits_goes_on_when_the_last_cut_is_healed() -> None:
    async def main() -> None:
        cuts = Cuts()
        cuts.cut(1, 2)
        cuts.isolate(1)
        waiting = asyncio.create_task(cuts.until_open(1, 2))
        await asyncio.sleep(0)
        cuts.heal(1, 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        cuts.rejoin(1)
        await waiting

    asyncio.run(main())
