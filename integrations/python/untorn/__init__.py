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
arrays. Calls release the interpreter's lock, so threads read and write at the same time.

Errors are exceptions of class untorn.Error, or of a class below it. Some of those are also what Python programs expect:
untorn.NotFound is a FileNotFoundError, untorn.AlreadyExists a FileExistsError.

UNTORN_LIBRARY names the library where the system does not find it, and UNTORN_SQLITE_LIBRARY that of register_sqlite().
"""

import ctypes
import ctypes.util
import enum
import json
import os
import weakref
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Type, Union

__all__ = [
    "Aborted", "AlreadyExists", "Cancelled", "DamagedRange", "DataLoss", "Error", "FailedPrecondition", "Finding", "InvalidArgument", "NotFound",
    "Object", "ObjectInfo", "Policy", "PermissionDenied", "RepairResult", "ResourceExhausted", "ScrubResult", "Store", "Transaction", "Unavailable", "create", "dump",
    "fsck", "open", "register_sqlite", "repair", "version",
]

Buffer = Union[bytes, bytearray, memoryview, Any]
Progress = Callable[[int, int], Any]


class Error(Exception):
    """An error of the library. The message has the object, the range and the cause."""


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
    """The change is accepted and not durable yet, because the file system below has no space."""


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
    raise _ERRORS.get(code, Error)(os.fsdecode(_lib.untorn_message()))


def _name(name: Union[str, bytes]) -> bytes:
    """The bytes of an object's name. Names of other bytes than UTF-8 come and go as Python's file names do."""
    encoded = os.fsencode(name)
    if b"\0" in encoded:
        raise InvalidArgument("a name has a NUL byte")
    return encoded


def _path(path: Union[str, bytes, "os.PathLike[str]"]) -> bytes:
    return os.fsencode(path)


def _take(text: ctypes.c_void_p) -> bytes:
    try:
        return ctypes.string_at(text)
    finally:
        _lib.untorn_free(text)


class _Pinned:
    """The memory of an object with the buffer protocol, while a call uses it."""

    def __init__(self, buffer: Buffer, writable: bool) -> None:
        self._view = memoryview(buffer).cast("B") if memoryview(buffer).contiguous else None
        if self._view is None:
            raise InvalidArgument("the buffer is not contiguous")
        if writable and self._view.readonly:
            raise InvalidArgument("the buffer is read-only")
        self.length = self._view.nbytes
        if isinstance(buffer, bytes):
            self.pointer: Any = ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p)
        elif self._view.readonly:
            self._copy = bytes(self._view)
            self.pointer = ctypes.cast(ctypes.c_char_p(self._copy), ctypes.c_void_p)
        else:
            self._array = (ctypes.c_char * self.length).from_buffer(self._view)
            # Not by ctypes.cast(): it would keep the memory beyond the call.
            self.pointer = ctypes.c_void_p(ctypes.addressof(self._array))


class _Callback:
    """A Python function that the library calls. An exception of the function ends the call, and is raised behind it."""

    def __init__(self, prototype: Any, function: Optional[Callable[..., Any]]) -> None:
        self.error: Optional[BaseException] = None
        if function is None:
            self.c = prototype(0)
            return

        def call(_context: Any, *arguments: Any) -> Any:
            if self.error is not None:
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


class Object:
    """A handle to an object. Valid until its store is closed."""

    def __init__(self, store: "Store", handle: ctypes.c_void_p) -> None:
        self._store = store
        self._handle: Optional[ctypes.c_void_p] = handle
        store._objects.add(self)

    def _open(self) -> ctypes.c_void_p:
        if self._handle is None:
            raise FailedPrecondition("the store is closed")
        return self._handle

    def _free(self) -> None:
        if self._handle is not None:
            _lib.untorn_object_free(self._handle)
            self._handle = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._free()

    @property
    def id(self) -> int:
        """The number of the object, which no other object of the store ever has."""
        return _lib.untorn_object_id(self._open())

    @property
    def name(self) -> str:
        """The name now."""
        text = ctypes.c_void_p()
        _check(_lib.untorn_object_name(self._open(), ctypes.byref(text)))
        return os.fsdecode(_take(text))

    @property
    def size(self) -> int:
        """The size now, in bytes."""
        size = ctypes.c_uint64()
        _check(_lib.untorn_object_size(self._open(), ctypes.byref(size)))
        return size.value

    def read(self, offset: int, length: int, *, bypass_cache: bool = False) -> bytes:
        """Returns what there is of `length` bytes from `offset` on."""
        length = max(0, min(length, self.size - offset))
        out = bytearray(length)
        got = self.readinto(offset, out, bypass_cache=bypass_cache) if length > 0 else 0
        return bytes(memoryview(out)[:got])

    def readinto(self, offset: int, out: Buffer, *, bypass_cache: bool = False) -> int:
        """Reads into a writable buffer. Returns how many bytes there were before the end of the object."""
        pinned, got = _Pinned(out, True), ctypes.c_size_t()
        _check(_lib.untorn_object_read(self._open(), _u64(offset), pinned.pointer, ctypes.c_size_t(pinned.length),
                                       4 if bypass_cache else 0, ctypes.byref(got)))
        return got.value

    def write(self, offset: int, data: Buffer, *, sync: bool = False, atomic: bool = True,
              bypass_cache: bool = False) -> None:
        """Writes `data`, whole or not at all. With `sync`, returns when the data is durable."""
        pinned = _Pinned(data, False)
        flags = (1 if sync else 0) | (0 if atomic else 2) | (4 if bypass_cache else 0)
        _check(_lib.untorn_object_write(self._open(), _u64(offset), pinned.pointer, ctypes.c_size_t(pinned.length),
                                        flags))

    def truncate(self, size: int, *, sync: bool = False) -> None:
        """Sets the size."""
        _check(_lib.untorn_object_truncate(self._open(), _u64(size), int(sync)))

    def punch_hole(self, offset: int, length: int, *, sync: bool = False) -> None:
        """Makes the range read as zeros, and gives its space back."""
        _check(_lib.untorn_object_punch_hole(self._open(), _u64(offset), _u64(length), int(sync)))

    def preallocate(self, offset: int, length: int) -> None:
        """Allocates space for the range. Durable when the call returns."""
        _check(_lib.untorn_object_preallocate(self._open(), _u64(offset), _u64(length)))

    def sync(self, offset: Optional[int] = None, length: Optional[int] = None) -> None:
        """Returns when everything of the object, or of the range, is durable that was accepted before."""
        if offset is None or length is None:
            _check(_lib.untorn_object_sync(self._open()))
        else:
            _check(_lib.untorn_object_sync_range(self._open(), _u64(offset), _u64(length)))


def _u64(number: int) -> ctypes.c_uint64:
    if not 0 <= number < 1 << 64:
        raise InvalidArgument(f"{number} is no offset or size")
    return ctypes.c_uint64(number)


class Transaction:
    """A list of changes that commits whole or not at all. As a context manager, it commits at the end of the block, or
    is abandoned if the block raises."""

    def __init__(self, store: "Store", sync: bool) -> None:
        self._store, self._sync = store, sync
        handle = ctypes.c_void_p()
        _check(_lib.untorn_transaction_begin(store._open(), ctypes.byref(handle)))
        self._handle: Optional[ctypes.c_void_p] = handle
        store._transactions.add(self)

    def _open(self) -> ctypes.c_void_p:
        if self._handle is None:
            raise FailedPrecondition("the transaction is finished")
        return self._handle

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None:
            self.abandon()
        elif self._handle is not None:
            self.commit()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.abandon()

    def commit(self) -> None:
        """Commits all changes or none. The transaction is finished then."""
        try:
            _check(_lib.untorn_transaction_commit(self._open(), int(self._sync)))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Drops the changes, unless they are committed."""
        if self._handle is not None:
            _lib.untorn_transaction_free(self._handle)
            self._handle = None
            self._store._transactions.discard(self)

    def absorb(self, other: "Transaction") -> None:
        """Takes over the changes of another transaction of the store, which is finished then."""
        _check(_lib.untorn_transaction_absorb(self._open(), other._open()))
        other.abandon()

    def create(self, name: Union[str, bytes]) -> Object:
        """Creates an object, which only this transaction can use until it has committed."""
        handle = ctypes.c_void_p()
        _check(_lib.untorn_transaction_create(self._open(), _name(name), ctypes.byref(handle)))
        return Object(self._store, handle)

    def open(self, name: Union[str, bytes]) -> Object:
        """Opens an object by the name that it has in the transaction."""
        handle = ctypes.c_void_p()
        _check(_lib.untorn_transaction_open(self._open(), _name(name), ctypes.byref(handle)))
        return Object(self._store, handle)

    def rename(self, old: Union[str, bytes], new: Union[str, bytes]) -> None:
        """Gives an object another name."""
        _check(_lib.untorn_transaction_rename(self._open(), _name(old), _name(new)))

    def remove(self, name: Union[str, bytes]) -> None:
        """Removes an object."""
        _check(_lib.untorn_transaction_remove(self._open(), _name(name)))

    def read(self, obj: Object, offset: int, length: int) -> bytes:
        """Returns what the transaction sees of the range."""
        length = max(0, min(length, self.size(obj) - offset))
        if length == 0:
            return b""
        out, got = bytearray(length), ctypes.c_size_t()
        pinned = _Pinned(out, True)
        _check(_lib.untorn_transaction_read(self._open(), obj._open(), _u64(offset), pinned.pointer,
                                            ctypes.c_size_t(length), ctypes.byref(got)))
        return bytes(memoryview(out)[:got.value])

    def write(self, obj: Object, offset: int, data: Buffer) -> None:
        """Writes data."""
        pinned = _Pinned(data, False)
        _check(_lib.untorn_transaction_write(self._open(), obj._open(), _u64(offset), pinned.pointer,
                                             ctypes.c_size_t(pinned.length)))

    def truncate(self, obj: Object, size: int) -> None:
        """Sets the size of an object."""
        _check(_lib.untorn_transaction_truncate(self._open(), obj._open(), _u64(size)))

    def punch_hole(self, obj: Object, offset: int, length: int) -> None:
        """Makes a range of an object read as zeros."""
        _check(_lib.untorn_transaction_punch_hole(self._open(), obj._open(), _u64(offset), _u64(length)))

    def size(self, obj: Object) -> int:
        """The size that the transaction sees."""
        size = ctypes.c_uint64()
        _check(_lib.untorn_transaction_size(self._open(), obj._open(), ctypes.byref(size)))
        return size.value


