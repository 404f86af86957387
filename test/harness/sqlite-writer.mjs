/**
 * An application with an SQLite database. It moves money between accounts in transactions of many pages, so the total
 * never changes, and never stops. Arguments: the file, the journal mode, the number of accounts, then extra pragmas.
 */
import { DatabaseSync } from 'node:sqlite';

const [, , file, mode, count, ...pragmas] = process.argv;
const database = new DatabaseSync(file, { timeout: 20_000 });
for (const pragma of pragmas) database.exec(`PRAGMA ${pragma}`);
database.exec(`PRAGMA journal_mode = ${mode}`);
database.exec('CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, money INTEGER NOT NULL, filler BLOB)');
database.exec('CREATE INDEX IF NOT EXISTS by_money ON account (money)');
database.exec('CREATE TABLE IF NOT EXISTS done (transfers INTEGER)');
const insert = database.prepare('INSERT INTO account (money, filler) VALUES (1000, randomblob(300))');
database.exec('BEGIN');
for (let i = 0; i < Number(count); i++) insert.run();
database.exec('INSERT INTO done VALUES (0); COMMIT');
const move = database.prepare('UPDATE account SET money = money + ?, filler = randomblob(300) WHERE id = ?');
const somewhere = () => 1 + Math.floor(Math.random() * Number(count));
console.log('ready');
for (let transfers = 1; ; transfers++) {
  database.exec('BEGIN IMMEDIATE');
  for (let i = 0; i < 40; i++) {
    move.run(-1, somewhere());
    move.run(1, somewhere());
  }
  database.exec('UPDATE done SET transfers = transfers + 1; COMMIT');
  if (transfers % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
}
