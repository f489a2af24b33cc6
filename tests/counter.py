"""A class whose methods are called in another process, which can import this module."""

import os
import signal

import torch


class Counter:
    """Counts in another process."""

    def __init__(self, start):
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        self.value = start

    def add(self, number):
        self.value += number
        return self.value, os.getpid(), torch.get_num_threads()

    def exit(self, status):
        os._exit(status)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)
