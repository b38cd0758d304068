"""Random streams: derived from their purpose, independent of each other's use."""

import torch

from mimic_reg.seeds import Streams, derive, generator, restore


def test_derive_is_the_same_everywhere():
    assert derive("init", "x", 0) == 8773774915155996266


def test_every_part_of_the_purpose_counts():
    purposes = [("a", 0), ("a", 1), ("b", 0), ("a", "0"), ("a", 0, 0), ("a", 0.5)]
    assert len({derive(*p) for p in purposes}) == len(purposes)


def test_streams_of_a_seed_are_separate_and_repeatable():
    streams = Streams(3, "phenotyping")
    cpu = torch.device("cpu")
    draws = [
        torch.rand(4, generator=g)
        for g in (streams.init(), streams.batches(0), streams.batches(1), streams.stochastic(cpu))
    ]
    assert len({tuple(d.tolist()) for d in draws}) == 4
    assert torch.equal(torch.rand(4, generator=Streams(3, "phenotyping").batches(1)), draws[2])
    assert not torch.equal(torch.rand(4, generator=Streams(4, "phenotyping").init()), draws[0])


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(4, generator=generator("init", 0))
    assert torch.equal(before, torch.get_rng_state())


def test_a_state_of_another_kind_of_device_gives_a_new_seed():
    def draws(state):
        stream = generator("x")
        restore(stream, state, "moved", 7)
        return torch.rand(4, generator=stream)

    here = generator("y").get_state()
    assert torch.equal(draws(here), torch.rand(4, generator=generator("y")))
    of_a_gpu = torch.zeros(16, dtype=torch.uint8)  # the size that CUDA writes
    assert torch.equal(draws(of_a_gpu), torch.rand(4, generator=generator("moved", 7)))
