import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Destination } from '../../../../src/destinations/destination.ts';
import { createLocalDestination } from '../../../../src/destinations/local.ts';
import { Signing } from '../../../../src/store/repository/signing.ts';
import { formatLsn, segmentName, startOf } from '../../../../src/store/wal/names.ts';
import { isWalObject } from '../../../../src/store/wal/page.ts';
import { readWalLogs, type WalLog, type WalRepository } from '../../../../src/store/wal/read-log.ts';
import { type Base, windowsOf } from '../../../../src/store/wal/windows.ts';
import { WalWriter } from '../../../../src/store/wal/write-log.ts';
import { leadsTo } from '../../../../src/wal/base-maker.ts';
import { scratchBase } from '../../helpers.ts';

const SIZE = 1024 * 1024;
const place = { project: 'shop', source: 'db.postgres', systemId: '7713464397883531290' };
const { signal } = new AbortController();

let root: string;
let destination: Destination;
let repository: WalRepository;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-wal-'));
  destination = createLocalDestination({ root });
  repository = { destination, project: 'shop', keys: {}, signing: new Signing('one', ['a key of 16 characters']) };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const open = (home = 'here', from = repository) =>
  WalWriter.open(from, { place, segmentSize: SIZE, home, now: () => new Date('2026-11-20T03:00:00Z') });
const name = (number: number) => segmentName({ timeline: 1, number }, SIZE);
const bytes = (text: string) => Readable.from([Buffer.from(text)]);

async function store(writer: WalWriter, ...numbers: number[]): Promise<void> {
  for (const number of numbers) {
    const segment = await writer.putSegment(name(number), bytes(`segment ${number}`), signal);
    await writer.append({ segments: [segment] });
  }
}
async function read(): Promise<WalLog> {
  const [log] = await readWalLogs(repository, 'db.postgres');
  return log as WalLog;
}
const directory = (part: string) => join(root, 'shop/wal/db.postgres', place.systemId, part);
const pages = () => readdirSync(directory('log')).sort();

