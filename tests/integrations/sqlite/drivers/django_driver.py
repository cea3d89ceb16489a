"""Django on a store, with its migrations and its test runner. Arguments: the extension and the store."""

import os
import pathlib
import sqlite3
import sys

extension, store = sys.argv[1:3]
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(extension)

# An application with two migrations and a test case.
app = pathlib.Path("shop")
(app / "migrations").mkdir(parents=True)
(app / "__init__.py").touch()
(app / "migrations" / "__init__.py").touch()
(app / "models.py").write_text('''
from django.db import models

class Order(models.Model):
    number = models.IntegerField(unique=True)
    note = models.TextField(default="")
''')
(app / "tests.py").write_text('''
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase
from shop.models import Order

class OrderTest(TestCase):
    def setUp(self):
        Order.objects.create(number=1)

    def test_savepoints_roll_back(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Order.objects.create(number=2)
            Order.objects.create(number=1)
        self.assertEqual(Order.objects.count(), 1)

    def test_each_test_begins_anew(self):
        self.assertEqual(Order.objects.count(), 1)
        Order.objects.filter(number=1).update(note="changed")
        self.assertEqual(Order.objects.get(number=1).note, "changed")

class CommittedOrderTest(TransactionTestCase):
    def test_is_in_the_store(self):
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA database_list")
            self.assertIn("untorn", cursor.fetchone()[2])
        Order.objects.bulk_create(Order(number=n) for n in range(500))
        self.assertEqual(Order.objects.filter(number__gte=250).count(), 250)
''')

from django.conf import settings  # noqa: E402


def uri(name):
    return f"file:{name}?vfs=untorn&store={store}"


settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": uri("django.db"),
            "OPTIONS": {"timeout": 60},
            "TEST": {"NAME": uri("django-test.db")},
        }
    },
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "shop"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    SECRET_KEY="for a test",
)
sys.path.insert(0, os.getcwd())

import django  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402

modes = []


def at_connect(connection, **_):
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")
        modes.append(cursor.fetchone()[0])


connection_created.connect(at_connect)
django.setup()
call_command("makemigrations", "shop", verbosity=0)
call_command("migrate", verbosity=0)
models = app / "models.py"
models.write_text(models.read_text() + "    paid = models.BooleanField(default=False)\n")

from shop.models import Order  # noqa: E402

Order.objects.create(number=7)
# The second migration makes the table anew, as Django does on SQLite.
(app / "migrations" / "0002_paid.py").write_text('''
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.AddField("Order", "paid", models.BooleanField(default=False))]
''')
call_command("migrate", verbosity=0)
with connection.cursor() as cursor:
    cursor.execute("SELECT number, paid FROM shop_order")
    assert cursor.fetchall() == [(7, 0)]
assert modes and set(modes) == {"delete"}, modes
connection.close()
models.write_text(models.read_text().replace("    paid = models.BooleanField(default=False)\n", ""))
(app / "migrations" / "0002_paid.py").unlink()

from django.test.utils import get_runner  # noqa: E402

# Without keepdb Django removes the test database as a file.
failures = get_runner(settings)(verbosity=0, interactive=False, keepdb=True).run_tests(["shop"])
sys.exit(failures)