class Store:
    """An open store. As a context manager, it is closed at the end of the block. Do not share it with a fork()ed child."""

    def __init__(self, path: Union[str, bytes, "os.PathLike[str]"], *, read_only: bool = False,
                 policy: Policy = Policy.AUTOMATIC, cache: int = 0, stated_atomic_unit: int = 0,
                 io_uring: bool = True, log: Optional[Callable[[int, str], Any]] = None) -> None:
        self._handle: Optional[ctypes.c_void_p] = None
        self._objects: "weakref.WeakSet[Object]" = weakref.WeakSet()
        self._transactions: "weakref.WeakSet[Transaction]" = weakref.WeakSet()
        tell = None if log is None else lambda level, message: log(level, os.fsdecode(message))
        self._log = _Callback(_LOG, tell)
        options = _OpenOptions(ctypes.sizeof(_OpenOptions), read_only, policy, not io_uring, stated_atomic_unit, cache,
                               self._log.c, None)
        handle = ctypes.c_void_p()
        _check(_lib.untorn_store_open(_path(path), ctypes.byref(options), ctypes.byref(handle)))
        self._handle = handle

    def _open(self) -> ctypes.c_void_p:
        if self._handle is None:
            raise FailedPrecondition("the store is closed")
        return self._handle

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def close(self) -> None:
        """Makes everything durable, and releases the store. Open transactions are abandoned."""
        for transaction in list(self._transactions):
            transaction.abandon()
        for obj in list(self._objects):
            obj._free()
        handle, self._handle = self._handle, None
        _check(_lib.untorn_store_close(handle))

    def create(self, name: Union[str, bytes], *, sync: bool = False) -> Object:
        """Creates an object."""
        handle = ctypes.c_void_p()
        _check(_lib.untorn_object_create(self._open(), _name(name), int(sync), ctypes.byref(handle)))
        return Object(self, handle)

    def open(self, name: Union[str, bytes]) -> Object:
        """Opens an object."""
        handle = ctypes.c_void_p()
        _check(_lib.untorn_object_open(self._open(), _name(name), ctypes.byref(handle)))
        return Object(self, handle)

    def rename(self, old: Union[str, bytes], new: Union[str, bytes], *, sync: bool = False) -> None:
        """Gives an object another name."""
        _check(_lib.untorn_store_rename(self._open(), _name(old), _name(new), int(sync)))

    def remove(self, name: Union[str, bytes], *, sync: bool = False) -> None:
        """Removes an object."""
        _check(_lib.untorn_store_remove(self._open(), _name(name), int(sync)))

    def list(self, after: Union[str, bytes] = "") -> Iterator[ObjectInfo]:
        """The objects behind the name `after`, in the byte order of their names."""
        last = _name(after)
        while True:
            some: List[Tuple[bytes, int, int]] = []

            def take(name: bytes, number: int, size: int) -> bool:
                some.append((name, number, size))
                return len(some) < 1000

            callback = _Callback(_LIST, take)
            callback.check(_lib.untorn_store_list(self._open(), last, callback.c, None))
            for name, number, size in some:
                yield ObjectInfo(os.fsdecode(name), number, size)
            if len(some) < 1000:
                return
            last = some[-1][0]

    def __iter__(self) -> Iterator[ObjectInfo]:
        return self.list()

    def __contains__(self, name: Union[str, bytes]) -> bool:
        try:
            self.open(name)._free()
            return True
        except NotFound:
            return False

    def barrier(self) -> None:
        """Nothing accepted behind the barrier becomes durable before everything that was accepted before."""
        _check(_lib.untorn_store_barrier(self._open()))

    def sync(self) -> None:
        """Returns when everything is durable that was accepted before."""
        _check(_lib.untorn_store_sync(self._open()))

    def checkpoint(self) -> None:
        """Writes a checkpoint."""
        _check(_lib.untorn_store_checkpoint(self._open()))

    def resize(self, size: int, *, progress: Optional[Progress] = None) -> None:
        """Sets the most that the store may take."""
        callback = _Callback(_PROGRESS, progress)
        callback.check(_lib.untorn_store_resize(self._open(), _u64(size), callback.c, None))

    def trim(self, *, progress: Optional[Progress] = None) -> Tuple[int, int, int]:
        """Gives space back to the file system. Returns the file's size before and after, and the bytes that moved."""
        callback = _Callback(_PROGRESS, progress)
        before, after, moved = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        callback.check(_lib.untorn_store_trim(self._open(), callback.c, None, ctypes.byref(before),
                                              ctypes.byref(after), ctypes.byref(moved)))
        return before.value, after.value, moved.value

    def scrub(self, *, bytes_per_second: int = 0, progress: Optional[Progress] = None) -> ScrubResult:
        """Reads all data from the device, and compares it with its checksums. Names the first 1000 damaged ranges."""
        damaged: List[DamagedRange] = []

        def take(name: bytes, number: int, offset: int, length: int, why: bytes) -> None:
            damaged.append(DamagedRange(os.fsdecode(name), number, offset, length, os.fsdecode(why)))

        told, damage = _Callback(_PROGRESS, progress), _Callback(_DAMAGE, take)
        options = _ScrubOptions(ctypes.sizeof(_ScrubOptions), bytes_per_second, told.c, damage.c, None)
        result = _ScrubResult(struct_size=ctypes.sizeof(_ScrubResult))
        code = _lib.untorn_store_scrub(self._open(), ctypes.byref(options), ctypes.byref(result))
        for callback in (told, damage):
            callback.check(code)
        return ScrubResult(result.objects, result.bytes, result.blocks_adopted, result.damaged_total, damaged)

    def transaction(self, *, sync: bool = True) -> Transaction:
        """Begins a transaction. With `sync`, its commit returns when the transaction is durable."""
        return Transaction(self, sync)

    @property
    def info(self) -> Dict[str, Any]:
        """What `untorn info --json` tells."""
        text = ctypes.c_void_p()
        _check(_lib.untorn_store_info_json(self._open(), ctypes.byref(text)))
        return json.loads(_take(text))

    @property
    def stats(self) -> Dict[str, Any]:
        """What `untorn stats --json` tells, since this process opened the store."""
        text = ctypes.c_void_p()
        _check(_lib.untorn_store_stats_json(self._open(), ctypes.byref(text)))
        return json.loads(_take(text))


