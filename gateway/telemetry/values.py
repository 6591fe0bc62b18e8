"""Series to count in, found once: what an update costs is then a few memory accesses and no more.

prometheus-client defines the metrics; its own updates look up, check and lock each time, which for a call with some
twenty of them is most of the cost. Here a series is the place its number is kept in: prometheus-client's value object,
or with several workers the eight bytes of its file. Only the thread of the event loop may update; others may read.

https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import mmap
import os
import weakref
from abc import ABC, abstractmethod
from bisect import bisect_left
from time import time
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.utils import floatToGoString


class Exemplar(NamedTuple):
    """One observation, by the trace it belongs to."""

    trace_id: str
    value: float
    at: float
    """Unix seconds."""


class Slot(ABC):
    """One number."""

    __slots__ = ()

    @abstractmethod
    def add(self, amount: float) -> None:
        """Add to it; a counter's amount must not be negative."""

    @abstractmethod
    def set(self, value: float) -> None: ...


class PlainSlot(Slot):
    """A number of prometheus-client's, where there is one process."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def add(self, amount: float) -> None:
        self._value._value += amount

    def set(self, value: float) -> None:
        self._value._value = value


class SharedSlot(Slot):
    """A number in this worker's file, which outlives the worker."""

    __slots__ = ("__weakref__", "_at", "_value", "_view")

    def __init__(self, value: Any) -> None:
        self._value = value
        self.locate()
        _shared.add(self)

    def locate(self) -> None:
        """Find the number's place: at first, and again in a process that was forked and counts."""
        self._value.get()  # prometheus-client notices here that the process is another, and takes files of its own
        file = self._value._file
        position = file._positions[self._value._key]
        self._view = _view_of(file, position)
        self._at = position // 8

    def add(self, amount: float) -> None:
        self._view[self._at] += amount

    def set(self, value: float) -> None:
        self._view[self._at] = value


_shared: weakref.WeakSet[SharedSlot] = weakref.WeakSet()
_views: weakref.WeakKeyDictionary[Any, memoryview[float]] = weakref.WeakKeyDictionary()
"""Files, and each as a row of doubles. A file that has grown is mapped anew; what was mapped before stays right."""


def _view_of(file: Any, position: int) -> memoryview[float]:
    view = _views.get(file)
    if view is None or position + 16 > view.nbytes:
        # A mapping of our own: prometheus-client could not close its own while there is a view of it.
        view = _views[file] = memoryview(mmap.mmap(file._f.fileno(), file._capacity)).cast("d")
    return view


def _after_fork() -> None:
    """Let the first update, if there is one, find the places anew.

    uvloop comes here in each process that it starts, which is about to be another program: files that were made here
    would count as a worker's, its gauges 0, and meanwhile the event loop that has started it stands still.
    """
    SharedSlot.add, SharedSlot.set = _add_first, _set_first  # type: ignore[method-assign]  # so that it costs others nothing


def _add_first(self: SharedSlot, amount: float) -> None:
    _locate_all()
    self.add(amount)


def _set_first(self: SharedSlot, value: float) -> None:
    _locate_all()
    self.set(value)


def _locate_all() -> None:
    SharedSlot.add, SharedSlot.set = _ADD, _SET  # type: ignore[method-assign]  # likewise
    for slot in _shared:
        slot.locate()


_ADD, _SET = SharedSlot.add, SharedSlot.set
os.register_at_fork(after_in_child=_after_fork)


def slot(metric: Counter | Gauge) -> Slot:
    """Return the place of a series: of a metric without labels, or what its `labels()` gave."""
    return _slot_of(metric._value)


def _slot_of(value: Any) -> Slot:
    return SharedSlot(value) if value._multiprocess else PlainSlot(value)


class Distribution:
    """One histogram series."""

    __slots__ = ("_bounds", "_counts", "_sum", "exemplars", "labels", "name")

    def __init__(self, metric: Histogram) -> None:
        self.name: str = metric._name
        self.labels: dict[str, str] = dict(zip(metric._labelnames, metric._labelvalues, strict=True))
        self._bounds = [float(bound) for bound in metric._upper_bounds]
        self._sum = _slot_of(metric._sum)
        self._counts = [_slot_of(value) for value in metric._buckets]
        self.exemplars: dict[str, Exemplar] = {}
        """By the upper bound of their bucket, as it is written: the newest of each."""

    def observe(self, value: float) -> None:
        self._sum.add(value)
        self._counts[bisect_left(self._bounds, value)].add(1.0)

    def merge(self, counts: list[int], total: float) -> None:
        """Take many observations: one count for each bucket, the last for what is above all bounds, and their sum."""
        self._sum.add(total)
        for slot, count in zip(self._counts, counts, strict=True):
            if count:
                slot.add(count)

    def mark(self, value: float, trace_id: str) -> None:
        """Remember an observation as its bucket's example."""
        bound = written(self._bounds[bisect_left(self._bounds, value)])
        self.exemplars[bound] = Exemplar(trace_id, value, time())


def written(value: float) -> str:
    """Return a number as the formats have it."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # prometheus-client has no annotation here


class Slots(dict[str, Slot]):
    """The series of a metric that differ in its last label; each begins with its first update."""

    def __init__(self, metric: Counter | Gauge, *labels: str) -> None:
        super().__init__()
        self._metric = metric
        self._labels = labels

    def __missing__(self, label: str) -> Slot:
        found = self[label] = slot(self._metric.labels(*self._labels, label))
        return found


class Distributions(dict[str, Distribution]):
    """Likewise of a histogram."""

    def __init__(self, metric: Histogram, *labels: str) -> None:
        super().__init__()
        self._metric = metric
        self._labels = labels

    def __missing__(self, label: str) -> Distribution:
        found = self[label] = Distribution(self._metric.labels(*self._labels, label))
        return found
