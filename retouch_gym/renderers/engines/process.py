"""Running programs: several at a time, each in a folder of its own, within a time limit, with nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from retouch_gym.errors import RendererError

Item = TypeVar("Item")
Result = TypeVar("Result")

LOG = "log.txt"
"""File in a program's folder that takes what it prints."""

# The last lines of a program's output that an error quotes.
_TAIL = 12


def find_program(program: str, install: str) -> str:
    """The path of a program.

    Args:
        program: Its name or path.
        install: The command that installs it, for the message.

    Raises:
        RendererError: If it is not there, with the line that installs it.
    """
    found = shutil.which(program)
    if found is None:
        raise RendererError(f"The program {program!r} is not installed; install it with `{install}`.")
    # Programs run in folders of their own, where a relative path would lead nowhere.
    return str(Path(found).absolute())


class Programs:
    """A pool that runs programs for a batch; made for one batch, then thrown away.

    Args:
        workers: How many programs run at a time.
        timeout: Seconds that one program may take.
    """

    def __init__(self, workers: int, timeout: float) -> None:
        self.workers = workers
        self.timeout = timeout
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def map(self, job: Callable[[Item, Path], Result], items: Sequence[Item]) -> list[Result]:
        """Call `job(item, folder)` for each item, each with a new folder that is removed afterwards.

        If one fails, or the caller is interrupted, the programs still running are killed before the error goes on.

        Returns:
            Results in the order of the items.
        """
        with ThreadPoolExecutor(max(1, min(self.workers, len(items))), "engine") as pool:
            futures = [pool.submit(_in_folder, job, item) for item in items]
            try:
                # Whichever fails first, not the first in order, ends the batch.
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                self._stop()
                raise

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
        """Run a program in a folder and wait for it.

        Args:
            command: The program and its arguments; no shell is involved.
            folder: Its working directory; its output goes to ``log.txt`` there.
            environment: Variables to set beside those of this process.

        Returns:
            What it printed.

        Raises:
            RendererError: If it cannot be started, takes too long (it is then killed with its children), or reports
                failure; with the end of what it printed.
        """
        log = folder / LOG
        with log.open("wb") as output:
            process = self._start(command, folder, environment, output.fileno())
        try:
            code = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            raise RendererError(
                f"{command[0]} took longer than {self.timeout:g} s and was stopped. Its last words: {tail(folder)} "
                "Pass a larger timeout, or smaller photos."
            ) from None
        finally:
            self._end(process)
        if code != 0:
            raise RendererError(f"{command[0]} failed with status {code}. Its last words: {tail(folder)}")
        return log.read_text(errors="replace")

    def _start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise RendererError(f"{command[0]} was not started, because another photo of the batch failed.")
            try:
                process = subprocess.Popen(
                    list(command),
                    cwd=folder,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # A group of its own, so that children can be killed with it.
                    start_new_session=True,
                )
            except OSError as error:
                raise RendererError(f"{command[0]} cannot be started: {error}") from error
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)
            _kill(process)
        process.wait()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and its children, unless it has ended: its number could be another's by then."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _in_folder(job: Callable[[Item, Path], Result], item: Item) -> Result:
    with tempfile.TemporaryDirectory(prefix="retouch-gym-", ignore_cleanup_errors=True) as folder:
        return job(item, Path(folder))


def tail(folder: Path) -> str:
    """The end of what a program printed that ran in a folder."""
    log = (folder / LOG).read_text(errors="replace")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return repr(" | ".join(lines[-_TAIL:])[-1500:]) if lines else "nothing."
