"""Every sample counts once, however many processes there are."""

from __future__ import annotations

import json
import multiprocessing

import pytest
import torch
from torch import distributed

from attnzoo.zoo.data import EvaluationSampler
from attnzoo.zoo.evaluation import Accuracy, PredictionWriter, base
from support.evaluation import classified, evaluate


@pytest.fixture
def two_ranks(monkeypatch):
    """Lets a metric gather its own results and those of another process."""

    def share(other):
        monkeypatch.setattr(base, "all_gather_object", lambda own: [list(own), list(other.results)])

    return share


def test_processes_of_unequal_length_are_put_together_exactly(two_ranks):
    samples = classified(11)
    alone = evaluate(Accuracy(topk=(1, 3)), samples)
    first, second = Accuracy(topk=(1, 3)), Accuracy(topk=(1, 3))
    first.process({}, samples[0::2])
    # A sampler that rounds up gives a sample twice.
    second.process({}, [*samples[1::2], samples[0]])
    two_ranks(second)
    assert first.evaluate(11) == alone


def test_an_evaluation_that_missed_samples_raises():
    samples = classified(10)
    with pytest.raises(ValueError, match=r"Accuracy got 9 of the data set's 10 samples.*EvaluationSampler"):
        evaluate(Accuracy(), samples[:9], size=10)


def test_an_evaluation_forgets_the_one_before():
    samples, metric = classified(10), Accuracy()
    assert evaluate(metric, samples[:4]) == evaluate(Accuracy(), samples[:4])
    assert evaluate(metric, samples[4:]) == evaluate(Accuracy(), samples[4:])


def test_names_have_a_prefix_on_demand_only():
    samples = classified(4)
    assert set(evaluate(Accuracy(topk=(1,)), samples)) == {"top1"}
    assert set(evaluate(Accuracy(topk=(1,), prefix="ema"), samples)) == {"ema/top1"}


def evaluate_as(rank, folder, queue):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        samples = classified(7, 4)
        own = [samples[key.index] for key in EvaluationSampler(samples)]
        values = {}
        for metric in (Accuracy(topk=(1, 2)), PredictionWriter(f"{folder}/predictions.json")):
            metric.process({}, own)
            values.update(metric.evaluate(len(samples)))
        queue.put((rank, len(own), values))
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_evaluate_as_one_does(tmp_path):
    metric = Accuracy(topk=(1, 2))
    metric.process({}, classified(7, 4))
    alone = metric.evaluate(7)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=evaluate_as, args=(rank, tmp_path, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    try:
        results = sorted(queue.get(timeout=60) for _ in workers)
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()
    assert results == [(0, 4, alone), (1, 3, alone)]
    assert [one["path"] for one in json.loads((tmp_path / "predictions.json").read_text())] == [
        f"{index}.png" for index in range(7)
    ]
