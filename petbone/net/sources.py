"""Where the samples of a training come from: rendered anatomies, real cases, or both.

Sample number k of a run is always the same, whoever generates it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Full
from typing import Any

import numpy as np
import torch
from torch import multiprocessing

from petbone.errors import InputError
from petbone.net.anatomies import Anatomy
from petbone.net.cases import Case, CaseConfig, CaseSample, CaseSampler
from petbone.net.loop import TrainConfig
from petbone.net.scene import SynthConfig
from petbone.net.synth import Sample, Synthesizer


@dataclass(frozen=True, eq=False)
class Sources:
    """Where samples come from: anatomies to render, prepared cases (`cases.prepare`) to cut from, or both;
    `share` of the samples are real cases.

    Raises InputError for a share that is none, or of something that is not there.
    """

    anatomies: tuple[Anatomy, ...] = ()
    synth: SynthConfig = field(default_factory=SynthConfig)
    cases: tuple[Path, ...] = ()
    augment: CaseConfig = field(default_factory=CaseConfig)
    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of real cases must lie from 0 to 1, got {self.share}")
        if self.share > 0 and not self.cases:
            raise InputError(f"a share of {self.share} real cases was asked for, but there are none")
        if self.share < 1 and not self.anatomies:
            raise InputError("no anatomies to draw samples from; make them with scripts/build_anatomy.py")

    def said(self) -> dict[str, Any]:
        """What a run must find unchanged to go on: in plain values."""
        cases = {path.stem: Case.load(path).digest() for path in self.cases if self.share > 0}
        names = [anatomy.name for anatomy in self.anatomies if self.share < 1]
        return {"anatomies": names, "cases": cases, "share": self.share}


class Sampler:
    """Draws the samples of sources on a device."""

    def __init__(self, sources: Sources, device: torch.device | str = "cpu") -> None:
        self.share = sources.share
        rendered, cut = sources.share < 1, sources.share > 0
        self.synthesizer = Synthesizer(sources.anatomies, sources.synth, device) if rendered else None
        self.cutter = CaseSampler(sources.cases, sources.augment, device) if cut else None

    def sample(self, seed: int) -> Sample | CaseSample:
        """The sample of a seed, rendered or cut: the seed decides that too."""
        # A stream of its own, so that a synthetic sample is the same in a mixture and without.
        real = self.share > 0 and np.random.default_rng([seed, 1]).random() < self.share
        if real and self.cutter is not None:
            return self.cutter.sample(seed)
        assert self.synthesizer is not None  # Sources has seen to it
        sample = self.synthesizer.sample(seed)
        # Rounded as what travels between processes, so that both ways give the same run.
        return Sample(sample.hu, sample.bone, sample.place.half().float())


def _generate(sources: Sources, seeds: Sequence[int], queue: Any) -> None:
    """Body of a generating process."""
    torch.set_num_threads(1)
    parent = os.getppid()
    sampler = Sampler(sources)
    for seed in seeds:
        sample = sampler.sample(seed)
        # Places in half precision are good to a tenth of a millimetre and halve the traffic.
        more = sample.known if isinstance(sample, CaseSample) else sample.place.half()
        if not put(queue, (seed, sample.hu.numpy(), sample.bone.numpy(), more.numpy()), parent):
            return


def put(queue: Any, item: Any, parent: int) -> bool:
    """Hand an item to the trainer whose process is `parent`; False where it is gone.

    A trainer that was killed leaves its generators behind; they end by themselves.
    """
    while True:
        try:
            queue.put(item, timeout=5)
        except Full:
            if os.getppid() == parent:
                continue
            queue.cancel_join_thread()  # nobody will read what is still on its way
            return False
        return True


def sample_seed(config: TrainConfig, step: int) -> int:
    """Seed of the sample of a step."""
    return config.seed * 10_000_019 + config.first_sample + step


def samples(
    sources: Sources, config: TrainConfig, first_step: int, device: torch.device
) -> Iterator[Sample | CaseSample]:
    """Samples of the run from `first_step` on, in order; without workers they are made on the device."""
    if config.workers == 0:
        sampler = Sampler(sources, device)
        for step in range(first_step, config.steps):
            yield sampler.sample(sample_seed(config, step))
        return
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=6) for _ in range(config.workers)]
    processes = []
    for n, queue in enumerate(queues):
        seeds = range(sample_seed(config, first_step + n), sample_seed(config, config.steps), config.workers)
        process = context.Process(target=_generate, args=(sources, seeds, queue), daemon=True)
        process.start()
        processes.append(process)
    try:
        for step in range(first_step, config.steps):
            seed, hu, bone, more = queues[(step - first_step) % config.workers].get(timeout=300)
            if seed != sample_seed(config, step):
                raise RuntimeError(f"sample {seed} came for step {step}")
            tensors = [torch.from_numpy(part).to(device) for part in (hu, bone, more)]
            if tensors[2].dtype == torch.bool:
                yield CaseSample(*tensors)
            else:
                yield Sample(tensors[0], tensors[1], tensors[2].float())
    finally:
        for process in processes:
            process.terminate()
