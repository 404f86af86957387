import { createHash } from 'node:crypto';
import fs, {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ContentTable } from '../../../src/store/known/content-table.ts';
import type { Fact } from '../../../src/store/known/fact.ts';
import { Slots } from '../../../src/store/known/slots.ts';
import { scratchBase } from '../helpers.ts';

let root: string;
let directory: string;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-table-'));
  directory = join(root, 'contents');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const OF = 'repository shop';
const hash = (text: string) => createHash('sha256').update(text).digest('hex');
const factOf = (n: number, over: Partial<Fact> = {}): Fact => ({
  kind: n % 3 === 0 ? 'part' : 'file',
  sha256: hash(`content ${n}`),
  size: n,
  pack: hash(`pack ${n % 10}`).slice(0, 32),
  entry: n % 7 === 0 ? `${'d/'.repeat(n % 500)}${n}é` : `${n}`,
  ...over,
});

async function fill(count: number): Promise<void> {
  const table = await ContentTable.write(directory, OF);
  for (let n = 0; n < count; n++) await table.add(factOf(n));
  table.cover('index');
  await table.close();
}

async function findAll(count: number, table = ContentTable.read(directory, OF)): Promise<number> {
  if (!table) return -1;
  let found = 0;
  for (let n = 0; n < count; n++) {
    const fact = table.find(factOf(n));
    if (fact) expect(fact).toEqual(factOf(n));
    if (fact) found++;
  }
  await table.close();
  return found;
}

test('every content is found where it was stored, also while the table grows, and no other one', async () => {
  await fill(20_000);
  expect(await findAll(20_000)).toBe(20_000);
  const table = ContentTable.read(directory, OF)!;
  for (let n = 20_000; n < 25_000; n++) expect(table.find(factOf(n))).toBeUndefined();
  expect(table.find(factOf(1, { size: 2 }))).toBeUndefined();
  expect(table.find(factOf(1, { kind: 'part' }))).toBeUndefined();
  expect(table.isCovered('index')).toBe(true);
  await table.close();
});

test('a table larger than its share of memory is read and written in order, not once for each content', async () => {
  const calls = () => {
    const io = readFileSync('/proc/self/io', 'latin1');
    return ['syscr', 'syscw'].reduce((sum, name) => sum + Number(new RegExp(`${name}: (\\d+)`).exec(io)?.[1]), 0);
  };
  // 16,384 slots are 64 pages, of which 4 are in memory.
  const table = await ContentTable.write(directory, OF, { limits: { facts: 2000, paging: { page: 4096, most: 4 } } });
  const facts = Array.from({ length: 8000 }, (_, n) => factOf(n, { entry: 'x' }));
  const before = calls();
  for (const fact of facts) await table.add(fact);
  const isKept = (pack: string) => pack !== '';
  for (const fact of facts) await table.add({ ...fact, pack: 'f'.repeat(32), entry: 'y' }, isKept);
  await table.close();
  // The second time, each content is looked up.
  expect(calls() - before).toBeLessThan(8000 + 2000);
  const read = ContentTable.read(directory, OF)!;
  expect(facts.filter((fact) => read.find(fact)?.entry !== 'x')).toEqual([]);
  await read.close();
});

test('a newer place replaces an older one, and is found before the table is closed', async () => {
  await fill(100);
  const table = await ContentTable.write(directory, OF);
  const newer = factOf(5, { pack: 'f'.repeat(32), entry: 'other' });
  await table.add(newer);
  expect(table.find(newer)).toEqual(newer);
  await table.close();
  const read = ContentTable.read(directory, OF)!;
  expect(read.find(newer)).toEqual(newer);
  await read.close();
});

