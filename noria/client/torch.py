"""A stream as PyTorch knows it. Imported only where torch is."""

from __future__ import annotations

from torch.utils.data import IterableDataset

from noria.client.streaming import Stream


class TorchStream(Stream, IterableDataset):  # type: ignore[misc]
    """For `torch.utils.data.DataLoader`, or torchdata's StatefulDataLoader, which keeps the state of every worker."""
