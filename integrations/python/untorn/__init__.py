"""untorn is an embeddable store of objects. Writes to the objects are whole or not at all, whatever happens.

    import untorn

    untorn.create("pages.untorn", size=64 << 20)
    with untorn.open("pages.untorn") as store:
        pages = store.create("pages")
        pages.write(0, page, sync=True)
        with store.transaction() as t:
            t.write(pages, 4096, page)
            t.rename("pages", "old pages")

The package calls libuntorn.so.1 by its C API (untorn/c.h), which has the promises, the errors and the threading rules.
Sizes and offsets are in bytes. What is written may be any object with the buffer protocol: bytes, memoryview, mmap, numpy
arrays. Calls release the interpreter's lock, so threads read and write at the same time. Closing a store waits for the calls of
other threads. Stores that are open when the program ends are closed.

Errors are exceptions of class untorn.Error, or of a class below it. Some of those are also what Python programs expect:
untorn.NotFound is a FileNotFoundError, untorn.AlreadyExists a FileExistsError.

UNTORN_LIBRARY names the library where the system does not find it, and UNTORN_SQLITE_LIBRARY that of register_sqlite().
"""

import atexit
import contextlib
import ctypes
import enum
import itertools
import json
import os
import sys
import threading
import weakref
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Type, Union

__all__ = [
    "Aborted", "AlreadyExists", "Cancelled", "DamagedRange", "DataLoss", "Error", "FailedPrecondition", "Finding",
    "InvalidArgument", "NotFound", "Object", "ObjectInfo", "PermissionDenied", "Policy", "RepairResult",
    "ResourceExhausted", "ScrubResult", "Store", "Transaction", "Unavailable", "create", "dump", "fsck", "open",
    "register_sqlite", "repair", "version",
]

Buffer = Union[bytes, bytearray, memoryview, Any]
Progress = Callable[[int, int], Any]


class Error(Exception):
    """An error of the library. The message has the object, the range and the cause, and `code` is that of untorn/c.h."""

    code = 0


class Cancelled(Error):
    """A progress function has returned False."""


class InvalidArgument(Error, ValueError):
    """An argument is out of range. Nothing was done."""


class NotFound(Error, FileNotFoundError):
    """There is no such store, or no such object."""


class AlreadyExists(Error, FileExistsError):
    """There is a store, or an object, of this name."""


class PermissionDenied(Error, PermissionError):
    """The file system refuses."""


class ResourceExhausted(Error):
    """There is no space. Nothing was changed."""


class FailedPrecondition(Error):
    """The store has failed, is closed, is read-only, or is open elsewhere."""


class Aborted(Error):
    """Others have removed an object that the transaction changes, or have taken or removed a name."""


class DataLoss(Error):
    """Metadata or data on the device is damaged."""


class Unavailable(Error):
    """The change is accepted and not durable yet, because the file system below has no space. From refresh() and open():
    no process has the store open for writing now, or it does not answer."""


_ERRORS: Dict[int, Type[Error]] = {
    1: Cancelled, 3: InvalidArgument, 5: NotFound, 6: AlreadyExists, 7: PermissionDenied, 8: ResourceExhausted,
    9: FailedPrecondition, 10: Aborted, 14: Unavailable, 15: DataLoss,
}


class Policy(enum.IntEnum):
    """How atomic writes may reach the device."""

    AUTOMATIC = 0
    ALWAYS_COW = 1
    HARDWARE_ONLY = 2


class ObjectInfo(NamedTuple):
    """What a listing tells of an object."""

    name: str
    id: int
    size: int


class Finding(NamedTuple):
    """What fsck found: its stable number and name (docs/fsck.md), and the object, the range and the cause in words."""

    number: int
    name: str
    what: str


class RepairResult(NamedTuple):
    """What a repair found, what it has done, and how many objects are in quarantine."""

    findings: List[Finding]
    actions: List[str]
    quarantined: int


