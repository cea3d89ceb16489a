-- An ordinary session: what it prints must not depend on the VFS.
.mode list
.headers on
PRAGMA page_size=4096;
CREATE TABLE account(id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance INT CHECK(balance >= 0), note TEXT);
CREATE INDEX account_by_owner ON account(owner, balance DESC);
CREATE TABLE history(at INTEGER PRIMARY KEY AUTOINCREMENT, account INT REFERENCES account, change INT);
CREATE TRIGGER remember AFTER UPDATE OF balance ON account BEGIN
  INSERT INTO history(account, change) VALUES (new.id, new.balance - old.balance);
END;
CREATE VIEW rich AS SELECT owner, sum(balance) AS total FROM account GROUP BY owner HAVING total > 50000;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
  INSERT INTO account SELECT i, 'owner ' || (i * 7919 % 97), i * 31 % 1000, printf('%.*c', i % 300, 'x') FROM n;
SELECT count(*), sum(balance), sum(length(note)) FROM account;
-- a large transaction
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 3001 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
  INSERT INTO account SELECT i, 'owner ' || (i * 7919 % 97), i * 31 % 1000, printf('%.*c', i % 900, 'y') FROM n;
UPDATE account SET balance = balance + 1 WHERE id % 10 = 0;
COMMIT;
SELECT count(*), sum(change) FROM history;
-- rolled back, as a whole and in parts
BEGIN;
DELETE FROM account WHERE id % 3 = 0;
SELECT count(*) FROM account;
ROLLBACK;
SELECT count(*) FROM account;
BEGIN;
UPDATE account SET balance = 7 WHERE id < 500;
SAVEPOINT one;
DELETE FROM account WHERE id > 20000;
SAVEPOINT two;
INSERT INTO account(owner, balance) VALUES ('late', 1);
ROLLBACK TO one;
SELECT count(*), sum(balance) FROM account;
INSERT INTO account(owner, balance) VALUES ('later', 2);
RELEASE one;
COMMIT;
SELECT count(*), sum(balance) FROM account;
-- errors, that undo their statement
INSERT INTO account(owner, balance) SELECT owner, 5 - id FROM account WHERE id < 20;
INSERT INTO account(id, owner, balance) VALUES (1, 'twice', 1);
INSERT INTO nowhere VALUES (1);
SELECT count(*) FROM account;
-- a small page cache: spills
PRAGMA cache_size=20;
BEGIN;
UPDATE account SET note = note || 'z' WHERE id % 2 = 0;
ROLLBACK;
SELECT sum(length(note)) FROM account;
BEGIN;
UPDATE account SET note = note || 'zz' WHERE id % 2 = 0;
COMMIT;
SELECT sum(length(note)) FROM account;
PRAGMA cache_size=-2000;
-- queries
SELECT owner, total FROM rich ORDER BY total DESC, owner LIMIT 5;
SELECT id, balance, rank() OVER (PARTITION BY owner ORDER BY balance DESC, id) AS place FROM account
  WHERE owner = 'owner 12' ORDER BY id LIMIT 6;
CREATE TABLE document(body TEXT);
INSERT INTO document VALUES ('{"name":"a","tags":["x","y"],"n":3}'), ('{"name":"b","tags":[],"n":4}');
SELECT json_extract(body, '$.name'), json_array_length(body, '$.tags') FROM document;
SELECT value FROM document, json_each(body, '$.tags');
CREATE VIRTUAL TABLE words USING fts5(title, body);
INSERT INTO words SELECT 'title ' || id, note || ' number ' || id || ' of ' || owner FROM account WHERE id < 2000;
SELECT count(*) FROM words WHERE words MATCH 'owner AND 12';
SELECT title FROM words WHERE words MATCH 'number AND 1500' ORDER BY rank LIMIT 3;
DELETE FROM words WHERE rowid % 2 = 0;
INSERT INTO words(words) VALUES ('optimize');
SELECT count(*) FROM words;
-- the schema changes, the file shrinks
ALTER TABLE account ADD COLUMN extra INT DEFAULT 5;
ALTER TABLE history RENAME TO past;
SELECT sum(extra) FROM account;
DELETE FROM account WHERE id > 1000;
PRAGMA page_count;
VACUUM;
PRAGMA page_count;
PRAGMA page_size=1024;
VACUUM;
PRAGMA page_size;
PRAGMA page_count;
PRAGMA auto_vacuum=INCREMENTAL;
VACUUM;
DELETE FROM words;
PRAGMA incremental_vacuum;
PRAGMA freelist_count;
DROP TABLE words;
REINDEX;
ANALYZE;
PRAGMA integrity_check;
PRAGMA foreign_key_check;
PRAGMA locking_mode=EXCLUSIVE;
BEGIN;
UPDATE account SET balance = 3 WHERE id < 50;
COMMIT;
BEGIN;
UPDATE account SET balance = 4 WHERE id < 50;
ROLLBACK;
SELECT sum(balance) FROM account;
PRAGMA locking_mode=NORMAL;
SELECT count(*) FROM sqlite_schema;
PRAGMA synchronous=OFF;
UPDATE account SET balance = 9 WHERE id > 900;
BEGIN;
UPDATE account SET balance = 10 WHERE id > 900;
ROLLBACK;
SELECT sum(balance) FROM account;
PRAGMA synchronous=FULL;
PRAGMA journal_mode;
SELECT sum(balance), count(*), sum(id) FROM account;
PRAGMA integrity_check;
