"""A training loop that takes one step at a time, so that several can be measured in turn."""

import threading
from collections.abc import Callable

import torch

from core.errors import Stopped


class Paced:
    """A watcher that lets a training loop take one step whenever it is called."""

    def __init__(self, loop: Callable[["Paced"], None]) -> None:
        """Start a loop in a thread of its own and wait until it stands before its first step.

        Args:
            loop: Trains until its watcher, which is this, says stop; it computes with as many threads as its caller.
        """
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(loop, torch.get_num_threads()), daemon=True)
        self._thread.start()
        self._wait()

    def __call__(self) -> None:
        """Let the loop take one step."""
        self._go.release()
        self._wait()

    def close(self) -> None:
        """End the loop."""
        self._closing = True
        self._go.release()
        self._thread.join()

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """See a step go by."""

    def pause(self, step: int) -> None:
        """Stand until somebody asks for the next step.

        Raises:
            Stopped: If it is the end.
        """
        self._stands.release()
        self._go.acquire()
        if self._closing:
            raise Stopped("measured enough")

    def _wait(self) -> None:
        self._stands.acquire()
        if self._error is not None:
            raise self._error

    def _run(self, loop: Callable[["Paced"], None], threads: int) -> None:
        torch.set_num_threads(threads)
        try:
            loop(self)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the step was asked for
            self._error = error
        self._stands.release()


class Unseen:
    """A watcher that watches nothing."""

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Let the step be."""

    def pause(self, step: int) -> None:
        """Let it go on."""