class DamagedRange(NamedTuple):
    """A range that a scrub found damaged. The name is empty if not even the names of objects can be read."""

    name: str
    id: int
    offset: int
    length: int
    why: str


class ScrubResult(NamedTuple):
    """What a scrub has read, and what it found."""

    objects: int
    bytes: int
    blocks_adopted: int
    damaged_total: int
    damaged: List[DamagedRange]


_PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
_LOG = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
_LIST = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64)
_FINDING = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
_DAMAGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64,
                           ctypes.c_char_p)


class _CreateOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("size_bytes", ctypes.c_uint64), ("force", ctypes.c_int),
                ("prepare", ctypes.c_int), ("progress", _PROGRESS), ("progress_context", ctypes.c_void_p)]


class _OpenOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("read_only", ctypes.c_int), ("policy", ctypes.c_int),
                ("no_io_uring", ctypes.c_int), ("stated_atomic_unit_bytes", ctypes.c_uint64),
                ("cache_bytes", ctypes.c_uint64), ("log", _LOG), ("log_context", ctypes.c_void_p)]


class _CheckOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("data", ctypes.c_int), ("dry_run", ctypes.c_int),
                ("finding", _FINDING), ("progress", _PROGRESS), ("context", ctypes.c_void_p)]


class _ScrubOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("bytes_per_second_max", ctypes.c_uint64), ("progress", _PROGRESS),
                ("damage", _DAMAGE), ("context", ctypes.c_void_p)]


class _ScrubResult(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("objects", ctypes.c_uint64), ("bytes", ctypes.c_uint64),
                ("blocks_adopted", ctypes.c_uint64), ("damaged_total", ctypes.c_uint64),
                ("damaged_bytes", ctypes.c_uint64)]


def _library(variable: str, name: str) -> ctypes.CDLL:
    """Loads the library that the variable names. Without the variable, the one that is installed with this package, or else
    the one that the system finds."""
    beside = os.path.join(os.path.dirname(__file__), "..", "..", "..", name)
    path = os.environ.get(variable) or (beside if os.path.exists(beside) else os.path.basename(name))
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"untorn: {error}; the variable {variable} may name the library") from error


def _load() -> ctypes.CDLL:
    library = _library("UNTORN_LIBRARY", "libuntorn.so.1")
    library.untorn_version.restype = ctypes.c_char_p
    library.untorn_message.restype = ctypes.c_char_p
    library.untorn_free.argtypes = [ctypes.c_void_p]
    library.untorn_object_id.restype = ctypes.c_uint64
    return library


_lib = _load()


def version() -> str:
    """The version of the library."""
    return _lib.untorn_version().decode()


def _check(code: int) -> None:
    if code == 0:
        return
    error = _ERRORS.get(code, Error)(os.fsdecode(_lib.untorn_message()))
    error.code = code
    raise error


def _encoded(text: Union[str, bytes, "os.PathLike[str]"]) -> bytes:
    """The bytes of a path or of an object's name. Other bytes than UTF-8 come and go as in Python's file names."""
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise InvalidArgument(f"{text!r} has a NUL byte")
    return encoded


def _take(text: ctypes.c_void_p) -> bytes:
    try:
        return ctypes.string_at(text)
    finally:
        _lib.untorn_free(text)


@contextlib.contextmanager
def _pinned(buffer: Buffer, writable: bool) -> Iterator[Tuple[Any, ctypes.c_size_t]]:
    """The address and the length of an object with the buffer protocol, which stays where it is meanwhile."""
    try:
        view = memoryview(buffer).cast("B")
    except TypeError as error:
        raise InvalidArgument(f"the data has no bytes in a row: {error}") from error
    anchor: Any = None
    try:
        if writable and view.readonly:
            raise InvalidArgument("the buffer is read-only")
        if view.nbytes == 0:
            pointer: Any = None
        elif view.readonly:
            anchor = buffer if isinstance(buffer, bytes) else bytes(view)
            pointer = ctypes.cast(ctypes.c_char_p(anchor), ctypes.c_void_p)
        else:
            anchor = ctypes.c_char.from_buffer(view)
            pointer = ctypes.c_void_p(ctypes.addressof(anchor))
        yield pointer, ctypes.c_size_t(view.nbytes)
    finally:
        # An exception may keep this frame, and must not keep the memory.
        anchor = None
        view.release()


