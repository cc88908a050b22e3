"""The background event loop of this process, and the synchronous face over it. What runs on the loop is elsewhere.

The asynchronous face, for callers with a loop of their own, is in :mod:`grid.chain.awaiting`.

Every process has at most one such loop, on a daemon thread that the first call starts. It works beside whatever loop
the caller has running, as in a notebook, and for several calling threads at once.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import ctypes
import functools
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator

__all__ = ["Call", "Closable", "Steps", "adopt", "background", "in_thread", "iterate", "release", "run"]

T = TypeVar("T")

_PATIENCE = 0.25  # seconds that each of the four steps of the shutdown at interpreter exit may take
LAST_PATIENCE = 1.0  # seconds for all of them, and for the end of an iteration
# On Windows an unlimited wait cannot be interrupted by Ctrl-C, so the wait is cut into slices of this many seconds.
_SLICE = 0.1 if os.name == "nt" else None
END = object()
"""What `Steps.step` returns after the last item."""


class Closable(Protocol):
    """Something that is open on the loop."""

    async def close(self) -> None:
        """Close it; called on the loop, and never twice at once."""


class _EventLoop(asyncio.SelectorEventLoop):
    # A policy that the host application installed, such as uvloop's, is not ours to use: hence this class by name.

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> list[Any]:
        # The default runs in an executor whose threads the interpreter joins at exit: a name server that does not
        # answer would then keep the interpreter from ending. A daemon thread does not.
        return await in_thread(functools.partial(socket.getaddrinfo, host, port, **options), "grid-dns")


async def in_thread(function: Callable[[], T], name: str) -> T:
    """Call a function that may take long in a daemon thread of its own, and wait for it without blocking the loop.

    Who is cancelled meanwhile leaves the thread to itself. So does the interpreter at its exit.

    Parameters
    ----------
    function
        What to call.
    name
        What the thread is called.

    Returns
    -------
    T
        What the function returned.

    Raises
    ------
    BaseException
        Whatever the function raised.
    """
    answer: concurrent.futures.Future[T] = concurrent.futures.Future()
    threading.Thread(target=_answer, args=(answer, function), name=name, daemon=True).start()
    return await asyncio.wrap_future(answer)


def _answer(answer: concurrent.futures.Future[T], function: Callable[[], T]) -> None:
    if answer.set_running_or_notify_cancel():
        try:
            answer.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            answer.set_exception(error)


class _Background:
    """A loop, its thread, and everything that must live as long as they do."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = _EventLoop()
        self.open: set[Closable] = set()
        self.sources: set[AsyncIterator[Any]] = set()  # nothing reads it: it keeps them alive, see `_after_fork`
        self.thread = threading.Thread(target=_serve, args=(self.loop,), name="grid-loop", daemon=True)
        self.thread.start()

    @property
    def works(self) -> bool:
        # Not `thread.is_alive()`: Ctrl-C within that makes Python believe, for good, that the thread has ended.
        return self.pid == os.getpid() and not self.loop.is_closed()

    async def wind_up(self) -> None:
        """End all tasks, generators and closables, none of which may hold up the end for long."""
        tasks = asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}
        for task in tasks:
            task.cancel()
        await _settle(tasks)
        # The outermost first: each closes those within it, which are not to be closed from outside at the same time.
        sources = {asyncio.ensure_future(_closed(source)) for source in self.sources}
        await _settle(sources)
        if all(source.done() for source in sources):
            await _settle({asyncio.ensure_future(self.loop.shutdown_asyncgens())})
        await _settle({asyncio.ensure_future(closable.close()) for closable in self.open})
        await asyncio.sleep(0)  # a transport that was closed releases its socket one turn of the loop later


