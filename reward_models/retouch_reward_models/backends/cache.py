"""A cache of answers on disk, found by the content of the request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends.base import Backend, ChatFailure, ChatReply, ChatRequest, TokenChoice
from retouch_reward_models.backends.keys import request_key

_SWEEP_SHARE = 16
"""The folder is measured again after a sixteenth of its limit was written: it is over its limit by so much at most,
for each process that writes."""


class CachedBackend(Backend):
    """Answers from a folder what was answered before, and asks another backend for the rest.

    An answer is found by the backend's name and everything in the request, photos by their pixels. Failures are never
    kept. Sampled answers (temperature above 0) are kept only where the request has a seed: without one the caller
    wants to see different answers. The same request twice in a batch is asked once.

    One JSON file per answer, written in one step, so several processes can share the folder, on a network drive too.
    A file that cannot be read, or whose checksum does not fit, is a miss. When the folder cannot be written, a warning
    says so once and the backend goes on without. Answers that came while the backend's name changed are not kept.

    Args:
        backend: Who is asked.
        folder: Where answers lie; made if need be.
        max_bytes: The oldest answers go when there is more than this.

    Attributes:
        hits: Requests that were not passed on.
        misses: Requests that were.

    Raises:
        ConfigurationError: If `max_bytes` is below 1.
    """

    def __init__(self, backend: Backend, folder: str | os.PathLike[str], *, max_bytes: int = 2**30) -> None:
        if max_bytes < 1:
            raise ConfigurationError(f"max_bytes has to be 1 or more, got {max_bytes}.")
        self.backend = backend
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.name = backend.name
        self._begin()

    def _begin(self) -> None:
        self.hits = self.misses = 0
        self._warned = False
        # So that a folder that is too large already shrinks with the first answer.
        self._written = self.max_bytes
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"backend": self.backend, "folder": self.folder, "max_bytes": self.max_bytes, "name": self.name}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        """Answer each conversation, in order.

        Returns:
            A reply from the folder has 0 attempts and took 0 seconds; its tokens are those of the answer when it was
            asked for.

        Raises:
            BackendError: If the backend that is asked cannot be used at all.
        """
        # Read anew each time: the weights behind a backend may be exchanged, and its name changes with them.
        self.name = name = self.backend.name
        keys = [_key(request, name) for request in requests]
        found: dict[str, ChatReply | ChatFailure] = {}
        for wanted in {key for key in keys if key is not None}:
            reply = self._read(wanted)
            if reply is not None:
                found[wanted] = reply
        # One number for each distinct request that is to be asked; those without a key are all distinct.
        asked: dict[str | int, int] = {}
        for number, key in enumerate(keys):
            if key is None:
                asked[number] = number
            elif key not in found:
                asked.setdefault(key, number)
        answers = dict(zip(asked, self._ask([requests[n] for n in asked.values()]), strict=True))
        if self.backend.name == name:
            self._keep({key: answer for key, answer in answers.items() if isinstance(key, str)})
        with self._lock:
            self.hits += len(requests) - len(asked)
            self.misses += len(asked)
        return [found[key] if key in found else answers[n if key is None else key] for n, key in enumerate(keys)]

    def summary(self) -> dict[str, int]:
        """``hits`` and ``misses`` of this process, ready for JSON."""
        with self._lock:
            return {"hits": self.hits, "misses": self.misses}

    def close(self) -> None:
        """Close the backend that is asked."""
        self.backend.close()

    def _ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        return self.backend.complete(requests) if requests else []

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def _read(self, key: str) -> ChatReply | None:
        try:
            entry = json.loads(self._path(key).read_text("utf-8"))
            content = entry["reply"]
            if entry["key"] != key or entry["checksum"] != _checksum(content):
                return None
            tokens = tuple(TokenChoice(token["text"], token["alternatives"]) for token in content["tokens"])
            return replace(ChatReply(**{**content, "tokens": tokens}), attempts=0, seconds=0.0)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _keep(self, answers: Mapping[str, ChatReply | ChatFailure]) -> None:
        for key, answer in answers.items():
            if isinstance(answer, ChatFailure):
                continue
            try:
                size = self._write(key, answer)
            except (OSError, TypeError, ValueError) as error:
                # The answer is there and may have cost money; that it cannot be kept must not lose it.
                self._warn(error)
                continue
            with self._lock:
                self._written += size
                sweep = self._written * _SWEEP_SHARE > self.max_bytes
                if sweep:
                    self._written = 0
            if sweep:
                self._sweep()

    def _write(self, key: str, reply: ChatReply) -> int:
        content = asdict(reply)
        # Lone surrogates of a broken answer are no UTF-8, but as escapes they are JSON; Python's JSON also has the
        # log-probability of what was forbidden, minus infinity.
        text = json.dumps({"key": key, "checksum": _checksum(content), "reply": content})
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return len(text)

    def _sweep(self) -> None:
        """Delete the oldest files until what is left fits. Other processes may do the same at the same time."""
        files = sorted(self._files())
        over = sum(size for _, size, _ in files) - self.max_bytes
        for _, size, path in files:
            if over <= 0:
                return
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            over -= size

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        # What a killed process left half-written counts, and goes, with the rest.
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except OSError:
                continue
            yield status.st_mtime_ns, status.st_size, path

    def _warn(self, error: Exception) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            warnings.warn(
                f"An answer cannot be kept in {self.folder}: {error}. Make room or give another folder; until then it "
                "is asked for anew each time. This is said once.",
                RuntimeWarning,
                stacklevel=4,
            )


def _key(request: ChatRequest, name: str) -> str | None:
    """Key of a request; None if its answer is not to be kept."""
    if request.temperature > 0 and request.seed is None:
        return None
    try:
        return request_key(request, name)
    except TypeError:
        return None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
