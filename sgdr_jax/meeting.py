"""Tasks that take turns and meet: each runs in a thread of its own, one at a time, and waits where it wants to do something together.

Nothing here runs at the same time as anything else, so what the tasks share needs no lock, and a run of them is the same every time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Together(NamedTuple):
    """What a task wants to do together with others.

    Attributes:
        what: function ({task's index: its arguments}) → {task's index: its result}; called once for all tasks that wait for it.
        rank: of those that are waited for, the lowest is done first: tasks that are behind catch up.
        fresh: whether the task begins something; those that do wait until none of the others of this `what` goes on with it.
        args: the task's arguments.
    """

    what: Callable[[Mapping[int, Any]], Mapping[int, Any]]
    rank: int
    fresh: bool
    args: Any


class _Stop(BaseException):
    """Ends the tasks of a meeting that is broken off."""


class _Task(threading.Thread):
    """A task's thread; it runs from `resume` to its next pause, while whoever resumed it waits."""

    def __init__(self, index: int, work: Callable[[], Any], meeting: Meeting) -> None:
        super().__init__(name=f"lane {index}", daemon=True)
        self.index, self.work, self.meeting = index, work, meeting
        self.wish: Together | None = None
        self.answer: Any = None
        self.outcome: Any = None
        self.over = self.stopping = False
        self.seconds = 0.0
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def run(self) -> None:
        self._go.acquire()
        self.meeting.current.index = self.index
        self.meeting.current.task = self
        try:
            if not self.stopping:
                self.outcome = self.work()
        except BaseException as error:
            self.outcome = error
        self.over = True
        self._back.release()

    def resume(self) -> None:
        self._go.release()
        self._back.acquire()

    def pause(self, wish: Together | None) -> Any:
        self.wish = wish
        self._back.release()
        self._go.acquire()
        if self.stopping:
            raise _Stop
        return self.answer


class Meeting:
    """Runs tasks in turns.

    Args:
        between: called after each round, when every task has had a turn.
        clock: seconds since any moment.
    """

    def __init__(self, between: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.current = threading.local()
        self._between, self._clock = between, clock
        self._sharing: Sequence[_Task] = ()
        self._since = clock()

    @property
    def index(self) -> int:
        """Of the task that asks."""
        return self.current.index

    @property
    def seconds(self) -> float:
        """That the task which asks has taken so far: each round and each thing done together counts in equal parts for those that take part
        in it, so that the seconds of all tasks add up to those of the meeting. While a task waits for others its clock stands."""
        return self.current.task.seconds + (self._clock() - self._since) / len(self._sharing)

    def _share(self, tasks: Sequence[_Task]) -> None:
        """From now on these take part."""
        now = self._clock()
        for task in self._sharing:
            task.seconds += (now - self._since) / len(self._sharing)
        self._sharing, self._since = tasks, now

    def turn(self) -> None:
        """Lets the other tasks have their turns."""
        self.current.task.pause(None)

    def together(self, wish: Together) -> Any:
        """Waits until all tasks wait for something like this, then gives this task's part of what was done together."""
        return self.current.task.pause(wish)

    def run(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """Runs all tasks to their ends; gives what each returned, or the exception that it raised."""
        tasks = [_Task(i, work, self) for i, work in enumerate(works)]
        for task in tasks:
            task.start()
        ready = tasks
        try:
            while ready:
                self._share(ready)
                for task in ready:
                    task.resume()
                    if task.over:
                        self._share([other for other in ready if not other.over])
                self._between()
                going = [task for task in ready if not task.over and task.wish is None]
                ready = going or self._meet([task for task in tasks if not task.over])
        finally:
            self._share(())
            for task in tasks:
                while not task.over:
                    task.stopping = True
                    task.resume()
        return [task.outcome for task in tasks]

    def _meet(self, tasks: list[_Task]) -> list[_Task]:
        """Does what is to be done next for the tasks that wait for it, all of `tasks` waiting for something; gives those."""
        wishes = [(task, task.wish) for task in tasks if task.wish]
        if not wishes:
            return []
        first = min((wish for _, wish in wishes), key=lambda wish: (wish.rank, wish.fresh))
        chosen = [(task, wish) for task, wish in wishes if wish.what is first.what and wish.fresh == first.fresh]
        self._share([task for task, _ in chosen])
        answers = first.what({task.index: wish.args for task, wish in chosen})
        for task, _ in chosen:
            task.wish, task.answer = None, answers[task.index]
        return [task for task, _ in chosen]
