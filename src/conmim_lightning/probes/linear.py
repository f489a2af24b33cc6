"""Linear classifiers trained side by side on features that were computed once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.models.linear_heads import LinearHeads, Norm
from conmim_lightning.optim.schedules import cosine
from conmim_lightning.probes.feature_store import Device, FeatureStore


class LinearProbe(nn.Module):
    """Linear classifiers as in ``LinearProbeTask`` on stored features: one per feature and learning rate.

    Shapes: B images, K classes, M classifiers.

    Args:
        num_classes: K.
        widths: width of each feature, by name.
        learning_rates: peak learning rates at batch size 256, > 0.
        norm: normalisation of the features: "none", "layer" or "batch".
        epochs: passes over the training images, >= 1.
        batch_size: images per step.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        seed: seed of initial weights and order of images.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        widths: Mapping[str, int],
        learning_rates: Sequence[float],
        norm: Norm = "none",
        epochs: int = 100,
        batch_size: int = 1024,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if epochs < 1 or batch_size < 1:
            raise ValueError(f"epochs and batch_size must be at least 1, got {epochs} and {batch_size}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = LinearHeads(widths, learning_rates, num_classes, norm)
        self.variants = [""]
        self.epochs = epochs
        self.batch_size = batch_size
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.seed = seed
        self.register_buffer("best", torch.tensor(0))

    def fit(self, train: FeatureStore, selection: FeatureStore | None, device: Device) -> dict[str, float]:
        """Train all classifiers and select the best; return its accuracy on the held-out images.

        Raises:
            ValueError: there are several classifiers but no held-out images.
        """
        if selection is None and len(self.heads) > 1:
            raise ValueError(
                f"selecting one of {len(self.heads)} classifiers needs held-out images: data.held_out_fraction=0.1"
            )
        self.to(device)
        with torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False):
            self._train(train, device)
        self.eval()
        if selection is None:
            return {}
        accuracies = self._accuracies(selection, device)
        self.get_buffer("best").fill_(accuracies.argmax())
        return {"selection_top1": float(accuracies.max())}

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map features by name to (B, K) probabilities of the selected classifier, under the key ""."""
        return {"": self.heads.forward_head(int(self.get_buffer("best")), features).softmax(1)}

    def _train(self, train: FeatureStore, device: Device) -> None:
        self.heads.train()
        batch = min(self.batch_size, len(train))
        optimizer = torch.optim.SGD(self.heads.param_groups(), momentum=self.momentum, weight_decay=self.weight_decay)
        peaks = [group["lr"] * batch / 256 for group in optimizer.param_groups]
        steps = len(train) // batch
        generator = torch.Generator().manual_seed(self.seed)
        for epoch in range(self.epochs):
            order = torch.randperm(len(train), generator=generator)
            for step in range(steps):
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = cosine(epoch * steps + step, total_steps=self.epochs * steps, start=peak, end=0.0)
                features, labels = train.pick(order[step * batch : (step + 1) * batch].sort().values, device)
                logits = self.heads(features)
                labels = labels.expand(len(logits), -1)
                optimizer.zero_grad()
                (F.cross_entropy(logits.flatten(0, 1), labels.flatten()) * len(logits)).backward()
                optimizer.step()

    @torch.no_grad()
    def _accuracies(self, store: FeatureStore, device: Device) -> Tensor:
        correct = torch.zeros(len(self.heads), device=device)
        for indices in torch.arange(len(store)).split(self.batch_size):
            features, labels = store.pick(indices, device)
            correct += (self.heads(features).argmax(-1) == labels).sum(1)
        return correct / len(store)