describe('the log of stored WAL', () => {
  test('lists segments, and keeps only the newest revision of a page', async () => {
    await store(await open(), 1, 2, 3);
    expect(pages()).toEqual(['00000001-00000003.json']);
    const { wal, problems } = await read();
    expect(wal.segments.map((one) => one.name)).toEqual([1, 2, 3].map(name));
    expect(problems).toEqual([]);
  });

  test('continues where an earlier writer ended', async () => {
    await store(await open(), 1);
    const second = await open();
    expect(second.inventory.has(name(1))).toBe(true);
    expect(second.inventory.endOf(1)).toBe(startOf(2, SIZE));
    await store(second, 2);
    expect((await read()).wal.segments.map((one) => one.name)).toEqual([1, 2].map(name));
  });

  test('begins a new page after 256 segments, which has the hash of the page before', async () => {
    const writer = await open();
    const segment = await writer.putSegment(name(1), bytes('x'), signal);
    await writer.append({ segments: Array.from({ length: 256 }, (_, i) => ({ ...segment, name: name(i + 1) })) });
    await store(writer, 257);
    expect(pages()).toEqual(['00000001-00000001.json', '00000002-00000001.json']);
    const [first, second] = pages().map((file) => readFileSync(join(directory('log'), file)));
    const { previous } = JSON.parse(String(second)) as { previous: string };
    expect(previous).toBe(createHash('sha256').update(first!).digest('hex'));
    expect((await read()).problems).toEqual([]);
  });

  test('holds the parts of the open segment, which are removed once the segment is complete', async () => {
    const writer = await open();
    const part = await writer.putPart(name(1), { from: 0, to: 5 }, bytes('hello'), signal);
    await writer.append({ open: { name: name(1), parts: [part], reached: '2026-11-20T02:59:00.000Z' } });
    expect((await read()).wal.partials).toEqual([{ name: name(1), to: 5, reached: '2026-11-20T02:59:00.000Z' }]);
    const segment = await writer.putSegment(name(1), bytes('hello world'), signal);
    await writer.append({ segments: [segment] });
    expect((await read()).wal.partials).toEqual([]);
    expect(existsSync(join(root, part.key))).toBe(false);
    expect(readdirSync(directory('00000001'))).toHaveLength(1);
  });

  test('keeps the beginning of a segment that never became complete, also in a new page', async () => {
    const writer = await open();
    const put = async (number: number, to: number) => {
      const part = await writer.putPart(name(number), { from: 0, to }, bytes('x'.repeat(to)), signal);
      await writer.append({ open: { name: name(number), parts: [part] } });
      return part;
    };
    const left = await put(1, 5);
    await put(3, 7);
    expect((await read()).wal.partials).toMatchObject([
      { name: name(1), to: 5 },
      { name: name(3), to: 7 },
    ]);
    const segment = await writer.putSegment(name(3), bytes('x'), signal);
    await writer.append({ segments: Array.from({ length: 256 }, (_, i) => ({ ...segment, name: name(i + 3) })) });
    await put(300, 3);
    expect((await read()).wal.partials).toMatchObject([{ name: name(1) }, { name: name(300) }]);
    expect(existsSync(join(root, left.key))).toBe(true);
    // Received anew, and complete: the beginning is needed no more.
    await store(writer, 1);
    expect((await read()).wal.partials).toMatchObject([{ name: name(300) }]);
  });

  test('refuses a second agent that receives the same WAL', async () => {
    const [here, there] = [await open('here'), await open('there')];
    await store(here, 1);
    await expect(store(there, 1)).rejects.toMatchObject({ code: 'LOCKED' });
    // The first one goes on.
    await store(here, 2);
    expect((await read()).wal.segments.map((one) => one.name)).toEqual([1, 2].map(name));
  });

  test('refuses the first agent after a second one has begun another history', async () => {
    const here = await open('here');
    await store(here, 1);
    const there = await open('there');
    await there.beginAnew({ at: '2026-11-20T03:00:00.000Z', timeline: 1, to: '0/100000', why: 'it went back' });
    await store(there, 1, 2);
    await expect(store(here, 2)).rejects.toMatchObject({ code: 'LOCKED' });
    const logs = await readWalLogs(repository, 'db.postgres');
    expect(logs.map(({ wal }) => wal.segments.length)).toEqual([1, 2]);
    expect(logs.flatMap(({ problems }) => problems)).toEqual([]);
  });

  test('refuses an agent that another one has overtaken by several revisions', async () => {
    const [here, there] = [await open('here'), await open('there')];
    await store(there, 1, 2, 3, 4);
    await expect(store(here, 7)).rejects.toMatchObject({ code: 'LOCKED' });
    expect((await read()).wal.segments.map((one) => one.name)).toEqual([1, 2, 3, 4].map(name));
  });

  test('is opened again after a clone of the machine, with the same memory, has written it', async () => {
    const [here, clone] = [await open(), await open()];
    await store(clone, 1);
    await expect(store(here, 2)).rejects.toMatchObject({ code: 'DEST_EXISTS' });
    await store(await open(), 2);
    expect((await read()).wal.segments.map((one) => one.name)).toEqual([1, 2].map(name));
  });

  test('accepts a page whose response was lost', async () => {
    let lose = true;
    const lossy: Destination = {
      ...destination,
      name: destination.name,
      get: (...args) => destination.get(...args),
      list: (...args) => destination.list(...args),
      delete: (...args) => destination.delete(...args),
      async put(key, body, options) {
        const stored = await destination.put(key, body, options);
        if (!key.includes('/log/') || !lose) return stored;
        lose = false;
        return destination.put(key, bytes('again'));
      },
    };
    const writer = await open('here', { ...repository, destination: lossy });
    await store(writer, 1, 2);
    expect((await read()).wal.segments.map((one) => one.name)).toEqual([1, 2].map(name));
  });
});