class _Callback:
    """A Python function that the library calls. An exception of the function ends the call where it can be cancelled, and is
    raised behind it."""

    def __init__(self, prototype: Any, function: Optional[Callable[..., Any]],
                 goes_on: Callable[[], bool] = lambda: True) -> None:
        self.error: Optional[BaseException] = None
        if function is None:
            self.c = prototype(0)
            return

        def call(_context: Any, *arguments: Any) -> Any:
            if self.error is not None or not goes_on():
                return 0
            try:
                return 0 if function(*arguments) is False else 1
            except BaseException as error:  # pylint: disable=broad-except
                self.error = error
                return 0

        self.c = prototype(call)

    def check(self, code: int) -> None:
        """Raises what the function has raised, or the error of the call."""
        if self.error is not None:
            raise self.error
        _check(code)


def _log_callback(log: Optional[Callable[[int, str], Any]]) -> Any:
    if log is None:
        return _LOG(0)

    def call(_context: Any, level: int, message: bytes) -> None:
        try:
            log(level, os.fsdecode(message))
        except BaseException:  # pylint: disable=broad-except
            sys.excepthook(*sys.exc_info())

    return _LOG(call)


def _u64(number: int) -> ctypes.c_uint64:
    if not 0 <= number < 1 << 64:
        raise InvalidArgument(f"{number} is no offset or size")
    return ctypes.c_uint64(number)


def _memory(offset: int, length: int, size: int) -> bytearray:
    """Memory for what an object of this size has of a range."""
    return bytearray(max(0, min(_u64(length).value, size - _u64(offset).value)))


class _Handles:
    """The handles of one open store, and the calls that use it. Everything is given back once, when nothing uses it.

    The store is left alone in a child process, where nothing of it works.
    """

    def __init__(self, store: ctypes.c_void_p) -> None:
        self._store = store
        # Addresses and what gives them back, by numbers that never come back.
        self._given: Dict[int, Tuple[int, Callable[[ctypes.c_void_p], Any]]] = {}
        self._numbers = itertools.count()
        self._lock = threading.RLock()  # a finalizer may run within any of these methods
        self._unused = threading.Condition(self._lock)
        self._calls: Dict[int, int] = {}  # by thread
        self._closing = False
        self._process = os.getpid()

    def mine(self) -> bool:
        """False in a child process."""
        return os.getpid() == self._process

    def goes_on(self) -> bool:
        """False when the store is being closed."""
        return not self._closing

    @contextlib.contextmanager
    def call(self) -> Iterator[ctypes.c_void_p]:
        """While it lasts, the store is not closed."""
        if not self.mine():
            raise FailedPrecondition("the store was opened by the process that this one was forked from")
        thread = threading.get_ident()
        with self._lock:
            if self._closing:
                raise FailedPrecondition("the store is closed")
            self._calls[thread] = self._calls.get(thread, 0) + 1
        try:
            yield self._store
        finally:
            with self._lock:
                self._calls[thread] -= 1
                if self._calls[thread] == 0:
                    del self._calls[thread]
                self._unused.notify_all()

    def add(self, handle: ctypes.c_void_p, give_back: Callable[[ctypes.c_void_p], Any]) -> int:
        """Takes over an object or a transaction. Returns its number."""
        number = next(self._numbers)
        with self._lock:
            self._given[number] = (handle.value or 0, give_back)
        return number

    def find(self, number: int) -> ctypes.c_void_p:
        """Returns what has the number and was not given back."""
        given = self._given.get(number)
        if given is None:
            raise FailedPrecondition("the transaction is finished")
        return ctypes.c_void_p(given[0])

    def free(self, number: int) -> None:
        """Gives an object or a transaction back, unless that was done."""
        if not self.mine():
            return
        with self._lock:
            given = self._given.pop(number, None)
            if given is not None:
                given[1](ctypes.c_void_p(given[0]))

    def close(self) -> int:
        """Waits for the calls of other threads, gives everything back, and returns the code of the close."""
        if not self.mine():
            return 0
        with self._lock:
            if threading.get_ident() in self._calls:
                raise FailedPrecondition("a store cannot be closed from within one of its calls")
            if self._closing:
                return 0
            self._closing = True
            while self._calls:
                self._unused.wait()
            for number in list(self._given):
                self.free(number)
        return _lib.untorn_store_close(self._store)


