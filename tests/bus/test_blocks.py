"""The format of the log: what a block looks like on the wire, and what the chain of hashes notices."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from bus.logs.blocks import GENESIS, Block, Chain, Commit, decoder_of, hash_of, seal
from bus.logs.log import LogDamaged
from tests.bus.counter import Added, CounterEvent, Scribbled, counters

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
EPOCH = "e1"

decode = decoder_of(counters()).decode


def commit(number: int) -> Commit[CounterEvent]:
    return Commit(id=f"c{number}", aggregate="a", version=number, events=[Added("a", number)])


def chained(length: int, epoch: str = EPOCH) -> list[bytes]:
    """Blocks of one commit each, each naming the one before."""
    blocks: list[bytes] = []
    prev = GENESIS
    for number in range(1, length + 1):
        blocks.append(seal(epoch, AT, prev, [msgspec.json.encode(commit(number))]))
        prev = hash_of(blocks[-1])
    return blocks


def check(blocks: list[bytes], chain: Chain | None = None, partition: int = 0) -> Chain:
    chain = chain or Chain(EPOCH, whole=True)
    for sequence, data in enumerate(blocks, start=2):
        block = decode(data)
        chain.check(partition, sequence, data, block.epoch, block.prev)
    return chain


GOLDEN = (
    b'{"epoch":"e1","at":"2026-11-21T09:30:00Z",'
    b'"prev":"0000000000000000000000000000000000000000000000000000000000000000","commits":['
    b'{"id":"c1","aggregate":"a","version":1,"events":[{"type":"Added","counter_id":"a","amount":5},'
    b'{"type":"Scribbled","counter_id":"a","text":"h\xc3\xa9"}],"digest":"d","actor":"alice","cause":"orders=3",'
    b'"correlation":"o1","trace":"00-1-2-01","occurred_at":"2017-10-02T10:56:33Z"},'
    b'{"id":"c2","aggregate":"b","version":7,"events":[]}]}'
)
GOLDEN_COMMITS: list[Commit[CounterEvent]] = [
    Commit(
        id="c1",
        aggregate="a",
        version=1,
        events=[Added("a", 5), Scribbled("a", "hé")],
        digest="d",
        actor="alice",
        cause="orders=3",
        correlation="o1",
        trace="00-1-2-01",
        occurred_at=datetime(2017, 10, 2, 10, 56, 33, tzinfo=UTC),
    ),
    Commit(id="c2", aggregate="b", version=7, events=[]),
]


def test_a_block_on_the_wire_is_this_json_and_will_stay_it() -> None:
    assert seal(EPOCH, AT, GENESIS, [msgspec.json.encode(each) for each in GOLDEN_COMMITS]) == GOLDEN
    assert hash_of(GOLDEN) == "ffc66de8bc7590007ef315a6a0f152c0862a4d580cf59e251558e36510fed89f"


def test_what_was_stored_years_ago_is_read_as_it_was_meant() -> None:
    assert decode(GOLDEN) == Block(EPOCH, AT, GENESIS, GOLDEN_COMMITS)


def test_fields_that_a_later_version_adds_are_no_obstacle() -> None:
    assert decode(GOLDEN.replace(b'{"epoch"', b'{"shiny":1,"epoch"', 1)).commits == GOLDEN_COMMITS


def test_an_event_that_nobody_knows_is_an_error_and_not_skipped() -> None:
    with pytest.raises(msgspec.ValidationError, match="Invalid value 'Subtracted'"):
        decode(GOLDEN.replace(b'"type":"Added"', b'"type":"Subtracted"'))


def test_what_is_sealed_reads_back_the_same() -> None:
    block = decode(seal(EPOCH, AT, "p" * 64, [msgspec.json.encode(commit(n)) for n in (1, 2)]))
    assert block == Block(EPOCH, AT, "p" * 64, [commit(1), commit(2)])
    assert msgspec.json.decode(msgspec.json.encode(block), type=Block[CounterEvent]) == block


def test_an_unharmed_chain_is_accepted_and_its_tip_remembered() -> None:
    blocks = chained(5)
    assert check(blocks).tips == {0: hash_of(blocks[-1])}


def test_a_changed_byte_is_noticed_at_the_next_block() -> None:
    blocks = chained(5)
    for index in range(4):
        harmed = list(blocks)
        harmed[index] = harmed[index].replace(b'"amount":', b'"amount":1')
        with pytest.raises(LogDamaged, match=f"block {index + 3} of partition 0 does not continue"):
            check(harmed)


def test_a_missing_block_is_noticed_wherever_it_was() -> None:
    blocks = chained(5)
    for index in range(4):
        with pytest.raises(LogDamaged, match="does not continue"):
            check(blocks[:index] + blocks[index + 1 :])


def test_swapped_blocks_are_noticed() -> None:
    one, two, three = chained(3)
    with pytest.raises(LogDamaged, match="does not continue"):
        check([one, three, two])
    with pytest.raises(LogDamaged, match="does not continue"):
        check([two, one, three])


def test_a_repeated_block_is_noticed() -> None:
    one, two = chained(2)
    with pytest.raises(LogDamaged, match="does not continue"):
        check([one, two, two])


def test_a_block_of_another_epoch_is_noticed_though_its_chain_fits() -> None:
    with pytest.raises(LogDamaged, match="of epoch e2, the log of e1"):
        check(chained(1, epoch="e2"))


def test_after_damage_the_tip_is_what_it_was() -> None:
    one, _, three = chained(3)
    chain = check([one])
    with pytest.raises(LogDamaged):
        check([three], chain)
    assert chain.tips == {0: hash_of(one)}


def test_partitions_are_chained_apart() -> None:
    chain = Chain(EPOCH, whole=True)
    check(chained(3), chain, partition=0)
    check(chained(2), chain, partition=1)
    assert chain.tips.keys() == {0, 1}
    assert chain.tips[0] != chain.tips[1]


def test_a_reader_that_starts_in_the_middle_takes_the_first_block_as_it_comes() -> None:
    _, two, three, four = chained(4)
    check([two, three], Chain(EPOCH))
    with pytest.raises(LogDamaged):
        check([two, four], Chain(EPOCH))


def test_a_reader_that_goes_on_knows_what_it_read_last() -> None:
    one, two, three = chained(3)
    check([two, three], Chain(EPOCH, {0: hash_of(one)}))
    with pytest.raises(LogDamaged):
        check([three], Chain(EPOCH, {0: hash_of(one)}))
