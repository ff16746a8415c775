"""Steps of a request: done once for the same inputs, and begun anew, beside the old, for others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lit_unlearn.requests.folder import RequestFolder, Step, StepLog, content_digest, read_steps
from lit_unlearn.utils.ownership import free_name
from lit_unlearn.utils.progress import duration

__all__ = ["Steps"]


@dataclass
class Steps:
    """Runner of the steps of one request.

    Args:
        folder: Folder of the request, which the caller has locked.
        console: Console that shows what is done.
        total: Number of steps, for the headings.
    """

    folder: RequestFolder
    console: Console
    total: int

    def __post_init__(self) -> None:
        self._number = 0

    def do(
        self,
        name: str,
        title: str,
        inputs: Mapping[str, str],
        outputs: Sequence[Path],
        work: Callable[[], object],
    ) -> bool:
        """Do a step unless it is finished; return whether anything was done.

        A step whose outputs are as they were written, from the same inputs, is finished. Outputs
        of other inputs, or that were changed since, are moved to a free name, with the folder that
        holds them.

        Args:
            name: Key in the log.
            title: Heading on the console.
            inputs: Digests or texts of everything on which the outputs depend.
            outputs: Files and folders by which a change is noticed, in folders of the step.
            work: Function that does the step; a stopped one is called again.
        """
        self._number += 1
        heading, root = f"Step {self._number} of {self.total}: {title}", self.folder.root
        before = read_steps(root).get(name)
        same = before is not None and before.inputs == inputs
        finished = same and before is not None and before.state == "finished"
        if finished and before is not None and self._digests(outputs) == before.outputs:
            self.console.print(f"{heading} (done before)")
            return False
        if before is not None and (finished or not same):
            self._set_aside(outputs, "changed since" if finished else "of other settings")
        self.console.print(heading, style="bold")
        self._append(name, Step("started", inputs))
        started = time.monotonic()
        work()
        seconds = time.monotonic() - started
        self._append(name, Step("finished", inputs, self._digests(outputs), seconds))
        self.console.print(f"  took {duration(seconds)}", style="dim")
        return True

    def is_due(self, name: str, inputs: Mapping[str, str], outputs: Sequence[Path]) -> bool:
        """Return whether `do` will have work; outputs that were changed since are not noticed."""
        before = read_steps(self.folder.root).get(name)
        done = before is not None and before.state == "finished" and before.inputs == inputs
        return not done or not all(path.exists() for path in outputs)

    def _append(self, name: str, step: Step) -> None:
        with StepLog(self.folder.root) as log:
            log.append({name: step})

    def _digests(self, outputs: Sequence[Path]) -> dict[str, str]:
        return {
            path.relative_to(self.folder.root).as_posix(): content_digest(path)
            for path in outputs
            if path.exists()
        }

    def _set_aside(self, outputs: Sequence[Path], why: str) -> None:
        root = self.folder.root
        for name in dict.fromkeys(path.relative_to(root).parts[0] for path in outputs):
            if os.path.lexists(root / name):
                aside = free_name(root / name)
                (root / name).rename(aside)
                self.console.print(f"  {name} is {why}; it was moved to {aside}", soft_wrap=True)
