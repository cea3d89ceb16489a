// better-sqlite3 on a store. Arguments: the extension that makes the VFS the default, and UNTORN_STORE in the environment.
'use strict';
const Database = require('better-sqlite3');
const assert = require('assert');
const fs = require('fs');

new Database(':memory:').loadExtension(process.argv[2]);
const db = new Database('node.db');
assert.strictEqual(db.pragma('journal_mode = WAL', {simple: true}), 'delete');
assert.deepStrictEqual(db.pragma('journal_mode = WAL'), [{journal_mode: 'delete'}]);
db.exec('CREATE TABLE t(x)');
const insert = db.prepare('INSERT INTO t VALUES (?)');
db.transaction(() => {
  for (let i = 1; i <= 100; ++i) insert.run(i);
}).immediate();
assert.throws(db.transaction(() => {
  db.exec('DELETE FROM t');
  throw new Error('roll back');
}), /roll back/);
const other = new Database('node.db', {readonly: true});
assert.strictEqual(other.prepare('SELECT sum(x) FROM t').pluck().get(), 5050);
const copy = new Database(db.serialize());
assert.strictEqual(copy.prepare('SELECT sum(x) FROM t').pluck().get(), 5050);
db.backup('node-copy.db').then(() => {
  const restored = new Database('node-copy.db');
  assert.strictEqual(restored.prepare('SELECT sum(x) FROM t').pluck().get(), 5050);
  assert.ok(!fs.existsSync('node.db') && !fs.existsSync('node-copy.db'));
});