describe('a log whose newest page cannot be used', () => {
  test('goes on with a new page once a signing key is set, and the unsigned pages are no problem any more', async () => {
    const unsigned = { ...repository, signing: new Signing('one') };
    await store(await open('here', unsigned), 1, 2);
    expect((await read()).problems).toMatchObject([{ error: { code: 'SIGNATURE_MISSING' } }]);
    const writer = await open();
    expect(writer.inventory.isEmpty).toBe(true);
    await store(writer, 3, 4);
    expect(pages()).toEqual(['00000001-00000002.json', '00000002-00000002.json']);
    await store(await open(), 5);
    const { wal, problems, hasUnsigned } = await read();
    expect(wal.segments.map((one) => one.name)).toEqual([3, 4, 5].map(name));
    expect([problems, hasUnsigned]).toEqual([[], true]);
  });

  test('an unsigned page that replaces a signed one is a problem', async () => {
    const writer = await open();
    const segment = await writer.putSegment(name(1), bytes('x'), signal);
    await writer.append({ segments: Array.from({ length: 256 }, (_, i) => ({ ...segment, name: name(i + 1) })) });
    await store(writer, 257);
    const file = join(directory('log'), pages()[0]!);
    const page = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    delete page.signature;
    writeFileSync(file, JSON.stringify(page));
    expect((await read()).problems).toMatchObject([{ error: { code: 'SIGNATURE_MISSING' } }]);
  });

  test('goes on after a damaged page, with a gap, and never under the number of that page', async () => {
    const writer = await open();
    const segment = await writer.putSegment(name(1), bytes('x'), signal);
    await writer.append({ segments: Array.from({ length: 256 }, (_, i) => ({ ...segment, name: name(i + 1) })) });
    await store(writer, 257, 258, 259);
    writeFileSync(join(directory('log'), '00000002-00000003.json'), 'damaged');
    const next = await open();
    expect(next.unusable).toMatchObject({ code: 'OBJECT_DAMAGED' });
    await next.beginAnew({ at: '2026-11-20T03:00:00.000Z', timeline: 1, to: '0/10400000', why: 'damage' });
    await store(next, 260);
    await store(await open(), 261);
    const [before, after] = await readWalLogs(repository, 'db.postgres');
    const { wal, problems, newest } = after!;
    expect(newest).toEqual({ page: 3, revision: 3 });
    // What follows the damage does not count as the rest of what was before.
    expect(before!.wal.segments).toHaveLength(256);
    expect(wal.segments.map((one) => one.name)).toEqual([260, 261].map(name));
    expect(wal.gaps).toMatchObject([{ why: 'damage' }]);
    expect(before!.problems).toMatchObject([{ error: { code: 'OBJECT_DAMAGED' } }]);
    expect(problems).toEqual([]);
  });
});

describe('a server that went back to older data', () => {
  const base = (snapshot: string, stopTime: string): Base => ({
    ...{ snapshot, systemId: place.systemId, timeline: 1, stopTime },
    ...{ startLsn: formatLsn(startOf(1, SIZE) + 40n), stopLsn: formatLsn(startOf(1, SIZE) + 4096n) },
  });
  const at = (time: string, home = 'here') =>
    WalWriter.open(repository, { place, segmentSize: SIZE, home, now: () => new Date(time) });

  test('writes another history under the same names, and no window has WAL of both', async () => {
    const writer = await at('2026-11-20T03:00:00.000Z');
    await store(writer, 1, 2, 3);
    const back = await at('2026-11-20T04:00:00.000Z', 'elsewhere');
    await back.beginAnew({ at: '2026-11-20T04:00:00.000Z', timeline: 1, to: '0/200000', why: 'it went back' });
    // The memory that had written the log until then: its slot may be left.
    expect(back.home).toBe('here');
    await store(back, 2, 3, 4);
    await store(await at('2026-11-20T04:10:00.000Z', 'elsewhere'), 5);
    const logs = await readWalLogs(repository, 'db.postgres');
    expect(logs.map(({ wal }) => wal.segments.map((one) => one.name))).toEqual([
      [1, 2, 3].map(name),
      [2, 3, 4, 5].map(name),
    ]);
    const bases = [base('old', '2026-11-20T02:00:00.000Z'), base('new', '2026-11-20T04:01:00.000Z')];
    const windows = logs.map(({ wal }) => windowsOf(wal, bases));
    expect(windows[0]).toMatchObject([{ toLsn: formatLsn(startOf(4, SIZE)), bases: [{ snapshot: 'old' }] }]);
    // Its base backup needs segment 1 of the new history, which is not stored.
    expect(windows[1]).toEqual([]);
    expect(leadsTo(windows[0]![0]!, { ...place, timeline: 1, stored: startOf(2, SIZE) })).toBe(true);
    const { since } = logs[1]!.wal;
    expect(leadsTo(windows[0]![0]!, { ...place, timeline: 1, stored: startOf(2, SIZE), since })).toBe(false);
    expect(logs.flatMap(({ problems }) => problems)).toEqual([]);
  });
});