class _Handle:
    """What an Object and a Transaction have in common. It cannot be copied, because its handle is given back once."""

    def __init__(self, handles: _Handles, handle: ctypes.c_void_p,
                 give_back: Callable[[ctypes.c_void_p], Any]) -> None:
        self._handles = handles
        self._number = handles.add(handle, give_back)

    def __reduce__(self) -> Any:
        raise TypeError(f"a {type(self).__name__} of untorn cannot be copied or pickled")

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self._free()

    def _free(self) -> None:
        self._handles.free(self._number)

    @contextlib.contextmanager
    def _use(self) -> Iterator[ctypes.c_void_p]:
        with self._handles.call():
            yield self._handles.find(self._number)


def _text(call: Callable[..., int], handle: ctypes.c_void_p) -> bytes:
    text = ctypes.c_void_p()
    _check(call(handle, ctypes.byref(text)))
    return _take(text)


def _flag(sync: Any) -> int:
    return 1 if sync else 0


class Object(_Handle):
    """A handle to an object. Valid until its store is closed."""

    def __init__(self, handles: _Handles, handle: ctypes.c_void_p) -> None:
        super().__init__(handles, handle, _lib.untorn_object_free)

    @property
    def id(self) -> int:
        """The number of the object, which no other object of the store ever has."""
        with self._use() as handle:
            return _lib.untorn_object_id(handle)

    @property
    def name(self) -> str:
        """The name now."""
        with self._use() as handle:
            return os.fsdecode(_text(_lib.untorn_object_name, handle))

    @property
    def size(self) -> int:
        """The size now, in bytes."""
        size = ctypes.c_uint64()
        with self._use() as handle:
            _check(_lib.untorn_object_size(handle, ctypes.byref(size)))
        return size.value

    def read(self, offset: int, length: int, *, bypass_cache: bool = False) -> bytes:
        """Returns what there is of `length` bytes from `offset` on."""
        out = _memory(offset, length, self.size)
        got = self.readinto(offset, out, bypass_cache=bypass_cache)
        return bytes(memoryview(out)[:got])

    def readinto(self, offset: int, out: Buffer, *, bypass_cache: bool = False) -> int:
        """Reads into a writable buffer. Returns how many bytes there were before the end of the object."""
        got = ctypes.c_size_t()
        with self._use() as handle, _pinned(out, True) as (pointer, length):
            _check(_lib.untorn_object_read(handle, _u64(offset), pointer, length, 4 if bypass_cache else 0,
                                           ctypes.byref(got)))
        return got.value

    def write(self, offset: int, data: Buffer, *, sync: bool = False, atomic: bool = True,
              bypass_cache: bool = False) -> None:
        """Writes `data`, whole or not at all. With `sync`, returns when the data is durable."""
        flags = _flag(sync) | (0 if atomic else 2) | (4 if bypass_cache else 0)
        with self._use() as handle, _pinned(data, False) as (pointer, length):
            _check(_lib.untorn_object_write(handle, _u64(offset), pointer, length, flags))

    def truncate(self, size: int, *, sync: bool = False) -> None:
        """Sets the size."""
        with self._use() as handle:
            _check(_lib.untorn_object_truncate(handle, _u64(size), _flag(sync)))

    def punch_hole(self, offset: int, length: int, *, sync: bool = False) -> None:
        """Makes the range read as zeros, and gives its space back."""
        with self._use() as handle:
            _check(_lib.untorn_object_punch_hole(handle, _u64(offset), _u64(length), _flag(sync)))

    def preallocate(self, offset: int, length: int) -> None:
        """Allocates space for the range. Durable when the call returns."""
        with self._use() as handle:
            _check(_lib.untorn_object_preallocate(handle, _u64(offset), _u64(length)))

    def sync(self, offset: Optional[int] = None, length: Optional[int] = None) -> None:
        """Returns when everything of the object, or of the range, is durable that was accepted before."""
        with self._use() as handle:
            if offset is None or length is None:
                _check(_lib.untorn_object_sync(handle))
            else:
                _check(_lib.untorn_object_sync_range(handle, _u64(offset), _u64(length)))