class Call(Generic[T]):
    """A coroutine that the loop carries out while a thread waits, or another loop.

    Ctrl-C can reach the waiting thread between any two of its steps, and must neither stop the loop nor be masked by
    its own consequences. So the thread takes no lock that the loop ever waits for (a `concurrent.futures.Future` has
    one), and if it is interrupted, it tells the loop to end the coroutine, whether that has begun or not.

    Parameters
    ----------
    background
        The loop.
    coroutine
        What it carries out.
    at_end
        Called on the loop when it has.
    """

    def __init__(
        self, background: _Background, coroutine: Coroutine[Any, Any, T], at_end: Callable[[], None] | None = None
    ) -> None:
        self._loop = background.loop
        self._coroutine = coroutine
        self._at_end = at_end
        self._task: asyncio.Task[T] | None = None
        self._is_given_up = False
        self._answer: T | None = None
        self._error: BaseException | None = None
        self._end = threading.Lock()
        self._end.acquire()  # released by the loop

    def begin(self) -> None:
        """Have the loop begin; to be called once."""
        try:
            self._loop.call_soon_threadsafe(self._go_on)
        except RuntimeError:  # the loop is closed
            self._coroutine.close()
            raise

    def give_up(self) -> None:
        """Have the loop end the coroutine, and do not wait for that."""
        self._is_given_up = True
        with suppress(RuntimeError):  # the loop is closed, and has ended everything
            self._loop.call_soon_threadsafe(self._go_on)

    def wait(self, seconds: float = -1) -> bool:
        """Wait for the end, for that many seconds or for as long as it takes; return whether it has come."""
        if _SLICE is not None and seconds < 0:
            while not self._end.acquire(timeout=_SLICE):
                pass
            return True
        return self._end.acquire(timeout=seconds)

    def result(self) -> T:
        """Return what the coroutine has returned, or raise what it has raised; to be called once, after its end."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # else the exception, its traceback and this frame would hold each other
        return cast("T", self._answer)

    def _go_on(self) -> None:
        # Runs on the loop; a second time if the thread has given up.
        if self._task is not None:
            self._task.cancel()
        elif self._is_given_up:
            self._coroutine.close()
        else:
            self._task = self._loop.create_task(self._coroutine)
            self._task.add_done_callback(self._take)

    def _take(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if task.cancelled():
            self._error = concurrent.futures.CancelledError()
        else:
            self._error = task.exception()
            self._answer = None if self._error else task.result()
        self._end.release()
        if self._at_end is not None:
            self._at_end()


class Steps(Generic[T]):
    """An asynchronous iterator that is gone through on the background loop, step by step, for somebody elsewhere.

    Parameters
    ----------
    background
        The loop.
    source
        The iterator. It is kept alive until it is closed.
    """

    def __init__(self, background: _Background, source: AsyncIterator[T]) -> None:
        self.background = background
        self._source = source
        background.sources.add(source)

    def check(self) -> None:
        """Raise a `RuntimeError` if the loop is not that of this process any more."""
        if not self.background.works:
            message = "this iteration began before a fork or the end of its loop: begin a new one"
            raise RuntimeError(message)

    async def step(self) -> T | object:
        """Return the next item, or `END`; runs on the loop."""
        return await anext(self._source, END)

    async def close(self) -> None:
        """Close the iterator, if it can be; runs on the loop."""
        try:
            await _closed(self._source)
        finally:
            self.background.sources.discard(self._source)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _closed(source: AsyncIterator[Any]) -> None:
    aclose: Callable[[], Awaitable[None]] | None = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()


async def _settle(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=_PATIENCE)
        for task in done:
            if not task.cancelled():
                task.exception()  # retrieved, or asyncio would complain at exit that it never was


_lock = threading.RLock()  # re-entrant: a signal handler may run while its own thread holds it
_current: _Background | None = None


def background() -> _Background:
    """Return the loop of this process, and begin it if there is none."""
    global _current  # noqa: PLW0603 - one loop for each process
    with _lock:
        if _current is None or not _current.works:
            if _current is not None and _current.pid != os.getpid():
                _after_fork()  # forked by something that did not call the registered functions
            _current = _Background()
        return _current


def _elsewhere() -> _Background:
    """Return the loop of this process for a thread that will wait for it."""
    here = background()
    if here.thread is threading.current_thread():
        message = "the background event loop cannot wait for itself: use `await` here, not the synchronous call"
        raise RuntimeError(message)
    return here


def _carry_out(here: _Background, coroutine: Coroutine[Any, Any, T]) -> T:
    call = Call(here, coroutine)
    try:
        call.begin()
        call.wait()
    except BaseException:
        call.give_up()
        raise
    return call.result()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and wait for it.

    Ctrl-C while waiting cancels the coroutine and is raised at once; the loop goes on.

    Parameters
    ----------
    coroutine
        What to run.

    Returns
    -------
    T
        What the coroutine returned.

    Raises
    ------
    RuntimeError
        When called on the loop's own thread, where the wait would never end.
    BaseException
        Whatever the coroutine raised.

    Examples
    --------
    >>> import asyncio
    >>> run(asyncio.sleep(0, "done"))
    'done'
    """
    try:
        here = _elsewhere()
    except BaseException:
        coroutine.close()
        raise
    return _carry_out(here, coroutine)


