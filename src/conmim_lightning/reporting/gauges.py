"""What the metrics of a run mean, and what to do when they look wrong; for reports and documentation."""

import re
from typing import NamedTuple


class Gauge(NamedTuple):
    """The meaning of a metric.

    Attributes:
        pattern: regular expression of the whole name.
        meaning: what it measures, with unit and range.
        healthy: what it does in a run that learns.
        otherwise: what to check when it does not.
    """

    pattern: str
    meaning: str
    healthy: str
    otherwise: str = ""


GAUGES = (
    Gauge(
        "train/loss",
        "Loss of the last batch; in pre-training nats, with chance at ln(number of keys), those of an image's patches.",
        "Falls below chance within the first epochs, then slowly.",
        "At chance: the learning rate is too small or too large, or the crops have no structure. Rising: lower"
        " optimizer.lr or lengthen schedule.warmup_epochs.",
    ),
    Gauge(
        "train/retrieval_top1",
        "Fraction of hidden patches whose own key is the most similar of all keys of the image.",
        "Rises from 1/(number of patches).",
        "Flat: see train/loss. Near 1 within an epoch: the task is too easy; raise masking.ratio or strengthen the"
        " teacher's view.",
    ),
    Gauge(
        "train/position_only_top1",
        "The same, with each key replaced by the mean key of the other images at its position.",
        "Stays clearly below train/retrieval_top1.",
        "Equal to it: position alone solves the task; see train/position_only_fraction.",
    ),
    Gauge(
        "train/position_only_fraction",
        "Fraction of the retrieval that position alone explains, 0 to 1.",
        "Falls as content is learned.",
        "Stays near 1: train longer, use larger images or stronger perturbation, and check that images are not all"
        " alike.",
    ),
    Gauge(
        "train/positive_similarity",
        "Mean cosine of hidden patches and their own keys.",
        "Rises above the hardest negative.",
    ),
    Gauge(
        "train/hardest_negative_similarity",
        "Mean cosine of hidden patches and the most similar other key of the image.",
        "Stays below 1.",
        "Near 1 together with the positive: the keys collapse; see train/key_spread.",
    ),
    Gauge(
        "train/key_spread",
        "Spread of the unit-length keys, 0 to 1: 1 if they fill the sphere evenly.",
        "Stays above 0.5.",
        "Falls towards 0: collapse. Check that the teacher's momentum is below 1 and the projector has its batch norm.",
    ),
    Gauge(
        "train/key_rank",
        "Effective rank of the keys, 1 to the projected width: how many directions they use.",
        "Grows, to tens or hundreds.",
        "Falls towards 1: collapse, as for train/key_spread.",
    ),
    Gauge(
        "train/teacher_distance",
        "Distance of the teacher's weights from the student's, relative to the student's norm.",
        "Small and falling with the learning rate.",
        "Growing without end: the momentum is too high for the length of the run; lower"
        " schedule.teacher_momentum_start.",
    ),
    Gauge(
        "val/knn_top1|val/knn_top5",
        "Accuracy of k-NN on the teacher's mean patch token, 0 to 1.",
        "Rises above the initial weights (_start) and raw pixels (_pixels).",
        "Below raw pixels: usual early; masked image modeling shows in fine-tuning before it shows in k-NN.",
    ),
    Gauge(
        "val/dense_auroc_(object|border|class)",
        "Dense probe: area under the ROC curve of a linear probe on frozen patch tokens; 0.5 is chance.",
        "Rises above the initial weights and raw pixels by more than its error.",
        "Within two standard errors (_error) of chance: no evidence yet; use more images (data.dense_images) or train"
        " longer.",
    ),
    Gauge("(val|test)/top[15]", "Accuracy, 0 to 1.", "Rises; the gap to train is overfitting."),
    Gauge(
        "(val|test)/(miou|pixel_accuracy|mean_class_accuracy)",
        "Segmentation accuracy, 0 to 1.",
        "Rises; rare classes last.",
    ),
    Gauge(
        "(val|test)/(box|mask)_.*", "Average precision or recall, 0 to 1.", "Rises late, after the learning rate falls."
    ),
    Gauge("optim/lr", "Learning rate of the last step (the largest group).", "Follows the schedule."),
    Gauge("optim/teacher_momentum", "Momentum of the teacher's moving average.", "Rises to 1 along the schedule."),
    Gauge(
        "optim/grad_norm",
        "Norm of the gradient before clipping.",
        "Falls after warm-up and then stays level.",
        "Spikes or growth: lower optimizer.lr, lengthen warm-up, or set schedule.max_grad_norm.",
    ),
    Gauge(
        "optim/skipped_steps",
        "Steps that were skipped because loss or gradient was not finite.",
        "Absent.",
        "Growing: see the dumped batches in non_finite/, or train with trainer.precision=bf16-mixed.",
    ),
    Gauge("speed/images_per_second", "Images per second over all devices.", "Level.", "Falls: see speed/data_wait."),
    Gauge(
        "speed/data_wait",
        "Fraction of the time spent waiting for data, 0 to 1.",
        "Below 0.05.",
        "Higher: more data.num_workers, smaller files, or shards; `benchmark benchmark=data` finds the limit.",
    ),
)


def gauge_of(name: str) -> Gauge | None:
    """Return the gauge of a metric, whose baselines and errors share it; None for an unknown metric."""
    base = re.sub("_(pixels|start|error)$", "", name)
    return next((gauge for gauge in GAUGES if re.fullmatch(gauge.pattern, base)), None)
