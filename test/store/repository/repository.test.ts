import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ErrorCode, LifeboatError } from '../../../src/base/errors.ts';
import type { Destination } from '../../../src/destinations/destination.ts';
import { createLocalDestination } from '../../../src/destinations/local.ts';
import {
  canonicalJson,
  decodeManifest,
  encodeManifest,
  type Manifest,
  type ManifestSource,
} from '../../../src/store/objects/manifest.ts';
import { newSnapshotId, parseSnapshotId } from '../../../src/store/objects/snapshot-id.ts';
import { resolveSnapshot } from '../../../src/store/repository/chain.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import { acceptInfo, type KnownRepository, readInfo } from '../../../src/store/repository/repository-info.ts';
import { keys } from '../../contract/destination.ts';
import { scratchBase } from '../helpers.ts';

let root: string;
let destination: Destination;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-repository-'));
  destination = createLocalDestination({ root });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const HASH = 'a'.repeat(64);
const source = (fields: Partial<ManifestSource> = {}): ManifestSource => ({
  kind: 'volume',
  status: 'ok',
  files: 0,
  bytes: 0,
  newBytes: 0,
  newFiles: 0,
  summary: '',
  warnings: [],
  skipped: {},
  ...fields,
});
const manifest = (id: string, fields: Partial<Manifest> = {}): Manifest => ({
  format: 1,
  id,
  project: 'shop',
  sequence: 1,
  previous: null,
  start: '2026-11-20T03:00:00.000Z',
  end: '2026-11-20T03:00:41.000Z',
  trigger: 'schedule',
  agentVersion: '0.1.0',
  status: 'ok',
  sources: { 'web.media': source() },
  ...fields,
});
const ID = (n: number) => `2026112${n}T030000Z-00000${n}`;
const open = () => openRepository(destination, { project: 'shop', create: true, keys: {} });

