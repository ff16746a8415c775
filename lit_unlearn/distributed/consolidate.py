"""Joining of a checkpoint in slices to one file."""

import re
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from lit_unlearn.errors import InputError
from lit_unlearn.utils.ownership import check_targets, own_file
from lit_unlearn.utils.paths import local_path

__all__ = ["consolidate"]

_REST = "meta.pt"
"""Lightning's file for everything but weights and optimizer."""


def consolidate(folder: Path, file: Path) -> None:
    """Join a checkpoint in slices to one file, which any strategy and a single process can load.

    The whole checkpoint must fit into the CPU's memory.

    Args:
        folder: A checkpoint that `save_distributed_checkpoint` has written.
        file: The new file.

    Raises:
        InputError: The folder is not such a checkpoint, or the file cannot be written.
    """
    folder, file = local_path(folder), local_path(file)
    if not (folder / _REST).is_file():
        raise InputError(
            f"{folder}: expected the folder of a checkpoint in slices, with a {_REST} in it, found "
            "none; give the folder that `save_distributed_checkpoint: true` has written"
        )
    check_targets(file.parent, [file], [], "FILE")
    checkpoint: dict[str, Any] = torch.load(folder / _REST, map_location="cpu", weights_only=True)
    with own_file(file) as temporary:
        dcp_to_torch_save(folder, temporary)
        whole = torch.load(temporary, map_location="cpu", weights_only=True)
        checkpoint["state_dict"] = whole["state_dict"]
        names = sorted(key for key in whole if re.fullmatch(r"optimizer_\d+", key))
        checkpoint["optimizer_states"] = [whole[name] for name in names]
        torch.save(checkpoint, temporary)
