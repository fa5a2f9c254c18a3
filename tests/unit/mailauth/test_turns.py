"""However many have something to do that takes long, each turn of the loop holds one piece of it."""

from __future__ import annotations

import asyncio

from staffetta.mailauth.turns import Turns


def test_one_piece_in_each_turn_and_in_order() -> None:
    async def main() -> None:
        turns = Turns()
        begun: list[tuple[int, int]] = []
        turn = 0

        async def work(name: int) -> None:
            for _ in range(3):
                await turns.next()
                begun.append((turn, name))

        workers = [asyncio.create_task(work(name)) for name in range(5)]
        while not all(worker.done() for worker in workers):
            turn += 1
            await asyncio.sleep(0)
        assert len(begun) == 15
        assert len({when for when, _ in begun}) == 15
        assert {name for _, name in begun[:6]} == {0, 1, 2, 3, 4}  # nobody has a third before all had one

    asyncio.run(main())


def test_who_gives_up_takes_nobodys_turn() -> None:
    async def main() -> None:
        turns = Turns()
        workers = [asyncio.create_task(turns.next()) for _ in range(4)]
        await asyncio.sleep(0)
        workers[1].cancel()
        workers[2].cancel()
        async with asyncio.timeout(1):
            await workers[3]
            for _ in range(3):
                await turns.next()

    asyncio.run(main())


def test_whoever_is_alone_waits_for_nobody() -> None:
    async def main() -> None:
        turns = Turns()
        waiting = turns.next()
        assert next(waiting.__await__(), "done") == "done"
        await asyncio.sleep(0)

    asyncio.run(main())
