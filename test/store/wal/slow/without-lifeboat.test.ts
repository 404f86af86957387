import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLocalDestination } from '../../../../src/destinations/local.ts';
import type { SealKeys } from '../../../../src/plan/seal-keys.ts';
import { Signing } from '../../../../src/store/repository/signing.ts';
import { segmentName } from '../../../../src/store/wal/names.ts';
import { WalWriter } from '../../../../src/store/wal/write-log.ts';
import { scratchBase } from '../../helpers.ts';

const SIZE = 1024 * 1024;
const { signal } = new AbortController();
const name = (number: number, timeline = 1) => segmentName({ timeline, number }, SIZE);
const bytes = (text: string) => Readable.from([Buffer.from(text)]);

let root: string;
let writer: WalWriter;
beforeEach(async () => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-wal-script-'));
  const page = readFileSync(new URL('../../../../docs/point-in-time.md', import.meta.url), 'utf8');
  writeFileSync(join(root, 'wal.sh'), /```sh\n(.*?)```/s.exec(page)?.[1] ?? '');
  mkdirSync(join(root, 'backups'));
  await openWith({});
});
/** Opens the log of a repository with keys. */
const openWith = async (keys: SealKeys) => {
  const destination = createLocalDestination({ root: join(root, 'backups') });
  const place = { project: 'shop', source: 'db.postgres', systemId: '7713464397883531290' };
  const repository = { destination, project: 'shop', keys, signing: new Signing('one') };
  writer = await WalWriter.open(repository, { place, segmentSize: SIZE, home: 'here', now: () => new Date() });
};
afterEach(() => rmSync(root, { recursive: true, force: true }));

async function store(number: number, timeline = 1): Promise<void> {
  const file = name(number, timeline);
  await writer.append({
    segments: [await writer.putSegment(file, bytes(`segment ${file}`.padEnd(SIZE, '.')), signal)],
  });
}
const part = (number: number, from: number, text: string) =>
  writer.putPart(name(number), { from, to: from + text.length }, bytes(text), signal);
const run = (env: Record<string, string> = {}, ...operands: string[]) =>
  execFileSync(
    'sh',
    [join(root, 'wal.sh'), join(root, 'backups'), 'shop', 'db.postgres', join(root, 'out'), ...operands],
    {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
const read = (file: string) => readFileSync(join(root, 'out', file), 'latin1');

test('the script of the page unpacks all stored WAL: segments, history files, and incomplete segments', async () => {
  await store(1);
  await writer.append({ open: { name: name(2), parts: [await part(2, 0, 'left behind')] } });
  const history = '1\t0/280000\tno recovery target specified\n';
  await writer.append({ histories: [await writer.putHistory('00000002.history', [], bytes(history), signal)] });
  await store(2, 2);
  const first = await part(3, 0, 'one');
  await writer.append({ open: { name: name(3), parts: [first] } });
  await writer.append({ open: { name: name(3), parts: [first, await part(3, 3, ' two')] } });
  run();
  expect(readdirSync(join(root, 'out')).sort()).toEqual(
    [name(1), name(2), name(3), '00000002.history', name(2, 2)].sort(),
  );
  expect(read(name(1))).toBe(`segment ${name(1)}`.padEnd(SIZE, '.'));
  expect(read('00000002.history')).toBe(history);
  expect(read(name(2))).toBe('left behind'.padEnd(SIZE, '\0'));
  expect(read(name(3))).toBe('one two'.padEnd(SIZE, '\0'));
});

test('a segment that was incomplete before is the complete one', async () => {
  await writer.append({ open: { name: name(1), parts: [await part(1, 0, 'begun')] } });
  await writer.append({ open: { name: name(2), parts: [await part(2, 0, 'open')] } });
  await store(1);
  run();
  expect(read(name(1))).toContain('segment');
  expect(read(name(2))).toBe('open'.padEnd(SIZE, '\0'));
});

test('the WAL is that of the history of the newest base backup, unless another history is named', async () => {
  const unpacked = (...operands: string[]) => {
    rmSync(join(root, 'out'), { recursive: true, force: true });
    run({}, ...operands);
    return readdirSync(join(root, 'out')).sort();
  };
  await store(1);
  await store(2);
  await writer.beginAnew({ at: new Date().toISOString(), timeline: 1, to: '0/100000', why: 'it went back' });
  await store(2);
  await store(3);
  const [first, second] = [
    [name(1), name(2)],
    [name(2), name(3)],
  ];
  const system = '7713464397883531290';
  expect(unpacked()).toEqual(second);
  const snapshot = (sequence: number, base: object, fields: object = {}) => {
    const directory = join(root, `backups/shop/snapshots/${sequence}`);
    mkdirSync(directory, { recursive: true });
    const sources = { 'db.postgres.base': { status: 'ok', base, ...fields } };
    writeFileSync(join(directory, 'manifest.json'), JSON.stringify({ sequence, trigger: 'schedule', sources }));
  };
  snapshot(1, { systemId: system });
  expect(unpacked()).toEqual(second);
  // By its number, it is newer than one whose id comes later.
  snapshot(12, { systemId: system, era: 1 });
  snapshot(9, { systemId: system, era: 2 });
  snapshot(13, { systemId: system, era: 2 }, { status: 'failed' });
  expect(unpacked()).toEqual(first);
  expect(unpacked(system)).toEqual(first);
  expect(unpacked(system, '2')).toEqual(second);
  snapshot(14, { systemId: '8', era: 1 });
  expect(unpacked(system)).toEqual(second);
});

test('a damaged object ends the script', async () => {
  await store(1);
  const directory = join(root, 'backups/shop/wal/db.postgres/7713464397883531290/00000001');
  const [file = ''] = readdirSync(directory);
  writeFileSync(join(directory, file), 'damaged');
  expect(() => run()).toThrow();
});

test('encrypted WAL is opened with the identity, and with no other one', async () => {
  const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const recipient = execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim();
  await openWith({ ageRecipients: [recipient] });
  await store(1);
  await writer.append({ open: { name: name(2), parts: [await part(2, 0, 'secret')] } });
  const stored = readdirSync(join(root, 'backups/shop/wal/db.postgres/7713464397883531290/00000001'));
  expect(stored.every((file) => file.endsWith('.zst.age'))).toBe(true);
  const [right, wrong] = [join(root, 'right'), join(root, 'wrong')];
  writeFileSync(right, identity);
  writeFileSync(wrong, execFileSync('age-keygen', { stdio: ['ignore', 'pipe', 'ignore'] }));
  expect(() => run({ AGE_IDENTITY: wrong })).toThrow();
  run({ AGE_IDENTITY: right });
  expect(read(name(1))).toBe(`segment ${name(1)}`.padEnd(SIZE, '.'));
  expect(read(name(2))).toBe('secret'.padEnd(SIZE, '\0'));
});

test('WAL that is encrypted with a passphrase is opened with the file that holds it', async () => {
  await openWith({ gpgPassphrase: 'correct $(horse) `battery`' });
  await store(1);
  const file = join(root, 'passphrase');
  writeFileSync(file, 'correct $(horse) `battery`\n');
  const home = join(root, 'gnupg');
  mkdirSync(home, { mode: 0o700 });
  run({ GPG_PASSPHRASE_FILE: file, GNUPGHOME: home });
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all']);
  expect(read(name(1))).toBe(`segment ${name(1)}`.padEnd(SIZE, '.'));
});
