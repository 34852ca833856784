"""Run by test_torch.py in a process where PyTorch can be imported: a DataLoader over a version, with workers. Prints `ok`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from noria.client.repositories import LocalDataset
from noria.repository.repository import open_repository


def main(folder: Path) -> None:
    import torch
    from torch.utils.data import DataLoader

    flights = LocalDataset("flights", open_repository(str(folder / "store")))
    table = pa.table({"x": np.arange(1000), "y": np.arange(1000) / 7})
    pq.write_table(table, folder / "a.parquet", row_group_size=30)
    version = flights.commit({"a.parquet": folder / "a.parquet"})
    for method in ("fork", "spawn"):
        stream = version.torch(batch_size=16, shuffle=True, seed=1, window=60)
        loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context=method)  # type: ignore[arg-type]
        seen = [int(x) for batch in loader for x in batch["x"]]
        assert sorted(seen) == list(range(1000)), f"{method}: {len(seen)} samples"
        stream.set_epoch(1)
        again = [int(x) for batch in loader for x in batch["x"]]
        assert again != seen and sorted(again) == sorted(seen)
    rows = list(DataLoader(version.torch(columns=["x"]), batch_size=32))  # type: ignore[arg-type]
    assert isinstance(rows[0]["x"], torch.Tensor) and rows[0]["x"].shape == (32,) and len(rows) == 32
    stream = version.torch(batch_size=100)
    taken = list(itertools.islice(DataLoader(stream, batch_size=None), 4))  # type: ignore[arg-type]
    resumed = version.torch(batch_size=100)
    resumed.load_state_dict(stream.state_dict())
    assert len(taken) + len(list(resumed)) == 10
    print("ok")


if __name__ == "__main__":
    sys.path.append(sys.argv[2])
    main(Path(sys.argv[1]))
