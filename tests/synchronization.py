"""A callback that forbids waiting for the GPU within a training step."""

import warnings

import torch
from lightning import Callback


def forbid_synchronization(forbid):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error" if forbid else "default")


class NoSynchronization(Callback):
    """Any synchronization with the GPU is an error from the start of a batch, after its perturbation, to its end."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step > 1:  # the first creates the state of optimizer and metrics
            forbid_synchronization(True)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        forbid_synchronization(False)
