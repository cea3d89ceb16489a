"""Python's sqlite3 on a store. Arguments: the extension or "none", the store, and "default" where no URI is to be given."""

import os
import sqlite3
import sys
import threading

extension, store, how = sys.argv[1:4]
THREADS, UPDATES = 4, 50

if extension != "none":
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.load_extension(extension)
    loader.close()


def connect(name="app.db"):
    if how == "default":
        connection = sqlite3.connect(name, timeout=60)
    else:
        connection = sqlite3.connect(f"file:{name}?vfs=untorn&store={store}", timeout=60, uri=True)
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    assert mode == ("delete",), mode
    assert connection.execute("PRAGMA mmap_size=268435456").fetchone() == (0,)
    return connection


first = connect()
with first:
    first.execute("CREATE TABLE counter(n)")
    first.execute("INSERT INTO counter VALUES (0)")
try:
    with first:
        first.execute("UPDATE counter SET n = 1000")
        raise RuntimeError("roll back")
except RuntimeError:
    pass


def count():
    connection = connect()
    connection.isolation_level = None
    for _ in range(UPDATES):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE counter SET n = n + 1")
        connection.execute("COMMIT")
    connection.close()


threads = [threading.Thread(target=count) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert first.execute("SELECT n FROM counter").fetchone() == (THREADS * UPDATES,)

copy = sqlite3.connect(":memory:")
first.backup(copy)
assert copy.execute("SELECT n FROM counter").fetchone() == (THREADS * UPDATES,)
back = connect("restored.db")
copy.backup(back)
assert back.execute("SELECT n FROM counter").fetchone() == (THREADS * UPDATES,)
# Backups in one step while another thread writes end, and are one state each.
with first:
    first.execute("CREATE TABLE pair(a, b, filler)")
    first.executemany("INSERT INTO pair VALUES (0, 0, randomblob(3000))", ([] for _ in range(1000)))
stop = threading.Event()


def write():
    connection = connect()
    while not stop.is_set():
        with connection:
            connection.execute("UPDATE pair SET a = a + 1, b = b + 1")
    connection.close()


writer = threading.Thread(target=write)
writer.start()
states = set()
for _ in range(5):
    copy = sqlite3.connect(":memory:")
    first.backup(copy)
    ((low, high, wrong),) = copy.execute("SELECT min(a), max(a), sum(a != b) FROM pair")
    assert low == high and wrong == 0, (low, high, wrong)
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    states.add(low)
stop.set()
writer.join()
assert len(states) > 1, states

assert first.execute("PRAGMA integrity_check").fetchone() == ("ok",)
assert not [name for name in os.listdir(".") if "app.db" in name], os.listdir(".")