class Transaction(_Handle):
    """A list of changes that commits whole or not at all. As a context manager, it commits at the end of the block, or
    is abandoned if the block raises. One thread at a time may use it."""

    def __init__(self, handles: _Handles, sync: bool) -> None:
        self._sync, self._ended = sync, False
        handle = ctypes.c_void_p()
        with handles.call() as store:
            _check(_lib.untorn_transaction_begin(store, ctypes.byref(handle)))
            super().__init__(handles, handle, _lib.untorn_transaction_free)

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None:
            self.abandon()
        elif not self._ended:
            self.commit()

    def commit(self) -> None:
        """Commits all changes or none. The transaction is finished then."""
        try:
            with self._use() as handle:
                _check(_lib.untorn_transaction_commit(handle, _flag(self._sync)))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Drops the changes, unless they are committed."""
        self._ended = True
        self._free()

    def absorb(self, other: "Transaction") -> None:
        """Takes over the changes of another transaction of the store, which is finished then."""
        with self._use() as handle, other._use() as taken:
            _check(_lib.untorn_transaction_absorb(handle, taken))
        other.abandon()

    def create(self, name: Union[str, bytes]) -> Object:
        """Creates an object, which only this transaction can use until it has committed."""
        made = ctypes.c_void_p()
        with self._use() as handle:
            _check(_lib.untorn_transaction_create(handle, _encoded(name), ctypes.byref(made)))
            return Object(self._handles, made)

    def open(self, name: Union[str, bytes]) -> Object:
        """Opens an object by the name that it has in the transaction."""
        opened = ctypes.c_void_p()
        with self._use() as handle:
            _check(_lib.untorn_transaction_open(handle, _encoded(name), ctypes.byref(opened)))
            return Object(self._handles, opened)

    def rename(self, old: Union[str, bytes], new: Union[str, bytes]) -> None:
        """Gives an object another name."""
        with self._use() as handle:
            _check(_lib.untorn_transaction_rename(handle, _encoded(old), _encoded(new)))

    def remove(self, name: Union[str, bytes]) -> None:
        """Removes an object."""
        with self._use() as handle:
            _check(_lib.untorn_transaction_remove(handle, _encoded(name)))

    def read(self, obj: Object, offset: int, length: int) -> bytes:
        """Returns what the transaction sees of the range."""
        out = _memory(offset, length, self.size(obj))
        got = ctypes.c_size_t()
        with self._use() as handle, obj._use() as of, _pinned(out, True) as (pointer, size):
            _check(_lib.untorn_transaction_read(handle, of, _u64(offset), pointer, size, ctypes.byref(got)))
        return bytes(memoryview(out)[:got.value])

    def write(self, obj: Object, offset: int, data: Buffer) -> None:
        """Writes data."""
        with self._use() as handle, obj._use() as to, _pinned(data, False) as (pointer, length):
            _check(_lib.untorn_transaction_write(handle, to, _u64(offset), pointer, length))

    def truncate(self, obj: Object, size: int) -> None:
        """Sets the size of an object."""
        with self._use() as handle, obj._use() as of:
            _check(_lib.untorn_transaction_truncate(handle, of, _u64(size)))

    def punch_hole(self, obj: Object, offset: int, length: int) -> None:
        """Makes a range of an object read as zeros."""
        with self._use() as handle, obj._use() as of:
            _check(_lib.untorn_transaction_punch_hole(handle, of, _u64(offset), _u64(length)))

    def size(self, obj: Object) -> int:
        """The size that the transaction sees."""
        size = ctypes.c_uint64()
        with self._use() as handle, obj._use() as of:
            _check(_lib.untorn_transaction_size(handle, of, ctypes.byref(size)))
        return size.value


class Store:
    """An open store. As a context manager, it is closed at the end of the block. In a fork()ed child every call fails, and
    closing does nothing."""

    def __init__(self, path: Union[str, bytes, "os.PathLike[str]"], *, read_only: bool = False,
                 policy: Policy = Policy.AUTOMATIC, cache: int = 0, stated_atomic_unit: int = 0,
                 io_uring: bool = True, log: Optional[Callable[[int, str], Any]] = None) -> None:
        self._log = _log_callback(log)
        options = _OpenOptions(ctypes.sizeof(_OpenOptions), _flag(read_only), Policy(policy), _flag(not io_uring),
                               _u64(stated_atomic_unit).value, _u64(cache).value, self._log, None)
        handle = ctypes.c_void_p()
        _check(_lib.untorn_store_open(_encoded(path), ctypes.byref(options), ctypes.byref(handle)))
        self._handles = _Handles(handle)
        _open_stores.add(self)

    def __reduce__(self) -> Any:
        raise TypeError("a Store of untorn cannot be copied or pickled")

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handles"):
            self.close()

    def close(self) -> None:
        """Makes everything durable, and releases the store. Waits for the calls of other threads, whose next calls fail, and
        abandons open transactions."""
        _check(self._handles.close())

    def create(self, name: Union[str, bytes], *, sync: bool = False) -> Object:
        """Creates an object."""
        handle = ctypes.c_void_p()
        with self._handles.call() as store:
            _check(_lib.untorn_object_create(store, _encoded(name), _flag(sync), ctypes.byref(handle)))
            return Object(self._handles, handle)

    def open(self, name: Union[str, bytes]) -> Object:
        """Opens an object."""
        handle = ctypes.c_void_p()
        with self._handles.call() as store:
            _check(_lib.untorn_object_open(store, _encoded(name), ctypes.byref(handle)))
            return Object(self._handles, handle)

    def rename(self, old: Union[str, bytes], new: Union[str, bytes], *, sync: bool = False) -> None:
        """Gives an object another name."""
        with self._handles.call() as store:
            _check(_lib.untorn_store_rename(store, _encoded(old), _encoded(new), _flag(sync)))

    def remove(self, name: Union[str, bytes], *, sync: bool = False) -> None:
        """Removes an object."""
        with self._handles.call() as store:
            _check(_lib.untorn_store_remove(store, _encoded(name), _flag(sync)))

    def list(self, after: Union[str, bytes] = "") -> Iterator[ObjectInfo]:
        """The objects behind the name `after`, in the byte order of their names."""
        last = _encoded(after)
        while True:
            some: List[Tuple[bytes, int, int]] = []

            def take(name: bytes, number: int, size: int) -> bool:
                some.append((name, number, size))
                return len(some) < 1000

            callback = _Callback(_LIST, take)
            with self._handles.call() as store:
                callback.check(_lib.untorn_store_list(store, last, callback.c, None))
            for name, number, size in some:
                yield ObjectInfo(os.fsdecode(name), number, size)
            if len(some) < 1000:
                return
            last = some[-1][0]

    def __iter__(self) -> Iterator[ObjectInfo]:
        return self.list()

    def __contains__(self, name: Union[str, bytes]) -> bool:
        try:
            self.open(name)
            return True
        except NotFound:
            return False

    def barrier(self) -> None:
        """Nothing accepted behind the barrier becomes durable before everything that was accepted before."""
        with self._handles.call() as store:
            _check(_lib.untorn_store_barrier(store))

    def sync(self) -> None:
        """Returns when everything is durable that was accepted before."""
        with self._handles.call() as store:
            _check(_lib.untorn_store_sync(store))

    def refresh(self) -> None:
        """Brings what is read up to date, in a store that was opened with read_only=True while another process had it open
        for writing. Afterwards the store and its objects show all that was durable at the call. Raises Unavailable if no
        process has the store open for writing now."""
        with self._handles.call() as store:
            _check(_lib.untorn_store_refresh(store))

    def checkpoint(self) -> None:
        """Writes a checkpoint."""
        with self._handles.call() as store:
            _check(_lib.untorn_store_checkpoint(store))

    def resize(self, size: int, *, progress: Optional[Progress] = None) -> None:
        """Sets the most that the store may take."""
        callback = _Callback(_PROGRESS, progress, self._handles.goes_on)
        with self._handles.call() as store:
            callback.check(_lib.untorn_store_resize(store, _u64(size), callback.c, None))

    def trim(self, *, progress: Optional[Progress] = None) -> Tuple[int, int, int]:
        """Gives space back to the file system. Returns the file's size before and after, and the bytes that moved."""
        callback = _Callback(_PROGRESS, progress, self._handles.goes_on)
        before, after, moved = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        with self._handles.call() as store:
            callback.check(_lib.untorn_store_trim(store, callback.c, None, ctypes.byref(before), ctypes.byref(after),
                                                  ctypes.byref(moved)))
        return before.value, after.value, moved.value

    def scrub(self, *, bytes_per_second: int = 0, progress: Optional[Progress] = None) -> ScrubResult:
        """Reads all data from the device, and compares it with its checksums. Names the first 1000 damaged ranges."""
        damaged: List[DamagedRange] = []

        def take(name: bytes, number: int, offset: int, length: int, why: bytes) -> None:
            damaged.append(DamagedRange(os.fsdecode(name), number, offset, length, os.fsdecode(why)))

        told, damage = _Callback(_PROGRESS, progress, self._handles.goes_on), _Callback(_DAMAGE, take)
        options = _ScrubOptions(ctypes.sizeof(_ScrubOptions), _u64(bytes_per_second).value, told.c, damage.c, None)
        result = _ScrubResult(struct_size=ctypes.sizeof(_ScrubResult))
        with self._handles.call() as store:
            code = _lib.untorn_store_scrub(store, ctypes.byref(options), ctypes.byref(result))
            for callback in (told, damage):
                callback.check(code)
        return ScrubResult(result.objects, result.bytes, result.blocks_adopted, result.damaged_total, damaged)

    def transaction(self, *, sync: bool = True) -> Transaction:
        """Begins a transaction. With `sync`, its commit returns when the transaction is durable."""
        return Transaction(self._handles, sync)

    @property
    def info(self) -> Dict[str, Any]:
        """What `untorn info --json` tells."""
        with self._handles.call() as store:
            return json.loads(_text(_lib.untorn_store_info_json, store))

    @property
    def stats(self) -> Dict[str, Any]:
        """What `untorn stats --json` tells, since this process opened the store."""
        with self._handles.call() as store:
            return json.loads(_text(_lib.untorn_store_stats_json, store))

    def metrics(self) -> str:
        """The same numbers in the text format of Prometheus, for a page of metrics of this program."""
        with self._handles.call() as store:
            return _text(_lib.untorn_store_metrics, store).decode()


