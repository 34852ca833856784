"""Distributed PyTorch on a Ray cluster, as a step of a pipeline.

    noria agent --executor ray                              # beside the cluster, with NORIA_RAY_ADDRESS
    noria pipeline run examples/ray_train.py --param workers=4

The step is a driver of the cluster: Ray Train starts the workers, on as many nodes as there are, and the gradients are averaged over
all of them. The cluster needs torch and ray[train].
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import noria

PASSED_ON = ("NORIA_TOKEN", "NORIA_STEP_RUN", "NORIA_ATTEMPT", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN")


def loop(config: dict[str, Any]) -> None:
    """What each worker does: its share of the rows, one model for all."""
    import torch
    from ray import train
    from ray.train.torch import prepare_model

    rank, count = train.get_context().get_world_rank(), train.get_context().get_world_size()
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(1024, 4, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 3.0, 0.5]) + 1.0
    x, y = x[rank::count], y[rank::count]
    torch.manual_seed(7)
    model = prepare_model(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(config["epochs"]):
        loss = torch.nn.functional.mse_loss(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0:
            noria.report(epoch, loss=loss.item())  # live on the page of the run
    with tempfile.TemporaryDirectory() as folder:
        torch.save(getattr(model, "module", model).state_dict(), Path(folder, "model.pt"))
        kept = train.Checkpoint.from_directory(folder) if rank == 0 else None
        train.report({"loss": loss.item(), "workers": count}, checkpoint=kept)  # without one, Ray keeps no metrics


@noria.step(queue="ray", timeout="6h")
def fit(workers: int, epochs: int, storage: str, use_gpu: bool) -> dict[str, Any]:
    """Train on all workers."""
    import ray
    import torch
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # other nodes have not got this file
    ray.init(runtime_env={"env_vars": {name: os.environ[name] for name in PASSED_ON if name in os.environ}})
    trainer = TorchTrainer(
        loop,
        train_loop_config={"epochs": epochs},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(storage_path=str(Path(storage).expanduser())),
    )
    result = trainer.fit()
    with result.checkpoint.as_directory() as folder:
        weights = torch.load(Path(folder, "model.pt"), weights_only=True)["weight"]
    return {**result.metrics, "weights": weights.flatten().tolist()}


@noria.pipeline(name="ray-train")
def ray_train(workers: int = 2, epochs: int = 20, storage: str = "~/ray_results", use_gpu: bool = False) -> Any:
    """Distributed training on a Ray cluster."""
    return {"metrics": fit(workers, epochs, storage, use_gpu)}


if __name__ == "__main__":
    ray_train.run()
