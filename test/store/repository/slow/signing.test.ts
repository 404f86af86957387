import { createHmac } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { check } from '../../../../src/check/check.ts';
import { createLocalDestination } from '../../../../src/destinations/local.ts';
import { findSnapshot } from '../../../../src/restore/find.ts';
import type { Manifest, ManifestSource, ObjectRef } from '../../../../src/store/objects/manifest.ts';
import { canonicalJson } from '../../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../../src/store/objects/objects.ts';
import { nextPlace, readChain } from '../../../../src/store/repository/chain.ts';
import { openRepository } from '../../../../src/store/repository/open-repository.ts';
import { putPin, readPins } from '../../../../src/store/repository/pins.ts';
import type { Repository, Snapshot } from '../../../../src/store/repository/repository.ts';
import { readTombstones, removeSnapshot } from '../../../../src/store/repository/tombstones.ts';
import { scratchBase } from '../../helpers.ts';

const KEY = 'correct horse battery staple';
const OTHER = 'another key of many characters';
const NOTE = { removed: '2026-11-30T03:00:00.000Z', why: 'test' };
const PIN = { reason: 'before deploy 4.2', at: '2026-11-30T03:00:00.000Z' };

let root: string;
let last: Snapshot | undefined;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-signing-'));
  last = undefined;
});
afterEach(() => {
  for (const each of [root, `${root}-elsewhere`]) rmSync(each, { recursive: true, force: true });
});

const open = (keys: string[] = [KEY], project = 'shop', at = root) =>
  openRepository(createLocalDestination({ root: at }), {
    project,
    create: true,
    keys: {},
    ...(keys ? { signingKeys: keys } : {}),
  });
const idOf = (day: number) => `202611${day}T030000Z-00000a`;
const file = (day: number, project = 'shop') => join(root, project, 'snapshots', idOf(day), 'manifest.json');
const read = (day: number) => JSON.parse(readFileSync(file(day), 'utf8')) as Record<string, unknown>;
const write = (day: number, document: unknown, at = file(day)) => {
  mkdirSync(dirname(at), { recursive: true });
  writeFileSync(at, `${canonicalJson(document)}\n`);
};

/** Commits the snapshot of a day, with one object. */
async function commit(repository: Repository, day: number, over: Partial<Manifest> = {}): Promise<Snapshot> {
  const id = idOf(day);
  const body = `index of ${id}`;
  const key = `${repository.project}/snapshots/${id}/web.media.index.ndjson.zst`;
  const index: ObjectRef = { key, ...(await repository.destination.put(key, streamOf(body))) };
  const source: ManifestSource = {
    ...{ kind: 'volume', status: 'ok', index, files: 1, bytes: 1, newBytes: 1, newFiles: 1 },
    ...{ summary: '', warnings: [], skipped: {} },
  };
  const time = `2026-11-${day}T03:00:00.000Z`;
  last = await repository.commit({
    ...{
      format: 1,
      id,
      project: repository.project,
      start: time,
      end: time,
      trigger: 'schedule',
      agentVersion: '0.1.0',
    },
    ...{ sequence: (last?.manifest.sequence ?? 0) + 1, previous: last?.hash ?? null, status: 'ok' },
    sources: { 'web.media': source },
    ...over,
  });
  return last;
}

async function days(repository: Repository, ...all: number[]): Promise<Snapshot[]> {
  const made: Snapshot[] = [];
  for (const day of all) made.push(await commit(repository, day));
  return made;
}

const find = async (snapshot = 'latest', { unsigned = false, keys = [KEY] } = {}) =>
  (await findSnapshot(await open(keys), { snapshot, source: 'web.media', unsigned })).snapshot.id;
const refused = (code: string) => expect.objectContaining({ code });
const checked = async (keys?: string[]) => {
  const repository = await open(keys);
  const signal = new AbortController().signal;
  const { manifests, signatures } = await check(repository, { readData: 0, spool: join(root, '../spool'), signal });
  return { codes: manifests.map(({ snapshot, error }) => [snapshot, error.code]), signatures };
};