_open_stores: "weakref.WeakSet[Store]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Daemon threads may still be in calls. The interpreter must not end under them."""
    for store in list(_open_stores):
        try:
            store.close()
        except Error as error:
            print(f"untorn: a store is closed at the end of the program: {error}", file=sys.stderr)


def open(path: Union[str, bytes, "os.PathLike[str]"], **options: Any) -> Store:  # pylint: disable=redefined-builtin
    """Opens a store. The options are those of Store."""
    return Store(path, **options)


def create(path: Union[str, bytes, "os.PathLike[str]"], *, size: int = 0, force: bool = False, prepare: bool = False,
           progress: Optional[Progress] = None) -> None:
    """Makes a store. `size` is the most that the store may take; 0 is as much as there is. What `progress` raises comes when
    the store is made."""
    callback = _Callback(_PROGRESS, progress)
    options = _CreateOptions(ctypes.sizeof(_CreateOptions), _u64(size).value, _flag(force), _flag(prepare), callback.c,
                             None)
    callback.check(_lib.untorn_store_create(_encoded(path), ctypes.byref(options)))


def _checked(data: bool, dry_run: bool, progress: Optional[Progress]) -> Tuple[_CheckOptions, List[Finding], Any]:
    found: List[Finding] = []
    finding = _Callback(_FINDING, lambda number, name, what: found.append(
        Finding(number, name.decode(), os.fsdecode(what))))
    told = _Callback(_PROGRESS, progress)
    options = _CheckOptions(ctypes.sizeof(_CheckOptions), _flag(data), _flag(dry_run), finding.c, told.c, None)
    return options, found, (finding, told)


