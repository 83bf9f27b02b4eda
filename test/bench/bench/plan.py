"""How much is done: sizes and times, from --quick, --seconds and --rounds."""

import dataclasses

from bench import machine

MIB, GIB = 2**20, 2**30


@dataclasses.dataclass
class Plan:
    seconds: float = 4  # of one measurement
    rounds: int = 5
    depths: tuple = (1, 4, 16, 64)
    hot_size: int = 256 * MIB  # what hits and writes are spread over
    image_size: int = GIB
    cache_size: int = 3 * GIB
    burst: int = GIB  # most that is written while writeback is held back
    small_cache: int = 256 * MIB  # of the full one
    fill_seconds: float = 20
    long_seconds: float = 12
    drain_size: int = 80 * MIB
    replay_keys: int = 250000
    tree_files: int = 4000
    slow_us: int = 200
    slow_at_once: int = 4
    micro_seconds: float = 0.5


def quick():
    """Everything once, to see that it works; figures of no great worth."""
    return Plan(seconds=0.4, rounds=1, depths=(1, 16), hot_size=64 * MIB,
                image_size=256 * MIB, cache_size=512 * MIB, burst=128 * MIB,
                small_cache=64 * MIB, fill_seconds=4, long_seconds=2,
                drain_size=16 * MIB, replay_keys=30000, tree_files=500,
                micro_seconds=0.05)


def memory(plan):
    """What the largest case takes on tmpfs: caches of both transports, and a
    file for each contender; or those of a replay, with two blocks for a key."""
    return max(2 * plan.cache_size + 7 * plan.image_size,
               2 * 2 * 2 * 4096 * plan.replay_keys)


def make(options):
    plan = quick() if options.quick else Plan()
    while memory(plan) > 0.7 * machine.available_bytes() and (
            plan.hot_size > 16 * MIB):
        for name in ("hot_size", "image_size", "cache_size", "burst",
                     "replay_keys"):
            setattr(plan, name, getattr(plan, name) // 2)
    if options.seconds:
        plan.seconds = options.seconds
        plan.long_seconds = 3 * options.seconds
    if options.rounds:
        plan.rounds = options.rounds
    return plan
