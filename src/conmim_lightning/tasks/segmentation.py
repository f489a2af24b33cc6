"""Fine-tuning a vision Transformer for semantic segmentation, as a LightningModule."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.batches import SegmentationBatch
from conmim_lightning.metrics.segmentation import SegmentationMetrics
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.segmenter import SegmentationOutput, Segmenter
from conmim_lightning.models.sliding_window import SlidingWindowInference
from conmim_lightning.optim.build import OptimizerFactory
from conmim_lightning.optim.param_groups import ParamGroups, dense_groups
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.checks import check_batch_norm, check_dense
from conmim_lightning.tasks.supervised import SupervisedTask


class SegmentationTask(SupervisedTask):
    """Fine-tune all weights to classify every pixel, with learning rates that fall from the head to the embeddings.

    Reference: UPerNet on BEiT (arXiv 2106.08254), which ConMIM follows.

    Shapes: B images, C channels, H x W pixels, K classes.

    Args:
        model: segmenter with backbone and heads.
        normalize: module that converts uint8 images to the model's input, on the training device.
        inference: prediction of whole images.
        num_classes: K, >= 2.
        optimizer: factory that takes parameter groups; it holds the head's peak learning rate and the weight decay.
        schedule: length, warm-up and learning rate of the run.
        batch_size: images per step and device; null uses the data module's batch size.
        layer_decay: factor of the learning rate per layer, from the head towards the embeddings, in (0, 1].
        auxiliary_weight: weight of the auxiliary head's loss, >= 0.
        seed: seed of drop path and dropout.

    Raises:
        ValueError: a number is out of its range, or does not fit the model.
    """

    def __init__(
        self,
        *,
        model: Segmenter,
        normalize: nn.Module,
        inference: SlidingWindowInference,
        num_classes: int,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        batch_size: int | None = None,
        layer_decay: float = 0.65,
        auxiliary_weight: float = 0.4,
        seed: int = 0,
    ) -> None:
        super().__init__(
            normalize=normalize,
            num_classes=num_classes,
            metrics=partial(SegmentationMetrics, num_classes),
            optimizer=optimizer,
            schedule=schedule,
            batch_size=batch_size,
            seed=seed,
        )
        if inference.size % model.maps.patch_size:
            raise ValueError(
                f"inference.size must be a multiple of the patch size {model.maps.patch_size}, got {inference.size}"
            )
        if model.num_classes != num_classes:
            raise ValueError(f"the model has {model.num_classes} classes, the data {num_classes}")
        if auxiliary_weight < 0:
            raise ValueError(f"auxiliary_weight must be at least 0, got {auxiliary_weight}")
        self.model = model
        self.inference = inference
        self.layer_decay = layer_decay
        self.auxiliary_weight = auxiliary_weight

    @property
    def timm_model(self) -> Backbone:
        """The backbone within the segmenter."""
        return self.model.backbone

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (B, C, H, W) images of any size to (B, K, H, W) probabilities."""
        return self.inference(lambda crops: self.model(crops).scores, images, self.model.maps.patch_size)

    def on_train_start(self) -> None:
        """Check batch norm, now that the number of devices is known."""
        batch_size = self.batch_size or self.trainer.datamodule.batch_size  # type: ignore[attr-defined]
        check_batch_norm(self, batch_size, self.trainer.world_size)

    def on_after_batch_transfer(self, batch: SegmentationBatch, dataloader_idx: int) -> SegmentationBatch:
        """Normalise the images on the training device."""
        if isinstance(batch.image, list):
            return batch._replace(image=[self.normalize(image[None])[0] for image in batch.image])
        return batch._replace(image=self.normalize(batch.image))

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of all labelled pixels, for the head plus the weighted auxiliary head."""
        assert isinstance(batch.label, Tensor)
        output: SegmentationOutput = self.model(batch.image)
        label = batch.label.long()
        loss = _cross_entropy(output.scores, label)
        self.log("train/loss_head", loss)
        if output.auxiliary is not None:
            loss = loss + self.auxiliary_weight * _cross_entropy(output.auxiliary, label)
        self.log("train/loss", loss)
        return loss

    def evaluate(self, batch: SegmentationBatch, metrics: SegmentationMetrics) -> dict[str, list[Tensor] | Tensor]:
        """Predict a batch and add it to the metrics; see ``predict_step``."""
        predictions = self._predict(batch)
        metrics.update(predictions, batch.label, batch.broken)
        return {"predictions": predictions, "index": batch.index}

    def predict_step(self, batch: SegmentationBatch, batch_idx: int) -> dict[str, list[Tensor] | Tensor]:
        """Return "predictions", (H, W) int16 classes per image, and "index", (B,), of the images."""
        return {"predictions": self._predict(batch), "index": batch.index}

    def param_groups(self) -> ParamGroups:
        """Return groups with one learning rate per layer; the heads are the last layer."""
        return dense_groups(self.model, self.model.backbone, layer_decay=self.layer_decay)

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError unless the model was built for images of shape (C, S, S) and scores of shape (K,)."""
        check_dense(self.model.maps, image, scores, self.num_classes)

    def _predict(self, batch: SegmentationBatch) -> list[Tensor]:
        """Return the most probable class of each pixel; images of equal size are stacked."""
        images = list(batch.image)
        if len({tuple(image.shape) for image in images}) == 1:
            return list(self(torch.stack(images)).argmax(1).to(torch.int16))
        return [self(image[None]).argmax(1)[0].to(torch.int16) for image in images]


def _cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    """Sum over labelled pixels and divide by the number of all pixels (as mmsegmentation 0.x, which BEiT uses)."""
    return F.cross_entropy(scores, label, ignore_index=-1, reduction="sum") / label.numel()