def fsck(path: Union[str, bytes, "os.PathLike[str]"], *, data: bool = False,
         progress: Optional[Progress] = None) -> List[Finding]:
    """Checks a store, which need not be fit to be opened. Returns the first 1000 findings; none for a sound store."""
    options, found, callbacks = _checked(data, False, progress)
    total = ctypes.c_uint64()
    code = _lib.untorn_fsck(_encoded(path), ctypes.byref(options), ctypes.byref(total))
    for callback in callbacks:
        callback.check(code)
    return found


def repair(path: Union[str, bytes, "os.PathLike[str]"], *, dry_run: bool = False,
           progress: Optional[Progress] = None) -> RepairResult:
    """Repairs what fsck finds. With `dry_run`, only says what a repair would do. What `progress` raises comes when the repair
    is done."""
    options, found, callbacks = _checked(False, dry_run, progress)
    actions, quarantined = ctypes.c_uint64(), ctypes.c_uint64()
    code = _lib.untorn_repair(_encoded(path), ctypes.byref(options), ctypes.byref(actions), ctypes.byref(quarantined))
    for callback in callbacks:
        callback.check(code)
    return RepairResult([f for f in found if f.number > 0], [f.what for f in found if f.number == 0],
                        quarantined.value)


def register_sqlite(*, default: bool = False) -> None:
    """Registers the VFS "untorn" with the SQLite of this process, if that is the system's libsqlite3.so.0. Python's sqlite3
    then opens databases of a store, also where it cannot load extensions:

        untorn.register_sqlite()
        sqlite3.connect("file:app.db?vfs=untorn&store=app.untorn", uri=True)

    With `default`, names without vfs= are databases of the store that the variable UNTORN_STORE names. docs/sqlite.md says
    more. May be called again.
    """
    code = _library("UNTORN_SQLITE_LIBRARY", "untorn/untorn_sqlite_preload.so").untorn_sqlite_register(int(default))
    if code != 0:
        raise Error(f"SQLite does not register the VFS: its error code is {code}")


def dump(path: Union[str, bytes, "os.PathLike[str]"]) -> Dict[str, Any]:
    """The metadata of a store, also of one that cannot be opened."""
    text = ctypes.c_void_p()
    _check(_lib.untorn_dump_json(_encoded(path), ctypes.byref(text)))
    return json.loads(_take(text))
