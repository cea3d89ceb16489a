"""SQLAlchemy on a store. Arguments: the extension and the store."""

import sqlite3
import sys
import threading

import sqlalchemy
from sqlalchemy import Column, Integer, String, event, text
from sqlalchemy.orm import declarative_base, sessionmaker

extension, store = sys.argv[1:3]
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(extension)

url = f"sqlite:///file:alchemy.db?vfs=untorn&store={store}&uri=true"
engine = sqlalchemy.create_engine(url, connect_args={"timeout": 60})
modes = []


@event.listens_for(engine, "connect")
def at_connect(connection, _):
    modes.append(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
    connection.execute("PRAGMA foreign_keys=ON")


Base = declarative_base()


class User(Base):
    __tablename__ = "users"
    id = Column(Integer, primary_key=True)
    name = Column(String, unique=True)


Base.metadata.create_all(engine)
Session = sessionmaker(engine)


def add(number):
    for i in range(20):
        with Session.begin() as session:
            session.add(User(name=f"{number}-{i}"))


threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with Session() as session:
    assert session.query(User).count() == 80
try:
    with Session.begin() as session:
        session.add(User(name="new"))
        session.add(User(name="0-0"))
    raise AssertionError("two users of one name")
except sqlalchemy.exc.IntegrityError:
    pass
with Session() as session:
    assert session.query(User).filter_by(name="new").count() == 0
assert modes and set(modes) == {"delete"}, modes
assert "users" in sqlalchemy.inspect(engine).get_table_names()