describe('opening a repository', () => {
  test('creates a repository in an empty destination, once', async () => {
    const first = await open();
    expect(first.info).toMatchObject({ format: 1, id: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect((await openRepository(destination, { project: 'other', create: false, keys: {} })).info).toEqual(first.info);
    expect(readFileSync(join(root, 'lifeboat.json'), 'utf8')).toBe(`${canonicalJson(first.info)}\n`);
  });

  test('two agents at once open the same repository', async () => {
    const [a, b] = await Promise.all([open(), open()]);
    expect(a.info).toEqual(b.info);
  });

  test('a repository that another agent creates between two looks is opened', async () => {
    const other: string[] = [];
    const late: Destination = {
      ...destination,
      async *list(prefix, options) {
        if (other.length === 0) other.push((await open()).info.id);
        yield* destination.list(prefix, options);
      },
    };
    const { info } = await openRepository(late, { project: 'shop', create: true, keys: {} });
    expect([info.id]).toEqual(other);
  });

  test('refuses an empty destination without `create`, and one that holds other things', async () => {
    await expect(openRepository(destination, { project: 'shop', create: false, keys: {} })).rejects.toMatchObject({
      code: 'DEST_FOREIGN',
    });
    writeFileSync(join(root, '.hidden'), 'x');
    writeFileSync(join(root, 'holiday.jpg'), 'x');
    await expect(open()).rejects.toMatchObject({
      code: 'DEST_FOREIGN',
      message: expect.stringContaining('holiday.jpg'),
    });
    expect(readdirSync(root).sort()).toEqual(['.hidden', 'holiday.jpg']);
  });

  test('refuses a newer format and a damaged lifeboat.json', async () => {
    writeFileSync(join(root, 'lifeboat.json'), '{"format":2,"id":"x","created":"2026-11-20T03:00:00Z"}');
    await expect(open()).rejects.toMatchObject({ code: 'FORMAT_UNSUPPORTED' });
    for (const text of ['', '{', '[]', '{"format":"1"}', '{"format":1}']) {
      writeFileSync(join(root, 'lifeboat.json'), text);
      await expect(open(), text).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    }
  });
});

describe('a broken lifeboat.json', () => {
  const known = async () => {
    const { info } = await open();
    mkdirSync(join(root, 'shop/snapshots/a'), { recursive: true });
    writeFileSync(join(root, 'shop/snapshots/a/manifest.json'), '{}');
    rmSync(join(root, 'lifeboat.json'));
    return { info };
  };
  const accept = (of: KnownRepository | undefined) => acceptInfo(destination, { project: 'shop', known: of });

  test('of a copy that lost it: the message says where another one is', async () => {
    const { info } = await known();
    await expect(
      openRepository(destination, { project: 'shop', create: true, keys: {}, copyOf: info }),
    ).rejects.toMatchObject({
      code: 'DEST_FOREIGN',
      hint: expect.stringContaining('put the lifeboat.json of the destination there'),
    });
  });

  test.each(['', '{', '{"format":1}'])(
    'is written again when the destination is accepted, as the hint says: %j',
    async (text) => {
      const before = await known();
      writeFileSync(join(root, 'lifeboat.json'), text);
      await expect(
        openRepository(destination, { project: 'shop', create: true, keys: {}, known: before }),
      ).rejects.toMatchObject({ code: 'OBJECT_DAMAGED', hint: expect.stringContaining('lifeboat accept destination') });
      expect(await accept(before)).toEqual({ info: before.info, how: 'mended' });
      expect(await readInfo(destination)).toEqual(before.info);
    },
  );

  test('stays unchanged if its id is unknown, the project has no snapshots, or the format is newer', async () => {
    const before = await known();
    writeFileSync(join(root, 'lifeboat.json'), '');
    await expect(accept(undefined)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    const other = acceptInfo(destination, { project: 'blog', known: before });
    await expect(other).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    expect(readFileSync(join(root, 'lifeboat.json'), 'utf8')).toBe('');
    writeFileSync(join(root, 'lifeboat.json'), '{"format":2}');
    await expect(accept(before)).rejects.toMatchObject({ code: 'FORMAT_UNSUPPORTED' });
  });

  test.each<[string, (path: string) => void]>([
    ['a directory', (path) => mkdirSync(path)],
    ['a link', (path) => symlinkSync('elsewhere', path)],
  ])('%s in its place is reported with a hint', async (_, make) => {
    const before = await known();
    make(join(root, 'lifeboat.json'));
    await expect(accept(before)).rejects.toMatchObject({
      code: 'DEST_EXISTS',
      message: `lifeboat.json at ${root} is a directory or a link, not a file`,
      hint: expect.stringContaining('Move it away'),
    });
  });
});

describe('committing', () => {
  test('stores a snapshot that can be found', async () => {
    const repository = await open();
    const first = await repository.commit(manifest(ID(0)));
    const second = await repository.commit(manifest(ID(1), { sequence: 2, previous: first.hash }));
    const third = await repository.commit(
      manifest(ID(2), { sequence: 3, previous: second.hash, sources: { 'web.media': source({ status: 'failed' }) } }),
    );
    expect((await repository.snapshots()).snapshots).toEqual([third, second, first]);
    expect(await resolveSnapshot(repository, 'latest', Date.now())).toEqual(third);
    expect(await repository.resolve(ID(0))).toEqual(first);
    expect(await repository.resolve('20261121')).toEqual(second);
    for (const name of ['', '2026', '2027', '../x', 'lates']) {
      await expect(repository.resolve(name), name).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN' });
      // A user may give the operands in the wrong order.
      const hint = expect.stringContaining('put the snapshot first: `latest db.postgres`');
      await expect(repository.resolve('db.postgres')).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN', hint });
    }
    await expect(repository.commit(manifest(ID(0)))).rejects.toMatchObject({ code: 'DEST_EXISTS' });
  });

  test('refuses a manifest that names missing or incomplete objects', async () => {
    const repository = await open();
    const facts = await repository.putFacts(ID(0), 'web.media', { rows: 3 });
    const named = (ref: typeof facts) => manifest(ID(0), { sources: { 'web.media': source({ facts: ref }) } });
    await expect(repository.commit(named({ ...facts, key: `${facts.key}x` }))).rejects.toMatchObject({
      code: 'OBJECT_MISSING',
    });
    await expect(repository.commit(named({ ...facts, size: facts.size + 1 }))).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
    });
    expect((await repository.snapshots()).snapshots).toEqual([]);
    await repository.commit(named(facts));
    expect(await repository.readFacts(facts)).toEqual({ rows: 3 });
  });

  test("a project never sees another project's snapshots, even if one name is a prefix of the other", async () => {
    const repository = await open();
    await repository.commit(manifest(ID(0)));
    const other = await openRepository(destination, { project: 'shop-staging', create: false, keys: {} });
    expect((await other.snapshots()).snapshots).toEqual([]);
    expect(await keys(destination, 'shop/')).toEqual([`shop/snapshots/${ID(0)}/manifest.json`]);
  });

  test('damaged manifests are reported and do not hide the others', async () => {
    const repository = await open();
    const good = await repository.commit(manifest(ID(0)));
    for (const n of [1, 2, 3]) await repository.commit(manifest(ID(n)));
    const path = (n: number) => join(root, `shop/snapshots/${ID(n)}/manifest.json`);
    writeFileSync(path(1), '{');
    writeFileSync(path(2), readFileSync(path(0)));
    writeFileSync(path(3), readFileSync(path(3), 'utf8').replace('"format":1', '"format":7'));
    const { snapshots, damaged } = await repository.snapshots();
    expect(snapshots).toEqual([good]);
    expect(damaged.map(({ id, error }) => [id, error.code])).toEqual([
      [ID(3), 'FORMAT_UNSUPPORTED'],
      [ID(2), 'OBJECT_DAMAGED'],
      [ID(1), 'OBJECT_DAMAGED'],
    ]);
  });

  test('an unresponsive destination is not reported as a damaged manifest', async () => {
    const repository = await open();
    for (const n of [0, 1]) await repository.commit(manifest(ID(n), { sequence: n + 1 }));
    const { get } = destination;
    let code: ErrorCode = 'DEST_UNREACHABLE';
    destination.get = (key, options) =>
      key.includes(ID(1)) ? Promise.reject(new LifeboatError(code, 'no answer')) : get(key, options);
    await expect(repository.snapshots()).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    code = 'OBJECT_ARCHIVED';
    expect((await repository.snapshots()).damaged).toMatchObject([{ id: ID(1), error: { code } }]);
    code = 'OBJECT_MISSING';
    expect(await repository.snapshots()).toMatchObject({ snapshots: [{ manifest: { id: ID(0) } }], damaged: [] });
  });

  test('listing ends at once when it is aborted', async () => {
    const repository = await open();
    for (const n of [0, 1, 2]) await repository.commit(manifest(ID(n), { sequence: n + 1 }));
    const stop = new AbortController();
    const signals: unknown[] = [];
    // Acts like a response whose body breaks off on abort.
    destination.get = async (_, { signal } = {}) => {
      signals.push(signal);
      stop.abort(new LifeboatError('INTERRUPTED', 'stopped'));
      throw new LifeboatError('OBJECT_DAMAGED', 'cut short');
    };
    await expect(repository.snapshots(stop.signal)).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(signals).toEqual([stop.signal]);
  });
});

test('a manifest on a bad sector is reported as damaged, and the others are listed', async () => {
  const repository = await open();
  for (const n of [0, 1, 2]) await repository.commit(manifest(ID(n), { sequence: n + 1 }));
  const get = destination.get.bind(destination);
  destination.get = async (key, options) => {
    if (!key.includes(ID(1))) return get(key, options);
    return new Readable({
      read() {
        this.destroy(new LifeboatError('OBJECT_DAMAGED', `${key} cannot be read`));
      },
    });
  };
  const { snapshots, damaged } = await repository.snapshots();
  expect(snapshots.map(({ manifest: { id } }) => id)).toEqual([ID(2), ID(0)]);
  expect(damaged).toMatchObject([{ id: ID(1), error: { code: 'OBJECT_DAMAGED' } }]);
});

describe('index objects', () => {
  test('are fetched in plain, with mode 600, and only if they are as they were stored', async () => {
    const repository = await open();
    const plain = join(root, '.index');
    writeFileSync(plain, 'line\n'.repeat(1000));
    const recorded: string[] = [];
    const ref = await repository.putIndex(ID(0), 'web.media', plain, async (key) => void recorded.push(key));
    expect(ref.key).toBe(`shop/snapshots/${ID(0)}/web.media.index.ndjson.zst`);
    expect(recorded).toEqual([ref.key]);
    const back = join(root, '.back');
    await repository.fetchIndex(ref, back);
    expect(readFileSync(back).equals(readFileSync(plain))).toBe(true);
    expect(statSync(back).mode & 0o777).toBe(0o600);
    rmSync(back);
    for (const wrong of [{ sha256: HASH }, { size: ref.size - 1 }]) {
      await expect(repository.fetchIndex({ ...ref, ...wrong }, back)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
      expect(readdirSync(root)).not.toContain('.back');
    }
  });

  test('are not unpacked if they were changed, because a small object may unpack to a large one', async () => {
    const repository = await open();
    const plain = join(root, '.index');
    writeFileSync(plain, 'line\n');
    const ref = await repository.putIndex(ID(0), 'web.media', plain);
    const stored = readFileSync(join(root, ref.key));
    writeFileSync(join(root, ref.key), stored.fill(0, 4, 5));
    const back = join(root, '.back');
    // Unpacking would fail on this file.
    writeFileSync(back, 'in the way');
    await expect(repository.fetchIndex(ref, back)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    expect(readFileSync(back, 'utf8')).toBe('in the way');
    expect(readdirSync(root).filter((name) => name.startsWith('.'))).toEqual(['.back', '.index']);
  });
});

describe('cleaning up after a failed run', () => {
  test('removes objects that no manifest names and refuses everything else', async () => {
    const repository = await open();
    const facts = await repository.putFacts(ID(0), 'web.media', {});
    const { manifest: committed } = await repository.commit(
      manifest(ID(0), { sources: { 'web.media': source({ facts }) } }),
    );
    const left = `shop/packs/web.media/ab/${'ab'.repeat(16)}.zip`;
    await destination.put(left, Readable.from(['x']));
    await destination.put('shop-staging/packs/x', Readable.from(['x']));
    const manifestKey = `shop/snapshots/${committed.id}/manifest.json`;
    const result = await repository.removeObjects([
      left,
      'shop/packs/gone',
      facts.key,
      manifestKey,
      'shop-staging/packs/x',
      'lifeboat.json',
    ]);
    expect(result).toEqual({
      removed: [left, 'shop/packs/gone'],
      refused: [facts.key, manifestKey, 'shop-staging/packs/x', 'lifeboat.json'],
    });
    expect(await keys(destination, '')).toEqual(
      ['lifeboat.json', 'shop-staging/packs/x', manifestKey, facts.key].sort(),
    );
  });

  test("continues while another run's manifest is unreadable, which cannot name this run's objects", async () => {
    const repository = await open();
    const facts = await repository.putFacts(ID(0), 'web.media', {});
    await repository.commit(manifest(ID(0), { sources: { 'web.media': source({ facts }) } }));
    await repository.commit(manifest(ID(1)));
    writeFileSync(join(root, `shop/snapshots/${ID(1)}/manifest.json`), '{');
    const own = await repository.putFacts(ID(2), 'web.media', {});
    await destination.put('shop/packs/x', Readable.from(['x']));
    expect(await repository.removeObjects(['shop/packs/x', own.key, facts.key])).toEqual({
      removed: ['shop/packs/x', own.key],
      refused: [facts.key],
    });
  });

  test('removes the pin of a run without a snapshot, but not that of a snapshot, even an unreadable one', async () => {
    const repository = await open();
    await repository.commit(manifest(ID(0)));
    await repository.commit(manifest(ID(1)));
    writeFileSync(join(root, `shop/snapshots/${ID(1)}/manifest.json`), '{');
    const pins = [0, 1, 2].map((i) => `shop/pins/${ID(i)}.json`) as [string, string, string];
    for (const key of pins) await destination.put(key, Readable.from(['x']));
    const [good, unreadable, gone] = pins;
    expect(await repository.removeObjects([unreadable])).toEqual({ removed: [], refused: [unreadable] });
    expect(await repository.removeObjects([good, gone])).toEqual({ removed: [gone], refused: [good] });
    expect(await keys(destination, 'shop/pins/')).toEqual([good, unreadable]);
  });

  test('removes nothing of a run whose own manifest exists but is unreadable', async () => {
    const repository = await open();
    const facts = await repository.putFacts(ID(0), 'web.media', {});
    await repository.commit(manifest(ID(0), { sources: { 'web.media': source({ facts }) } }));
    writeFileSync(join(root, `shop/snapshots/${ID(0)}/manifest.json`), '{');
    await destination.put('shop/packs/x', Readable.from(['x']));
    const announced = ['shop/packs/x', facts.key];
    expect(await repository.removeObjects(announced)).toEqual({ removed: [], refused: announced });
    expect(await keys(destination, 'shop/packs/')).toEqual(['shop/packs/x']);
  });
});

describe('manifests', () => {
  test('are encoded with sorted keys, and unknown fields are ignored', () => {
    const value = manifest(ID(0));
    const bytes = encodeManifest(value);
    expect(decodeManifest(bytes)).toEqual(value);
    const shuffled = Object.fromEntries(Object.entries(value).reverse()) as Manifest;
    expect(encodeManifest(shuffled).equals(bytes)).toBe(true);
    expect(decodeManifest(Buffer.from(JSON.stringify({ ...value, later: 'more', future: 1 })))).toEqual(value);
    expect(canonicalJson({ b: [{ d: 1, c: 2 }], a: null })).toBe('{"a":null,"b":[{"c":2,"d":1}]}');
  });

  test('refuse keys that leave the repository', () => {
    for (const key of ['../x', '/x', 'a//b', 'a/../b', 'a/', '']) {
      const bad = manifest(ID(0), { sources: { s: source({ facts: { key: 'good', size: 1, sha256: HASH } }) } });
      const bytes = encodeManifest(bad).toString().replace('"good"', JSON.stringify(key));
      expect(() => decodeManifest(Buffer.from(bytes)), key).toThrow(
        expect.objectContaining({ code: 'OBJECT_DAMAGED' }),
      );
    }
  });
});

describe('snapshot ids', () => {
  test('sort by time and can be read back', () => {
    const date = new Date('2026-11-20T03:00:00.999Z');
    const id = newSnapshotId(date, Buffer.from('4f1c9a', 'hex'));
    expect(id).toBe('20261120T030000Z-4f1c9a');
    expect(parseSnapshotId(id)).toEqual({ date: new Date('2026-11-20T03:00:00Z'), suffix: '4f1c9a' });
    expect(newSnapshotId(date)).toMatch(/^20261120T030000Z-[0-9a-f]{6}$/);
    for (const bad of [
      '',
      '20261120T030000Z',
      '20260231T030000Z-4f1c9a',
      '20261120T250000Z-4f1c9a',
      'x20261120T030000Z-4f1c9a',
      '20261120T030000Z-4F1C9A',
    ]) {
      expect(parseSnapshotId(bad), bad).toBeUndefined();
    }
  });
});