test('a change that was cut short is repaired from the facts, and until then nobody reads the table', async () => {
  await fill(3000);
  const cut = await ContentTable.write(directory, OF);
  for (let n = 3000; n < 9000; n++) await cut.add(factOf(n));
  // The process ends here. The facts that it had written are whole, up to one.
  expect(ContentTable.read(directory, OF)).toBeUndefined();
  const table = await ContentTable.write(directory, OF);
  expect(table.isCovered('index')).toBe(false);
  await table.close();
  expect(await findAll(3000)).toBe(3000);
});

test('while a table is repaired or made smaller, other work of the process gets its turn, and can end it', async () => {
  await fill(20_000);
  const limits = { facts: 5000, paging: { page: 4096, most: 4 } };
  const turnsDuring = async <T>(work: Promise<T>): Promise<{ turns: number; done: T }> => {
    let turns = 0;
    const count = () => {
      turns++;
      next = setImmediate(count);
    };
    let next = setImmediate(count);
    const done = await work.finally(() => clearImmediate(next));
    return { turns, done };
  };
  const all = () => true;
  const cut = await ContentTable.write(directory, OF);
  await cut.add(factOf(20_000));
  const end = new AbortController();
  setImmediate(() => end.abort(new Error('ended')));
  await expect(ContentTable.write(directory, OF, { limits, signal: end.signal })).rejects.toThrow('ended');
  const repaired = await turnsDuring(ContentTable.write(directory, OF, { limits }));
  expect(repaired.turns).toBeGreaterThan(40);
  const entry = 'x'.repeat(60_000);
  for (let n = 20_000; n < 20_400; n++) await repaired.done.add(factOf(n, { entry }));
  const smaller = await turnsDuring(repaired.done.compacted({ isNamed: all, isUsable: all, mustChoose: false }));
  expect(smaller.done.table).not.toBe(repaired.done);
  expect(smaller.turns).toBeGreaterThan(40);
  await smaller.done.table.close();
  expect(await findAll(20_000)).toBe(20_000);
});

test('a table of another repository or project is not used, and replaced', async () => {
  await fill(10);
  expect(ContentTable.read(directory, 'another shop')).toBeUndefined();
  await (await ContentTable.write(directory, 'another shop')).close();
  const table = ContentTable.read(directory, 'another shop')!;
  expect(table.find(factOf(1))).toBeUndefined();
  expect(table.isCovered('index')).toBe(false);
  await table.close();
});

test.each(['facts', 'slots', 'state.json'])('damage to %s never leads to a wrong place', async (name) => {
  const file = join(directory, name);
  for (let tries = 0; tries < 12; tries++) {
    rmSync(directory, { recursive: true, force: true });
    await fill(400);
    const bytes = readFileSync(file);
    const damaged = Buffer.from(bytes);
    if (tries === 0) writeFileSync(file, bytes.subarray(0, bytes.length >> 1));
    else if (tries === 1) writeFileSync(file, '');
    else if (tries === 2) rmSync(file);
    else if (tries === 3) writeFileSync(file, damaged.fill(0xff));
    else {
      for (let i = tries; i < damaged.length; i += 37 * tries) damaged[i] = (damaged[i] as number) ^ (1 << (i % 8));
      writeFileSync(file, damaged);
    }
    // findAll compares each fact that is found.
    await findAll(400);
    const table = await ContentTable.write(directory, OF);
    for (let n = 0; n < 400; n++) await table.add(factOf(n));
    await table.close();
    // Without a free slot, some are not found.
    expect(await findAll(400)).toBeGreaterThan(tries === 3 ? 0 : 399);
  }
});

