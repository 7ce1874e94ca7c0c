"""One event loop in a thread, so that asynchronous calls can be made from anywhere, a running loop included."""

from __future__ import annotations

import asyncio
import os
import threading

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """This process's loop for calls to endpoints; it runs in a daemon thread and is started when first needed."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="retouch-backends", daemon=True).start()
        return _loop


def _forget() -> None:
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    # A forked process has the loop but not the thread that runs it, and perhaps a lock that nobody will open.
    os.register_at_fork(after_in_child=_forget)
