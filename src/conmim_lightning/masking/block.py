"""Masking by blocks of random shape, as in BEiT (arXiv 2106.08254), with an exact number of hidden patches."""

import math

import torch
from torch import Generator, Tensor

_ATTEMPTS = 10


class BlockMasking:
    """Hide rectangles of random area and aspect ratio until exactly ``num_hidden`` patches are hidden.

    official: BEiT's rule, 75 of 196 patches, blocks of at least 16 patches, aspect ratio in (0.3, 1/0.3), ten attempts
    per block. differs from official: if no further block fits, BEiT hides fewer patches; here single patches complete
    the exact number. Once fewer than ``min_block`` patches are missing, blocks have the area ``min_block``; BEiT
    samples the area between both numbers.

    Args:
        grid_size: patches per side of the square image.
        num_hidden: patches to hide, 1 to grid_size**2 - 1.
        min_block: smallest area of a block in patches, >= 1.
        min_aspect: smallest ratio of height to width, in (0, 1]; the largest is its inverse.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, *, grid_size: int, num_hidden: int, min_block: int = 16, min_aspect: float = 0.3) -> None:
        if not 1 <= num_hidden < grid_size**2:
            raise ValueError(f"num_hidden must lie between 1 and {grid_size**2 - 1} on this grid, got {num_hidden}")
        if min_block < 1:
            raise ValueError(f"min_block must be at least 1, got {min_block}")
        if not 0 < min_aspect <= 1:
            raise ValueError(f"min_aspect must lie in (0, 1], got {min_aspect}")
        self.grid_size = grid_size
        self.num_hidden = num_hidden
        self.min_block = min_block
        self.log_aspect = math.log(1 / min_aspect)

    def __call__(self, generator: Generator) -> Tensor:
        """Sample one mask: (grid_size, grid_size) bool, True = hidden, exactly ``num_hidden`` of them."""
        mask = torch.zeros(self.grid_size, self.grid_size, dtype=torch.bool)
        while (missing := self.num_hidden - int(mask.sum())) > 0:
            if not self._add_block(mask, missing, generator):
                self._fill_up(mask, missing, generator)
        return mask

    def _add_block(self, mask: Tensor, missing: int, generator: Generator) -> bool:
        """Hide one more block of 1 to ``missing`` new patches; return False if ten attempts fail."""
        for _ in range(_ATTEMPTS):
            draw = torch.rand(4, generator=generator).tolist()
            area = self.min_block + draw[0] * max(missing - self.min_block, 0)
            aspect = math.exp((2 * draw[1] - 1) * self.log_aspect)
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if not (0 < height < self.grid_size and 0 < width < self.grid_size):
                continue
            top = int(draw[2] * (self.grid_size - height + 1))
            left = int(draw[3] * (self.grid_size - width + 1))
            block = mask[top : top + height, left : left + width]
            if 0 < block.numel() - int(block.sum()) <= missing:
                block.fill_(True)
                return True
        return False

    @staticmethod
    def _fill_up(mask: Tensor, missing: int, generator: Generator) -> None:
        visible = (~mask.view(-1)).nonzero().squeeze(1)
        mask.view(-1)[visible[torch.randperm(len(visible), generator=generator)[:missing]]] = True