test('contents of packs that nobody uses are removed once there are many', async () => {
  const table = await ContentTable.write(directory, OF);
  const entry = 'x'.repeat(60_000);
  for (let n = 0; n < 400; n++) await table.add(factOf(n, { entry }));
  table.cover('index');
  const none = () => false;
  const isKept = (pack: string) => pack === factOf(1).pack;
  const { table: smaller } = await table.compacted({ isNamed: isKept, isUsable: isKept, mustChoose: false });
  expect(smaller.isCovered('index')).toBe(true);
  expect(smaller.find(factOf(1))).toEqual(factOf(1, { entry }));
  expect(smaller.find(factOf(2))).toBeUndefined();
  expect(await smaller.compacted({ isNamed: none, isUsable: none, mustChoose: false })).toEqual({
    ...{ table: smaller, isChosen: true },
  });
  await smaller.close();
  expect(statSync(join(directory, 'facts')).size).toBeLessThan(3_000_000);
});

test('a content that is in several packs is found in one that may be used, whichever that is at the time', async () => {
  const [old, now] = ['a'.repeat(32), 'b'.repeat(32)];
  let table = await ContentTable.write(directory, OF, { limits: { facts: 10, paging: { page: 4096, most: 4 } } });
  for (const pack of [old, now]) {
    for (let n = 0; n < 100; n++) await table.add(factOf(n, { pack }), (one) => one === now);
  }
  const choose = async (usable: string) => {
    ({ table } = await table.compacted({
      isNamed: (pack) => pack === old || pack === now,
      isUsable: (pack) => pack === usable,
      mustChoose: true,
    }));
    const found = new Set(Array.from({ length: 100 }, (_, n) => table.find(factOf(n))?.pack));
    expect([...found]).toEqual([usable]);
  };
  for (const usable of [old, now, old]) await choose(usable);
  // A table whose change was cut short is made again from the facts.
  await table.add(factOf(1000, { pack: old }));
  const repaired = await ContentTable.write(directory, OF);
  expect(repaired.find(factOf(1))?.pack).toBe(old);
  await repaired.close();
});

const ALL = { isNamed: () => true, isUsable: () => true, mustChoose: true };

test.each(['ENOSPC', 'EDQUOT'])(
  'a disk that is full (%s) while a table is made smaller costs nothing',
  async (code) => {
    await fill(1000);
    const table = await ContentTable.write(directory, OF);
    await table.add(factOf(1000));
    const flush = Slots.prototype.flush;
    const full = Object.assign(new Error('no space'), { code });
    // The first call completes the table that is there.
    vi.spyOn(Slots.prototype, 'flush')
      .mockRejectedValue(full)
      .mockImplementationOnce(async function (this: Slots) {
        await flush.call(this);
      });
    const { table: kept, isChosen } = await table.compacted(ALL);
    vi.restoreAllMocks();
    expect(isChosen).toBe(false);
    expect(kept.isCovered('index')).toBe(true);
    await kept.close();
    expect(await findAll(1001)).toBe(1001);
    expect(existsSync(`${directory}.new`)).toBe(false);
  },
);

test('a table is not made smaller while the disk has no room for a second one', async () => {
  await fill(100);
  const table = await ContentTable.write(directory, OF);
  const { bsize } = statfsSync(root);
  vi.spyOn(fs, 'statfsSync').mockReturnValue({ bsize, bavail: 10 } as never);
  syncBuiltinESMExports();
  expect(await table.compacted(ALL)).toEqual({ table, isChosen: false });
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  const { table: smaller, isChosen } = await table.compacted(ALL);
  expect(isChosen).toBe(true);
  expect(smaller).not.toBe(table);
  await smaller.close();
});

test('a kill while a new table replaces the former one loses neither', async () => {
  const [fresh, old] = [`${directory}.new`, `${directory}.old`];
  await fill(100);
  cpSync(directory, old, { recursive: true });
  renameSync(directory, fresh);
  await (await ContentTable.write(directory, OF)).close();
  expect(await findAll(100)).toBe(100);
  // Before that moment, the new table may not be complete.
  mkdirSync(fresh);
  writeFileSync(join(fresh, 'facts'), '');
  await (await ContentTable.write(directory, OF)).close();
  expect(await findAll(100)).toBe(100);
  expect([fresh, old].filter((one) => existsSync(one))).toEqual([]);
});