def iterate(source: AsyncIterator[T]) -> Generator[T, None, None]:
    """Iterate synchronously over an asynchronous iterator, and close it at the end.

    Parameters
    ----------
    source
        An asynchronous generator, or another asynchronous iterator. It is closed, if it can be, when it is
        exhausted, when it fails, and when this iterator is closed or dropped.

    Yields
    ------
    T
        The items of `source`.

    Raises
    ------
    RuntimeError
        When called on the loop's own thread, or carried on in a forked child.
    """
    steps = Steps(_elsewhere(), source)
    try:
        while True:
            steps.check()
            item = _carry_out(steps.background, steps.step())
            if item is END:
                return
            yield cast("T", item)
    finally:
        # After Ctrl-C the cancelled step is still unwinding the source: this close then fails, and so takes no time.
        if steps.background.works:
            closing = Call(steps.background, steps.close())
            closing.begin()
            if steps.background.thread is not threading.current_thread():  # the collector may drop it on the loop
                closing.wait(LAST_PATIENCE)


def adopt(closable: Closable) -> None:
    """Take charge of something that was opened on the background loop.

    It is closed when the interpreter exits, and it is left alone in a forked child. On another loop this does nothing.

    Parameters
    ----------
    closable
        What was opened; :func:`release` gives it up again.
    """
    if _current is not None and asyncio.get_running_loop() is _current.loop:
        _current.open.add(closable)


def release(closable: Closable) -> None:
    """Let go of what :func:`adopt` took charge of, because it is being closed.

    Parameters
    ----------
    closable
        What was adopted. One that was not is ignored.
    """
    if _current is not None:
        _current.open.discard(closable)


def _after_fork() -> None:
    """Abandon the parent's loop in a forked child, with all that hangs on it, so that nothing of it is ever finalised.

    Parent and child share the epoll instance and the open connections behind their file descriptors. A transport that
    is closed here takes its socket out of that epoll instance, and the parent then waits for ever for an answer that
    has arrived; a TLS session that is closed here says so on the parent's connection. Finalisers do the same as a call:
    `__del__` of aiohttp's connectors closes, and that of sessions, tasks and loops writes to stderr.

    So none may run, neither from the garbage collector nor while the interpreter clears modules at its exit, which a
    reference from a module's globals would not outlive. One reference that nothing owns prevents it on every CPython:
    the count never falls to zero, and to the collector an object with more references than it can find is in use from
    outside, with all that can be reached from it: through `open`, `sources` and the loop's own handles that is every
    session, subscription and request of the parent's. (The frames of threads that did not survive the fork happen to
    keep what they refer to as well. That is an accident of CPython, and it does not reach an idle session.)
    """
    global _lock, _current  # noqa: PLW0603
    _lock = threading.RLock()  # the old one may be held by a thread that does not exist here
    if _current is not None:
        _keep_for_ever(_current)
        _current = None


_keep_for_ever = ctypes.pythonapi.Py_IncRef
_keep_for_ever.argtypes = [ctypes.py_object]
_keep_for_ever.restype = None


@atexit.register
def _shut_down() -> None:
    """Close what is open while the interpreter is still whole, so that nothing complains or waits for long."""
    global _current
    with _lock:
        here, _current = _current, None
    if here is not None and here.works:
        farewell = Call(here, here.wind_up())
        farewell.begin()
        farewell.wait(LAST_PATIENCE)
        here.loop.call_soon_threadsafe(here.loop.stop)
        here.thread.join(_PATIENCE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