describe('a signed manifest', () => {
  test('names its key and is found', async () => {
    const repository = await open();
    const made = await commit(repository, 20);
    expect(made.manifest.signature).toEqual({
      algorithm: 'hmac-sha256',
      keyId: expect.stringMatching(/^[0-9a-f]{8}$/),
      value: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect((await repository.snapshots()).snapshots).toEqual([made]);
    expect(await find()).toBe(idOf(20));
    expect(readFileSync(file(20), 'utf8')).not.toContain(KEY);
    expect(await checked()).toEqual({
      codes: [],
      signatures: { checked: true, signed: 1, unsigned: [], keys: [made.manifest.signature?.keyId] },
    });
  });

  test('is signed as docs/format.md says', async () => {
    const { info } = await open();
    await commit(await open(), 20);
    const { signature, ...document } = read(20) as { signature: { keyId: string; value: string } };
    const text = canonicalJson({ document, repository: info.id, signs: 'manifest' });
    const hmac = (of: string) => createHmac('sha256', KEY).update(of).digest('hex');
    expect(signature.value).toBe(hmac(text));
    expect(signature.keyId).toBe(hmac('lifeboat signing key').slice(0, 8));
  });

  test('is protected in every value, including fields of newer versions', async () => {
    await commit(await open(), 20, { trigger: 'catch-up' });
    const whole = read(20);
    const text = readFileSync(file(20), 'utf8');
    /** Yields every variant of a document with one changed value. */
    function* altered(value: unknown): Generator<unknown> {
      if (Array.isArray(value)) yield [...(value as unknown[]), 'more'];
      else if (typeof value === 'object' && value !== null) {
        yield { ...value, added: 1 };
        for (const [name, part] of Object.entries(value))
          for (const other of altered(part)) yield { ...value, [name]: other };
      } else if (typeof value === 'number') yield value + 1;
      else if (typeof value === 'string')
        yield value === '' ? 'x' : value.replace(/[0-9a-z](?=[^0-9a-z]*$)/, (one) => (one === '1' ? '2' : '1'));
      else yield 'a'.repeat(64);
    }
    const seen = new Map<string, number>();
    for (const document of altered(whole)) {
      write(20, document);
      const { code } = await find(idOf(20)).then(
        () => ({ code: 'ACCEPTED' }),
        (error: { code: string }) => error,
      );
      seen.set(code, (seen.get(code) ?? 0) + 1);
    }
    expect(seen.has('ACCEPTED')).toBe(false);
    expect(seen.get('SIGNATURE_WRONG')).toBeGreaterThan(20);
    // The other codes: the key's id was changed, or the result is no longer a manifest of this format.
    expect([...seen.keys()].sort()).toEqual([
      'FORMAT_UNSUPPORTED',
      'OBJECT_DAMAGED',
      'SIGNATURE_KEY',
      'SIGNATURE_WRONG',
    ]);
    writeFileSync(file(20), text);
    expect(await find()).toBe(idOf(20));
  });

  test('is refused under another id, in another project, in another repository', async () => {
    await days(await open(), 20, 21);
    write(25, read(20));
    await expect(find(idOf(25))).rejects.toEqual(refused('SIGNATURE_WRONG'));
    await expect(find()).rejects.toEqual(refused('SIGNATURE_WRONG'));
    expect((await checked()).codes).toEqual([[idOf(25), 'SIGNATURE_WRONG']]);

    write(20, { ...read(20), project: 'blog' }, file(20, 'blog'));
    write(21, read(21), file(21, 'blog'));
    const blog = await (await open([KEY], 'blog')).snapshots();
    expect(blog).toMatchObject({ snapshots: [], damaged: [{ error: { code: 'SIGNATURE_WRONG' } }, {}] });

    const elsewhere = `${root}-elsewhere`;
    mkdirSync(elsewhere);
    const there = await open([KEY], 'shop', elsewhere);
    write(20, read(20), join(elsewhere, 'shop', 'snapshots', idOf(20), 'manifest.json'));
    await expect(there.resolve(idOf(20))).rejects.toEqual(refused('SIGNATURE_WRONG'));
  });

  test('is refused when it replaces a newer one or changes places with its neighbour', async () => {
    await days(await open(), 20, 21, 22);
    const newest = readFileSync(file(22));
    write(22, read(21));
    await expect(find()).rejects.toEqual(refused('SIGNATURE_WRONG'));
    writeFileSync(file(22), newest);
    write(21, { ...read(22), id: idOf(21), sequence: 2 });
    await expect(find(idOf(21))).rejects.toEqual(refused('SIGNATURE_WRONG'));
    expect(await find()).toBe(idOf(22));
    expect((await checked()).codes).toEqual([
      [idOf(21), 'SIGNATURE_WRONG'],
      [idOf(22), 'CHAIN_BROKEN'],
    ]);
  });
});

describe('keys', () => {
  test('the first of several signs and all verify; the error of a missing key has its id', async () => {
    const old = await commit(await open(), 20);
    await commit(await open([OTHER, KEY]), 21);
    expect(await find(idOf(20), { keys: [OTHER, KEY] })).toBe(idOf(20));
    expect(await find('latest', { keys: [OTHER] })).toBe(idOf(21));
    await expect(find(idOf(20), { keys: [OTHER] })).rejects.toEqual(
      expect.objectContaining({
        code: 'SIGNATURE_KEY',
        message: expect.stringContaining(old.manifest.signature?.keyId ?? '?'),
      }),
    );
  });

  test('without a key, signed manifests are read and not verified', async () => {
    await commit(await open(), 20);
    write(20, { ...read(20), agentVersion: '9' });
    expect(await find('latest', { keys: [] })).toBe(idOf(20));
    const repository = await open([]);
    const { signatures } = await readChain(repository, (await repository.snapshots()).snapshots);
    expect(signatures).toMatchObject({ checked: false, signed: 1 });
  });
});

describe('an unsigned manifest', () => {
  test('from before the key was set is listed, and restored only with --unsigned', async () => {
    await days(await open([]), 20, 21);
    await expect(find()).rejects.toEqual(refused('SIGNATURE_MISSING'));
    await commit(await open(), 22);
    expect(await find()).toBe(idOf(22));
    await expect(find(idOf(20))).rejects.toEqual(refused('SIGNATURE_MISSING'));
    expect(await find(idOf(20), { unsigned: true })).toBe(idOf(20));
    expect(await checked()).toMatchObject({ codes: [], signatures: { signed: 1, unsigned: [idOf(21), idOf(20)] } });
  });

  test.each([
    ['one with a higher sequence', 20, 99],
    ['one with a newer id', 29, 1],
  ])('among signed ones is forged if it is %s', async (_, day, sequence) => {
    await days(await open(), 21, 22);
    const { signature: _signature, ...document } = read(22);
    write(day, { ...document, id: idOf(day), sequence });
    const { snapshots, damaged } = await (await open()).snapshots();
    expect(snapshots.map(({ manifest }) => manifest.id)).toEqual([idOf(22), idOf(21)]);
    expect(damaged).toMatchObject([{ id: idOf(day), error: { code: 'SIGNATURE_MISSING' } }]);
    expect((await checked()).codes).toEqual([[idOf(day), 'SIGNATURE_MISSING']]);
    await expect(find(idOf(day))).rejects.toEqual(refused('SIGNATURE_MISSING'));
    if (day > 22) await expect(find()).rejects.toEqual(refused('SIGNATURE_MISSING'));
  });

  test('whose signature was removed is reported', async () => {
    await days(await open(), 20, 21);
    const { signature: _, ...document } = read(21);
    write(21, document);
    await expect(find()).rejects.toEqual(refused('SIGNATURE_MISSING'));
  });
});

describe('gaps', () => {
  test('a missing manifest is reported, by latest too if it was newer; a signed tombstone explains it', async () => {
    const repository = await open();
    const all = await days(repository, 20, 21, 22, 23);
    const bad = { ...(all[3] as Snapshot).manifest.sources['web.media'], status: 'failed' as const };
    await commit(repository, 24, { sources: { 'web.media': bad as ManifestSource } });
    await removeSnapshot(repository, all[0] as Snapshot, NOTE);
    expect(await find()).toBe(idOf(23));
    expect((await checked()).codes).toEqual([]);

    renameSync(file(22), join(root, '.away'));
    expect((await checked()).codes).toEqual([[idOf(23), 'CHAIN_BROKEN']]);
    expect(await find()).toBe(idOf(23));
    renameSync(join(root, '.away'), file(22));

    // Without the newest good one, the others show that a snapshot is missing.
    rmSync(file(23));
    await expect(find()).rejects.toEqual(refused('CHAIN_BROKEN'));
    expect(await find(idOf(22))).toBe(idOf(22));
    await removeSnapshot(repository, all[3] as Snapshot, NOTE);
    expect(await find()).toBe(idOf(22));
  });

  test('an unreadable manifest keeps its sequence, and its place once it is restored', async () => {
    const repository = await open();
    await days(repository, 20, 21, 22);
    const whole = readFileSync(file(22));
    writeFileSync(file(22), '{');
    const place = await nextPlace(repository, await repository.snapshots());
    expect(place).toEqual({ sequence: 4, previous: (await repository.resolve(idOf(21))).hash });
    await commit(repository, 23, place);
    expect(await nextPlace(repository, await repository.snapshots())).toEqual({ sequence: 5, previous: last?.hash });
    expect((await checked()).codes).toEqual([[idOf(22), 'OBJECT_DAMAGED']]);
    writeFileSync(file(22), whole);
    expect((await checked()).codes).toEqual([]);

    for (const day of [20, 21, 22, 23]) writeFileSync(file(day), '{');
    expect(await nextPlace(repository, await repository.snapshots())).toEqual({ sequence: 5, previous: null });
  });

  test('the next manifest follows the tombstone of the last', async () => {
    const repository = await open();
    const [, second] = await days(repository, 20, 21);
    await removeSnapshot(repository, second as Snapshot, NOTE);
    const place = await nextPlace(repository, await repository.snapshots());
    expect(place).toEqual({ sequence: 3, previous: second?.hash });
    await commit(repository, 22, place);
    expect((await checked()).codes).toEqual([]);
  });

  test('a forged or altered tombstone explains no gap and is replaced when the snapshot is removed', async () => {
    const repository = await open();
    const all = await days(repository, 20, 21, 22);
    const unsigned = await open([]);
    const [, middle] = all as [Snapshot, Snapshot, Snapshot];
    const kept = readFileSync(file(21));
    await removeSnapshot(unsigned, middle, NOTE);
    expect((await checked()).codes).toEqual([
      [idOf(21), 'SIGNATURE_MISSING'],
      [idOf(22), 'CHAIN_BROKEN'],
    ]);
    writeFileSync(file(21), kept);
    await removeSnapshot(repository, middle, NOTE);
    expect((await checked()).codes).toEqual([]);
    expect(await readTombstones(repository)).toMatchObject([{ id: idOf(21), verdict: 'signed' }]);

    const at = join(root, 'shop', 'tombstones', `${idOf(21)}.json`);
    writeFileSync(at, readFileSync(at, 'utf8').replace('"why":"test"', '"why":"because"'));
    expect((await checked()).codes).toEqual([
      [idOf(21), 'SIGNATURE_WRONG'],
      [idOf(22), 'CHAIN_BROKEN'],
    ]);
  });
});

test('a pin is signed for its snapshot; an altered or moved pin still keeps it and is reported', async () => {
  const repository = await open();
  await days(repository, 20, 21);
  await putPin(repository, idOf(20), PIN);
  await putPin(await open([]), idOf(21), PIN);
  expect(await checked()).toMatchObject({ codes: [], signatures: { unsigned: [`the pin of ${idOf(21)}`] } });
  const at = (day: number) => join(root, 'shop', 'pins', `${idOf(day)}.json`);
  writeFileSync(at(21), readFileSync(at(20)));
  expect((await checked()).codes).toEqual([[idOf(21), 'SIGNATURE_WRONG']]);
  writeFileSync(at(20), readFileSync(at(20), 'utf8').replace('4.2', '4.3'));
  expect((await checked()).codes).toHaveLength(2);
  expect([...(await readPins(repository)).keys()]).toEqual([idOf(20), idOf(21)]);
});