def open(path: Union[str, bytes, "os.PathLike[str]"], **options: Any) -> Store:  # pylint: disable=redefined-builtin
    """Opens a store. The options are those of Store."""
    return Store(path, **options)


def create(path: Union[str, bytes, "os.PathLike[str]"], *, size: int = 0, force: bool = False, prepare: bool = False,
           progress: Optional[Progress] = None) -> None:
    """Makes a store. `size` is the most that the store may take; 0 is as much as there is."""
    callback = _Callback(_PROGRESS, progress)
    options = _CreateOptions(ctypes.sizeof(_CreateOptions), size, force, prepare, callback.c, None)
    callback.check(_lib.untorn_store_create(_path(path), ctypes.byref(options)))


def _checked(data: bool, dry_run: bool, progress: Optional[Progress]) -> Tuple[_CheckOptions, List[Finding], Any]:
    found: List[Finding] = []
    finding = _Callback(_FINDING, lambda number, name, what: found.append(
        Finding(number, name.decode(), os.fsdecode(what))))
    told = _Callback(_PROGRESS, progress)
    options = _CheckOptions(ctypes.sizeof(_CheckOptions), data, dry_run, finding.c, told.c, None)
    return options, found, (finding, told)


def fsck(path: Union[str, bytes, "os.PathLike[str]"], *, data: bool = False,
         progress: Optional[Progress] = None) -> List[Finding]:
    """Checks a store, which need not be fit to be opened. Returns the first 1000 findings; none for a sound store."""
    options, found, callbacks = _checked(data, False, progress)
    total = ctypes.c_uint64()
    code = _lib.untorn_fsck(_path(path), ctypes.byref(options), ctypes.byref(total))
    for callback in callbacks:
        callback.check(code)
    return found


def repair(path: Union[str, bytes, "os.PathLike[str]"], *, dry_run: bool = False,
           progress: Optional[Progress] = None) -> RepairResult:
    """Repairs what fsck finds. With `dry_run`, only says what a repair would do."""
    options, found, callbacks = _checked(False, dry_run, progress)
    actions, quarantined = ctypes.c_uint64(), ctypes.c_uint64()
    code = _lib.untorn_repair(_path(path), ctypes.byref(options), ctypes.byref(actions), ctypes.byref(quarantined))
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
    _check(_lib.untorn_dump_json(_path(path), ctypes.byref(text)))
    return json.loads(_take(text))