describe('stored WAL that somebody changed', () => {
  test('does not count if an object is gone or cut', async () => {
    await store(await open(), 1, 2, 3);
    const [, second, third] = readdirSync(directory('00000001')).sort();
    rmSync(join(directory('00000001'), second!));
    writeFileSync(join(directory('00000001'), third!), 'x');
    const { wal, lost } = await read();
    expect(wal.segments.map((one) => one.name)).toEqual([name(1)]);
    expect(lost.map((one) => one.name)).toEqual([2, 3].map(name));
  });

  test.each<[string, (page: Record<string, unknown>) => void, string]>([
    ['changed', (page) => Object.assign(page, { at: '2026-11-21T00:00:00.000Z' }), 'SIGNATURE_WRONG'],
    ['unsigned', (page) => void Reflect.deleteProperty(page, 'signature'), 'SIGNATURE_MISSING'],
  ])('a page that is %s is not used', async (_, change, code) => {
    await store(await open(), 1);
    const file = join(directory('log'), pages()[0]!);
    const page = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    change(page);
    writeFileSync(file, JSON.stringify(page));
    const { wal, problems } = await read();
    expect(wal.segments).toEqual([]);
    expect(problems).toMatchObject([{ error: { code } }]);
  });

  test('a page of another place in the log is not used', async () => {
    await store(await open(), 1);
    const [file] = pages();
    writeFileSync(join(directory('log'), '00000002-00000001.json'), readFileSync(join(directory('log'), file!)));
    expect((await read()).problems).toMatchObject([{ error: { code: 'SIGNATURE_WRONG' } }]);
  });

  test('an earlier revision of a full page is noticed', async () => {
    const writer = await open();
    const segment = await writer.putSegment(name(1), bytes('x'), signal);
    const listed = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, i) => ({ ...segment, name: name(from + i) }));
    await writer.append({ segments: listed(1, 200) });
    const replayed = readFileSync(join(directory('log'), pages()[0]!));
    await writer.append({ segments: listed(201, 256) });
    await writer.append({ segments: listed(257, 257) });
    rmSync(join(directory('log'), '00000001-00000002.json'));
    writeFileSync(join(directory('log'), '00000001-00000001.json'), replayed);
    const { wal, problems } = await read();
    expect(problems).toMatchObject([{ error: { code: 'CHAIN_BROKEN' } }]);
    expect(wal.segments).toHaveLength(201);
  });
});

test('the keys of stored objects have known forms', async () => {
  const writer = await open();
  const keys: string[] = [];
  const { key: segment } = await writer.putSegment(name(1), bytes('x'), signal);
  const { key: part } = await writer.putPart(name(2), { from: 65536, to: 65537 }, bytes('x'), signal);
  const { key: history } = await writer.putHistory('00000002.history', [], bytes('1\t0/0\tx\n'), signal);
  await writer.append({});
  for await (const { key } of destination.list('shop/wal/db.postgres/')) keys.push(key);
  expect(keys).toEqual(expect.arrayContaining([segment, part, history]));
  expect(keys).toHaveLength(4);
  expect(keys.every((key) => isWalObject(key.slice('shop/wal/db.postgres/'.length)))).toBe(true);
  expect(isWalObject(`${place.systemId}/00000001/notes.txt`)).toBe(false);
});
