import json
import multiprocessing

import pytest
import torch
from torch import distributed

from attnzoo.zoo.data import EvaluationSampler
from attnzoo.zoo.evaluation import Accuracy, PredictionWriter


def predictions():
    scores = torch.rand(7, 4, generator=torch.Generator().manual_seed(0))
    return [{"scores": row, "label": index % 4, "index": index, "path": str(index)} for index, row in enumerate(scores)]


def evaluate_as(rank, folder, queue):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        samples = predictions()
        own = [samples[key.index] for key in EvaluationSampler(samples)]
        figures = {}
        for metric in (Accuracy(topk=(1, 2)), PredictionWriter(f"{folder}/predictions.json")):
            metric.process({}, own)
            figures.update(metric.evaluate(len(samples)))
        queue.put((rank, len(own), figures))
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_evaluate_as_one_does(tmp_path):
    metric = Accuracy(topk=(1, 2))
    metric.process({}, predictions())
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
    assert [one["path"] for one in json.loads((tmp_path / "predictions.json").read_text())] == list("0123456")
