#!/usr/bin/env python3
"""The Python package does what the C API does, in Python's ways. A killed program keeps what it was told is durable."""

import copy
import gc
import mmap
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import untorn

SIZE = 64 << 20


class PythonTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "test.untorn")
        untorn.create(self.path, size=SIZE)
        self.store = untorn.open(self.path, cache=8 << 20)

    def tearDown(self):
        self.store.close()
        self.directory.cleanup()

    def reopen(self):
        self.store.close()
        self.store = untorn.open(self.path)

    def test_what_is_written_is_there_when_the_store_is_opened_again(self):
        a = self.store.create("a")
        a.write(0, b"hello, world", sync=True)
        a.write(7, b"there", atomic=False, bypass_cache=True)
        self.assertEqual(a.read(0, 100), b"hello, there")
        number = a.id
        self.reopen()
        a = self.store.open("a")
        self.assertEqual((a.read(7, 3), a.size, a.id, a.name), (b"the", 12, number, "a"))
        self.assertEqual(a.read(100, 5), b"")

    def test_another_process_reads_a_store_that_is_open_for_writing(self):
        a = self.store.create("a")
        a.write(0, b"one", sync=True)
        program = """
import sys, untorn
with untorn.open(sys.argv[1], read_only=True) as store:
    a = store.open("a")
    print(a.read(0, 10).decode(), flush=True)
    sys.stdin.readline()
    print(a.read(0, 10).decode(), flush=True)
    store.refresh()
    print(a.read(0, 10).decode(), flush=True)
"""
        with subprocess.Popen([sys.executable, "-c", program, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as reader:
            self.assertEqual(reader.stdout.readline(), "one\n")
            a.write(0, b"two", sync=True)
            reader.stdin.write("\n")
            reader.stdin.flush()
            self.assertEqual(reader.stdout.readline(), "one\n")
            self.assertEqual(reader.stdout.readline(), "two\n")
        self.assertEqual(reader.returncode, 0)

    def test_all_kinds_of_buffers_are_written_and_read(self):
        a = self.store.create("a")
        a.write(0, bytearray(b"0123456789"))
        a.write(2, memoryview(b"xyz"))
        with mmap.mmap(-1, 4096) as mapped:
            mapped[:4] = b"mmap"
            a.write(6, memoryview(mapped)[:4])
            self.assertEqual(a.readinto(0, mapped), 10)
            self.assertEqual(mapped[:10], b"01xyz5mmap")
        out = bytearray(4)
        self.assertEqual(a.readinto(8, out), 2)
        self.assertEqual(out, b"ap\0\0")
        with self.assertRaises(untorn.InvalidArgument):
            a.readinto(0, b"read-only")
        with self.assertRaises(untorn.InvalidArgument):
            a.write(0, memoryview(b"0123456789")[::2])

    def test_objects_change_size_and_names(self):
        a = self.store.create("a", sync=True)
        a.write(0, b"0123456789")
        a.punch_hole(2, 3)
        a.truncate(7, sync=True)
        self.assertEqual(a.read(0, 10), b"01\0\0\x0056")
        a.preallocate(0, 1 << 20)
        self.assertEqual(a.size, 1 << 20)
        a.sync()
        a.sync(0, 4096)
        self.store.rename("a", "b")
        self.assertEqual(a.name, "b")
        for name in ("c", "\u00e4", os.fsdecode(b"\xff")):
            self.store.create(name)
        self.assertEqual([o.name for o in self.store], ["b", "c", "\u00e4", os.fsdecode(b"\xff")])
        self.assertEqual([o.name for o in self.store.list("b")][:1], ["c"])
        self.store.remove("c", sync=True)
        self.assertNotIn("c", self.store)
        self.assertIn("b", self.store)

    def test_many_objects_are_listed(self):
        for i in range(2500):
            self.store.create(f"{i:05}")
        self.assertEqual([o.name for o in self.store], [f"{i:05}" for i in range(2500)])

    def test_transaction_is_whole_or_not_at_all(self):
        with self.store.transaction() as t:
            a = t.create("a")
            t.write(a, 0, b"hello")
            t.truncate(a, 4)
            t.punch_hole(a, 1, 1)
            self.assertEqual((t.read(a, 0, 9), t.size(a)), (b"h\0ll", 4))
        with self.assertRaises(KeyError):
            with self.store.transaction() as t:
                t.remove("a")
                raise KeyError
        self.assertIn("a", self.store)
        first, second = self.store.transaction(), self.store.transaction(sync=False)
        second.rename("a", "b")
        first.absorb(second)
        first.commit()
        self.assertIn("b", self.store)
        with self.assertRaises(untorn.FailedPrecondition):
            first.commit()

    def test_errors_are_exceptions_with_the_cause(self):
        with self.assertRaisesRegex(untorn.NotFound, "'missing'"):
            self.store.open("missing")
        with self.assertRaises(FileNotFoundError):
            untorn.open(self.path + "missing")
        with self.assertRaises(FileExistsError):
            untorn.create(self.path)
        with self.assertRaisesRegex(untorn.FailedPrecondition, "open for writing by process"):
            untorn.open(self.path)
        with self.assertRaises(ValueError):
            self.store.open("")
        with self.assertRaises(untorn.InvalidArgument):
            self.store.create("a").write(-1, b"x")
        with self.assertRaises(untorn.ResourceExhausted):
            self.store.open("a").preallocate(0, 2 * SIZE)

    def test_closed_store_refuses_everything(self):
        a, t = self.store.create("a"), self.store.transaction()
        self.store.close()
        for call in (lambda: a.write(0, b"x"), lambda: a.size, t.commit, self.store.sync, lambda: list(self.store)):
            with self.assertRaises(untorn.FailedPrecondition):
                call()
        self.store.close()

    def test_handles_are_given_back(self):
        self.store.create("a")
        freed = []
        give_back = untorn._lib.untorn_object_free
        untorn._lib.untorn_object_free = lambda handle: freed.append(handle.value) or give_back(handle)
        try:
            kept = [self.store.open("a") for _ in range(10)]
            for _ in range(1000):
                self.store.open("a")
            gc.collect()
            self.assertEqual(len(freed), 1000)
            self.store.close()
            self.assertEqual(len(freed), 1010)
            del kept
            self.assertEqual(len(freed), 1010)
        finally:
            untorn._lib.untorn_object_free = give_back

    def test_handles_are_not_copied(self):
        for one in (self.store, self.store.create("a"), self.store.transaction()):
            for way in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.assertRaises(TypeError):
                    way(one)

    def test_store_is_closed_under_threads_that_use_it(self):
        stop = []

        def work(number):
            try:
                while not stop:
                    obj = self.store.create(f"{number}-{random.random()}")
                    obj.write(0, b"x" * 5000)
                    with self.store.transaction(sync=False) as t:
                        t.write(obj, 0, b"y")
                    self.store.open(obj.name)
            except untorn.FailedPrecondition:
                stop.append(number)

        for _ in range(5):
            stop.clear()
            threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(random.random() / 10)
            self.store.close()
            for thread in threads:
                thread.join()
            self.assertGreaterEqual(len(stop), 1)
            self.store = untorn.open(self.path)

    def test_store_is_not_closed_from_within_its_calls(self):
        self.store.create("a").write(0, b"x" * 100000, sync=True)
        with self.assertRaisesRegex(untorn.FailedPrecondition, "within one of its calls"):
            self.store.scrub(progress=lambda done, total: self.store.close())
        self.assertIn("a", self.store)

    def test_transaction_of_a_store_that_is_closed_within_is_an_error(self):
        with self.assertRaises(untorn.FailedPrecondition):
            with self.store.transaction() as t:
                t.create("inside")
                self.store.close()

    def test_child_process_leaves_the_store_alone(self):
        a, t = self.store.create("a"), self.store.transaction()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                a.write(0, b"x")
            except untorn.FailedPrecondition:
                t.abandon()
                self.store.close()
                status = 0
            os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        a.write(0, b"x", sync=True)
        t.commit()

    def test_program_ends_with_daemon_threads_in_calls(self):
        program = ("import sys, threading, time, untorn\n"
                   "store = untorn.open(sys.argv[1])\n"
                   "for i in range(500): store.create(str(i))\n"
                   "def work():\n"
                   "    try:\n"
                   "        while True: list(store)\n"
                   "    except untorn.FailedPrecondition: pass\n"
                   "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
                   "time.sleep(0.1)\n")
        self.store.close()
        for _ in range(3):
            ended = subprocess.run([sys.executable, "-c", program, self.path], stderr=subprocess.PIPE, timeout=60)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            with untorn.open(self.path) as store:
                for o in list(store):
                    store.remove(o.name)

    def test_arguments_out_of_range_are_refused(self):
        a = self.store.create("a")
        for call in (lambda: untorn.create(self.path + "x", size=2**64 + SIZE), lambda: untorn.open(self.path, cache=-1),
                     lambda: untorn.create(self.path + "\0x", force=True), lambda: a.read(0, -1), lambda: a.read(-1, 0),
                     lambda: self.store.create("a\0b"), lambda: untorn.open(self.path, policy=2**32)):
            with self.assertRaises(ValueError):
                call()

    def test_anything_true_is_durable(self):
        for truth in (True, 1, 2, "yes"):
            before = self.store.stats["state"]["lsn_durable"]
            self.store.create(str(truth) + "x", sync=truth)
            self.assertGreater(self.store.stats["state"]["lsn_durable"], before)

    def test_store_tells_of_itself(self):
        self.store.create("a").write(0, b"x" * 100000, sync=True)
        self.assertEqual(self.store.info["size_bytes"], SIZE)
        self.assertEqual(self.store.stats["since_open"]["writes"], 1)
        self.assertIn(f'untorn_writes_total{{store="{self.path}"}} 1\n', self.store.metrics())
        scrubbed = self.store.scrub()
        self.assertEqual((scrubbed.objects, scrubbed.bytes, scrubbed.damaged), (1, 25 * 4096, []))
        self.store.resize(2 * SIZE)
        before, after, _ = self.store.trim()
        self.assertGreaterEqual(before, after)
        self.store.barrier()
        self.store.checkpoint()
        self.assertEqual(untorn.version(), self.store.info["untorn_version"])

    def test_exception_of_a_progress_function_comes_back(self):
        calls = []

        def progress(done, total):
            calls.append((done, total))
            raise ZeroDivisionError

        self.store.create("a").write(0, b"x" * 100000, sync=True)
        with self.assertRaises(ZeroDivisionError):
            self.store.scrub(progress=progress)
        self.assertEqual(len(calls), 1)
        with self.assertRaises(untorn.Cancelled):
            self.store.scrub(progress=lambda done, total: False)

    def test_damage_is_found_and_repaired(self):
        self.store.create("a").write(0, b"x", sync=True)
        self.store.close()
        self.assertEqual(untorn.fsck(self.path, data=True), [])
        with open(self.path, "r+b") as file:
            file.write(b"rubbish")
        finding, = untorn.fsck(self.path)
        self.assertEqual((finding.number, finding.name), (1, "superblock-unreadable"))
        plan = untorn.repair(self.path, dry_run=True)
        self.assertEqual((len(plan.findings), len(plan.actions)), (1, 1))
        self.assertEqual(untorn.repair(self.path).quarantined, 0)
        self.assertEqual(untorn.fsck(self.path), [])
        self.assertEqual(len(untorn.dump(self.path)["objects"]), 1)

    def test_log_goes_to_the_function(self):
        self.store.close()
        with open(self.path, "r+b") as file:
            file.write(b"rubbish")
        logged = []
        self.store = untorn.open(self.path, log=lambda level, message: logged.append((level, message)))
        self.assertEqual(logged[0][0], 1)
        self.assertIn("superblock slot 0 is unusable", logged[0][1])

    def test_threads_write_and_read_at_the_same_time(self):
        objects = [self.store.create(str(i)) for i in range(4)]

        def work(obj, seed):
            rng = random.Random(seed)
            for i in range(200):
                page = bytes([rng.randrange(256)]) * 4096
                obj.write(i % 8 * 4096, page, sync=i % 20 == 0)
                self.assertEqual(obj.read(i % 8 * 4096, 4096), page)

        threads = [threading.Thread(target=work, args=(obj, seed)) for seed, obj in enumerate(objects)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_databases_of_pythons_sqlite_lie_in_a_store(self):
        untorn.register_sqlite()
        untorn.register_sqlite()
        path = os.path.join(self.directory.name, "sqlite.untorn")
        database = sqlite3.connect(f"file:app.db?vfs=untorn&store={path}", uri=True)
        database.execute("CREATE TABLE t(x)")
        database.executemany("INSERT INTO t VALUES(?)", ((i,) for i in range(1000)))
        database.commit()
        self.assertEqual(database.execute("PRAGMA journal_mode=WAL").fetchone(), ("delete",))
        database.close()
        with untorn.open(path) as store:
            self.assertEqual([o.name for o in store], ["app.db"])
        ordinary = sqlite3.connect(os.path.join(self.directory.name, "ordinary.db"))
        ordinary.execute("CREATE TABLE t(x)")
        ordinary.close()
        self.assertTrue(os.path.exists(os.path.join(self.directory.name, "ordinary.db")))

    def test_what_was_durable_is_there_after_a_kill(self):
        self.store.close()
        program = ("import sys, untorn\n"
                   "store = untorn.open(sys.argv[1])\n"
                   "a = store.create('a') if 'a' not in store else store.open('a')\n"
                   "first = a.size // 4096\n"
                   "for i in range(first, 1 << 20):\n"
                   "    a.write(i % 1000 * 4096, i.to_bytes(4096, 'little'), sync=True)\n"
                   "    print(i, flush=True)\n")
        last = -1
        for _ in range(3):
            with subprocess.Popen([sys.executable, "-c", program, self.path], stdout=subprocess.PIPE) as process:
                for _ in range(100):
                    last = int(process.stdout.readline())
                process.send_signal(signal.SIGKILL)
                last = int((process.stdout.read().split() or [last])[-1])
            with untorn.open(self.path) as store:
                written = int.from_bytes(store.open("a").read(last % 1000 * 4096, 4096), "little")
                self.assertEqual(written, last)
        self.assertEqual(untorn.fsck(self.path, data=True), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
