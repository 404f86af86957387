import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import type { CopyPlace } from '../../../src/copy/context.ts';
import { highestCopied } from '../../../src/copy/highest-copied.ts';
import { isCopyOk } from '../../../src/report/copy-text.ts';
import type { CopyReport } from '../../../src/report/events.ts';
import { encodeManifest, manifestKey } from '../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { takeLease } from '../../../src/store/repository/lease.ts';
import { LEASE_MS } from '../../../src/store/repository/lease-steps.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import { readPacks } from '../../../src/store/repository/pack-lists.ts';
import { deletePin, pinKey, putPin, readPins } from '../../../src/store/repository/pins.ts';
import type { Snapshot } from '../../../src/store/repository/repository.ts';
import { putTombstone, removeSnapshot, tombstoneIds, tombstoneKey } from '../../../src/store/repository/tombstones.ts';
import { CopyBench, DAY, MEDIA } from '../../run/copy-bench.ts';
import { noSightings } from '../../store/helpers.ts';

let bench: CopyBench;
beforeEach(() => {
  bench = new CopyBench();
});
afterEach(() => bench.remove());

const unreachable = () => {
  throw new LifeboatError('DEST_UNREACHABLE', 'the copy does not answer');
};
const pin = async (id: string) =>
  putPin(await bench.main(), id, { reason: 'before deploy 4.2', at: '2026-11-10T03:00:00.000Z' });

describe('a copy', () => {
  test('receives everything, byte for byte, and then only new objects', async () => {
    bench.remove();
    bench = new CopyBench({ local: true });
    await bench.nights(3);
    expect(await bench.run()).toEqual([
      { name: 'copy', status: 'ok', snapshots: 3, objects: 10, bytes: expect.any(Number) },
    ]);
    expect(bench.files()).toEqual(bench.files('main'));
    expect(await bench.ids()).toHaveLength(3);
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 0, objects: 0, bytes: 0 }]);
    await bench.night();
    expect(await bench.run()).toMatchObject([{ snapshots: 1, objects: 3 }]);
    expect(bench.files()).toEqual(bench.files('main'));
  });

  test('receives snapshots in the order of the chain, regardless of dates, so it never has a gap', async () => {
    const start = bench.now;
    const order: string[] = [];
    for (const day of [20, 0, -300, 1]) {
      bench.now = start + day * DAY;
      order.push(...(await bench.nights(1)));
    }
    const seen: string[] = [];
    bench.fault = (call, key) => {
      if (call === 'put' && key.endsWith('/manifest.json')) seen.push(key.split('/')[2] ?? '');
    };
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 4 }]);
    expect(seen).toEqual(order);
    expect(await bench.ids()).toEqual(order);
  });

  test('that locks its objects keeps older packs locked as long as the snapshots that need them', async () => {
    const locked: string[][] = [];
    bench.prolong = async (keys) => locked.push([...keys]);
    await bench.nights(2);
    await bench.run();
    expect(locked).toHaveLength(2);
    const [first = [], second = []] = locked;
    // The pack that all share was sent with the first snapshot.
    expect(second.filter((key) => first.includes(key) && key.includes('/packs/'))).toHaveLength(1);
    const refuse = new LifeboatError('DEST_UNWRITABLE', 'it does not let this key prolong locks');
    bench.prolong = () => Promise.reject(refuse);
    await bench.night();
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 1 }]);
  });

  test('gets an object again that a check found damaged, although its size is right', async () => {
    const { manifest } = await bench.night();
    await bench.run();
    const packs = await readPacks(await bench.main(), manifest.sources[MEDIA]!);
    const [damaged, whole] = packs.map(({ key }) => key) as [string, string];
    const former = bench.files();
    const content = former[damaged] as string;
    bench.write('copy', damaged, content.replace(/^./, '~'));
    // Without the result of a check, nothing is read again.
    expect(await bench.run()).toMatchObject([{ status: 'ok', objects: 0 }]);
    await bench.state.saveDamaged([damaged, whole, 'shop/gone']);
    const repairing = { copies: [{ ...bench.place(), suspects: bench.state }] };

    // A damaged object holds more than none, so it stays if the other side does not have it whole either.
    bench.write('main', damaged, content.replace(/^./, '!'));
    await bench.run(repairing);
    expect(bench.files()[damaged]).toBe(content.replace(/^./, '~'));
    bench.write('main', damaged, content);

    expect(await bench.run(repairing)).toMatchObject([{ status: 'ok', objects: 1 }]);
    expect(bench.files()).toEqual(former);
    expect(await bench.state.damaged()).toEqual(['shop/gone']);
  });

  /** Damages both packs of a snapshot at the copy, as a check found. Returns their keys, and what the copy had. */
  async function damagePacks(): Promise<{ packs: [string, string]; former: Record<string, string> }> {
    const { manifest } = await bench.night();
    await bench.run();
    const former = bench.files();
    const needed = await readPacks(await bench.main(), manifest.sources[MEDIA]!);
    const packs = needed.map(({ key }) => key) as [string, string];
    for (const key of packs) bench.write('copy', key, (former[key] as string).replace(/^./, '~'));
    await bench.state.saveDamaged(packs);
    return { packs, former };
  }
  const repairing = () => ({ copies: [{ ...bench.place(), suspects: bench.state }] });

  test('gets every object again that can be repaired, although another one of its snapshot cannot', async () => {
    for (const which of [0, 1] as const) {
      bench.remove();
      bench = new CopyBench();
      const { packs, former } = await damagePacks();
      const [lost, other] = [packs[which], packs[1 - which]] as [string, string];
      bench.write('main', lost, (former[lost] as string).replace(/^./, '!'));
      const error = { code: 'OBJECT_DAMAGED', message: expect.stringContaining(lost) };
      expect(await bench.run(repairing())).toMatchObject([{ status: 'partial', objects: 1, error }]);
      expect(bench.files()[other]).toBe(former[other]);
      expect(bench.files()[lost]).not.toBe(former[lost]);
      expect(await bench.state.damaged()).toEqual([lost]);
    }
  });

  test.each([
    ['a bad sector', 'OBJECT_DAMAGED', 'EIO', -5],
    ['missing permissions', 'DEST_UNREACHABLE', 'EACCES', -13],
  ] as const)('gets an object again that cannot be read there: %s', async (_, code, name, errno) => {
    const { packs, former } = await damagePacks();
    bench.fault = (call, key) => {
      if (call !== 'get' || key !== packs[0] || bench.files()[key] === former[key]) return;
      const cause = Object.assign(new Error(`${name}: cannot be read`), { code: name, errno });
      throw new LifeboatError(code, `${key} cannot be read`, { cause });
    };
    expect(await bench.run(repairing())).toMatchObject([{ status: 'ok', objects: 2 }]);
    expect(bench.files()).toEqual(former);
    expect(await bench.state.damaged()).toEqual([]);
  });

  test('keeps an object that cannot be read there if nothing else can be read either', async () => {
    const { packs } = await damagePacks();
    const present = bench.files();
    bench.fault = (call, key) => {
      if (call === 'get' && (key === 'lifeboat.json' ? reading : key.includes('/packs/'))) unreachable();
      reading ||= key === packs[0];
    };
    let reading = false;
    expect(await bench.run(repairing())).toMatchObject([{ status: 'failed', error: { code: 'DEST_UNREACHABLE' } }]);
    expect(bench.files()).toEqual(present);
    expect(await bench.state.damaged()).toEqual(packs);
  });

  test('that is behind reports since when, and catches up oldest first', async () => {
    await bench.nights(1);
    await bench.run();
    const complete = (await bench.state.copies()).copy?.complete;
    bench.fault = unreachable;
    const [first] = await bench.nights(1);
    const at = new Date(bench.now - DAY).toISOString();
    const failed = { status: 'failed', behindSince: at, error: { code: 'DEST_UNREACHABLE' } };
    expect(await bench.run()).toMatchObject([failed]);
    await bench.nights(2);
    expect(await bench.run()).toMatchObject([failed]);
    expect(await bench.state.copies()).toMatchObject({ copy: { complete, behindSince: at } });

    const order: string[] = [];
    bench.fault = (call, key) => void (call === 'put' && key.endsWith('manifest.json') && order.push(key));
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 3 }]);
    expect(order).toEqual(order.toSorted());
    expect(order[0]).toContain(first);
    expect((await bench.state.copies()).copy?.behindSince).toBeUndefined();
    expect(await bench.ids()).toHaveLength(4);
  });

  test('that stops at any call continues from there, and never has a manifest without its objects', async () => {
    await bench.nights(3);
    await pin((await bench.nights(1))[0] as string);
    let calls = 0;
    let stopAt = 0;
    let sent = 0;
    bench.fault = () => {
      calls += 1;
      if (calls > stopAt) unreachable();
    };
    // Each attempt stops later, until one completes.
    for (let status = ''; status !== 'ok'; stopAt += 11) {
      calls = 0;
      const [report] = await bench.run();
      status = report?.status ?? '';
      sent += report?.objects ?? 0;
      const started = Object.keys(bench.files()).length > 0;
      if (started) await bench.ids();
      expect(stopAt).toBeLessThan(1000);
    }
    expect(sent).toBe(13);
    expect(bench.files()).toEqual(bench.files('main'));
  });

  test('that hangs is aborted; the others are not delayed', async () => {
    await bench.nights(1);
    bench.stallTimeoutMs = 2000;
    bench.fault = (call, key) => (call === 'put' && key.includes('/packs/') ? new Promise(() => {}) : undefined);
    const reports = await bench.run({ copies: [bench.place(), bench.place('other')] });
    expect(reports).toMatchObject([
      { name: 'copy', status: 'failed', error: { code: 'DEST_UNREACHABLE' } },
      { name: 'other', status: 'ok', snapshots: 1 },
    ]);
    expect(reports[0]?.error?.message).toContain('made no progress');
    expect(await bench.ids('other')).toHaveLength(1);
  });

  test('that is stopped ends and reports why', async () => {
    await bench.nights(1);
    const stop = new AbortController();
    bench.signal = stop.signal;
    bench.fault = (_call, key) =>
      void (key.includes('/packs/') && stop.abort(new LifeboatError('INTERRUPTED', 'stop')));
    expect(await bench.run()).toMatchObject([{ status: 'failed', error: { code: 'INTERRUPTED' } }]);
  });

  test('never receives an object that is damaged at the destination; other snapshots are copied', async () => {
    bench.remove();
    bench = new CopyBench({ local: true });
    const ids = await bench.nights(3);
    const damaged = await bench.ownPack(1);
    bench.write('main', damaged, bench.files('main')[damaged]?.replace('content', 'cOntent') ?? '');
    const [report] = await bench.run();
    expect(report).toMatchObject({ status: 'partial', snapshots: 2, error: { code: 'OBJECT_DAMAGED' } });
    expect(report?.error?.message).toContain(`${ids[1]} is not copied: ${damaged}`);
    expect(report?.behindSince).toBe(new Date(bench.now - 2 * DAY).toISOString());
    expect(Object.keys(bench.files()).filter((name) => name.includes('manifest'))).toHaveLength(2);
    expect(bench.files()[damaged]).toBeUndefined();
    // The next backup stores it again.
    expect(await bench.state.damaged()).toEqual([damaged]);
    // An incomplete copy is not pruned.
    expect((await bench.run({}, { pruning: true }))[0]?.pruned).toBeUndefined();
  });

  test('of another repository is refused and not written to', async () => {
    await bench.nights(1);
    const other = bench.destination('copy');
    await openRepository(other, { project: 'shop', create: true, keys: {} });
    const before = bench.files();
    expect(await bench.run()).toMatchObject([{ status: 'failed', error: { code: 'DEST_FOREIGN' } }]);
    expect(bench.files()).toEqual(before);
    await other.delete('lifeboat.json');
    bench.write('copy', 'notes.txt', 'theirs');
    expect(await bench.run()).toMatchObject([{ status: 'failed', error: { code: 'DEST_FOREIGN' } }]);
    expect(bench.files()).toEqual({ 'notes.txt': 'theirs' });
  });

  test('that was created and is empty now is not created again: its disk may not be mounted', async () => {
    await bench.nights(1);
    bench.fault = (call, key) => {
      if (call === 'put' && key.endsWith('manifest.json')) throw new LifeboatError('DEST_FULL', 'no space left');
    };
    expect(await bench.run()).toMatchObject([{ status: 'failed', error: { code: 'DEST_FULL' } }]);
    bench.fault = undefined;
    for (const key of Object.keys(bench.files())) await bench.destination('copy').delete(key);
    await bench.destination('copy').delete('lifeboat.json');
    const [report] = await bench.run();
    expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_FOREIGN' } });
    expect(report?.error?.message).toMatch(/it was created (today|yesterday|\w+ \d+ \w+) \d\d:\d\d UTC$/);
    expect(bench.files()).toEqual({});
  });

  test('is repaired if objects are missing or truncated, or a manifest is damaged', async () => {
    await bench.nights(2);
    await bench.run();
    const [pack, other] = Object.keys(bench.files()).filter((name) => name.includes('/packs/')) as [string, string];
    const manifest = Object.keys(bench.files()).find((name) => name.endsWith('manifest.json')) as string;
    await bench.destination('copy').delete(pack);
    bench.write('copy', other, 'short');
    bench.write('copy', manifest, '{"format":1');
    expect(await bench.run()).toMatchObject([{ status: 'ok', objects: 2, snapshots: 1 }]);
    expect(bench.files()).toEqual(bench.files('main'));
  });
});

describe('a list of packs that is lost', () => {
  const listsIn = (at: string) => Object.keys(bench.files(at)).filter((key) => key.endsWith('.packs.ndjson.zst'));
  const backToMain = () => ({
    copies: [{ ...bench.place('main'), keep: { last: 1_000_000 }, keepsPins: true as const }],
    main: () => bench.copy(),
  });

  test.each(['gone', 'damaged', 'cut'])(
    'at the destination (%s) affects only snapshots that the copy lacks, and comes back from it',
    async (harm) => {
      await bench.nights(2);
      await bench.run();
      const before = bench.files('main');
      const harmList = async (key: string) => {
        const content = bench.files('main')[key] as string;
        if (harm === 'gone') await bench.destination('main').delete(key);
        else bench.write('main', key, harm === 'cut' ? content.slice(1) : content.replace(/.$/s, '~'));
      };
      const [first] = listsIn('main') as [string];
      await harmList(first);
      // The copy has this list: the snapshot there is whole, and even a lost pack comes back.
      const pack = await bench.ownPack(0);
      await bench.destination('copy').delete(pack);
      expect(await bench.run()).toMatchObject([{ status: 'ok', objects: 1 }]);
      expect(bench.files()).toEqual(before);

      const [lacking, next] = await bench.nights(2);
      const second = listsIn('main').find((key) => key.includes(lacking as string)) as string;
      const whole = bench.files('main')[second] as string;
      await harmList(second);
      const [report] = await bench.run();
      expect(report).toMatchObject({ status: 'partial', snapshots: 1 });
      expect(report?.error?.message).toContain(`${lacking} is not copied: `);
      expect(report?.error?.message).toContain(second);
      expect(await bench.state.damaged()).toContain(second);
      const committed = Object.keys(bench.files()).filter((key) => key.endsWith('manifest.json'));
      expect(committed.some((key) => key.includes(lacking as string))).toBe(false);
      expect(committed.some((key) => key.includes(next as string))).toBe(true);
      bench.write('main', second, whole);
      expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 1 }]);
      expect(await bench.ids()).toHaveLength(4);

      // `lifeboat copy --from` copies in the other direction.
      await bench.state.saveDamaged([first]);
      const [place] = backToMain().copies;
      const repairing = { ...backToMain(), copies: [{ ...(place as CopyPlace), suspects: bench.state }] };
      expect(await bench.run(repairing)).toMatchObject([{ status: 'ok', snapshots: 0, objects: 1 }]);
      expect(bench.files('main')[first]).toBe(before[first]);
    },
  );
});

describe('a copy and other writers', () => {
  test('nothing is sent while another agent works there, and one that takes over stops it before the next manifest', async () => {
    await bench.nights(1);
    await bench.run();
    await bench.nights(1);
    const leaseOf = (home: string) =>
      takeLease({
        ...{ destination: bench.destination('copy'), project: 'shop', home, holder: home, log: silentLog },
        sightings: noSightings,
        now: () => new Date(bench.now),
      });
    const other = await leaseOf('b');
    expect(await bench.run()).toMatchObject([{ status: 'failed', error: { code: 'LOCKED' }, objects: 0 }]);
    await other.release();
    bench.fault = async (call, key) => {
      if (call !== 'put' || !key.includes('/packs/')) return;
      bench.fault = undefined;
      bench.now += LEASE_MS;
      await leaseOf('b');
    };
    expect(await bench.run()).toMatchObject([{ status: 'failed', error: { code: 'LEASE_LOST' }, snapshots: 0 }]);
    expect(Object.keys(bench.files()).filter((key) => key.includes('manifest'))).toHaveLength(1);
  });

  test('a manifest that another agent sends at the same moment is not a failure', async () => {
    const [id] = (await bench.nights(1)) as [string];
    const key = `shop/snapshots/${id}/manifest.json`;
    bench.fault = async (call, name) => {
      if (call === 'put' && name === key) bench.write('copy', key, bench.files('main')[key] ?? '');
    };
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 1 }]);
  });

  test('a manifest that differs at the copy is reported, and neither is changed', async () => {
    const [first] = (await bench.nights(2)) as [string];
    await bench.run();
    const key = `shop/snapshots/${first}/manifest.json`;
    const repository = await bench.copy();
    const [, snapshot] = (await repository.snapshots()).snapshots;
    const bytes = encodeManifest({ ...(snapshot as Snapshot).manifest, agentVersion: '9.9.9' });
    bench.write('copy', key, bytes.toString('latin1'));
    // Without the key, which would show the right one.
    bench.signingKeys = [];
    const [report] = await bench.run();
    expect(report).toMatchObject({ status: 'partial', snapshots: 0, error: { code: 'OBJECT_DAMAGED' } });
    expect(report?.error?.message).toContain('differs from the one at the destination');
    expect(bench.files()[key]).toBe(bytes.toString('latin1'));
    expect(await bench.state.damaged()).toEqual([]);
  });

  test('signed snapshots are copied without the key; only tombstones of left-out ones wait for it', async () => {
    bench.copyKeep = 'last 1';
    const ids = await bench.nights(3);
    const keys = bench.signingKeys;
    bench.signingKeys = [];
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 1 }]);
    expect(Object.keys(bench.files()).filter((key) => key.includes('/tombstones/'))).toEqual([]);
    bench.signingKeys = keys;
    expect(await bench.run()).toMatchObject([{ status: 'ok' }]);
    expect(await bench.ids()).toEqual(ids.slice(2));
  });

  test('an empty destination is restored from the copy and keeps its own pins', async () => {
    const ids = await bench.nights(3);
    await bench.run();
    const before = bench.files('main');
    const back = { ...bench.place('other'), keep: { last: 1_000_000 }, keepsPins: true as const };
    const other = () => bench.copy('other');
    expect(await bench.run({ copies: [back], main: () => bench.copy() })).toMatchObject([
      { status: 'ok', snapshots: 3 },
    ]);
    expect(bench.files('other')).toEqual(before);
    await putPin(await other(), ids[0] as string, { reason: 'x', at: '2026-11-10T03:00:00.000Z' });
    const lost = Object.keys(bench.files('other')).filter((key) => key.includes('/packs/'));
    for (const key of lost) await bench.destination('other').delete(key);
    const restored = await bench.run({ copies: [back], main: () => bench.copy() });
    expect(restored).toMatchObject([{ status: 'ok', snapshots: 0, objects: lost.length }]);
    expect([...(await readPins(await other())).keys()]).toEqual([ids[0]]);
  });
});

describe('the retention of a copy', () => {
  test('is its own, and removed snapshots never come back', async () => {
    bench.copyKeep = 'last 2';
    await bench.nights(2);
    await bench.run({}, { pruning: true });
    const ids = await bench.nights(3);
    const [report] = await bench.run({}, { pruning: true });
    expect(report).toMatchObject({ status: 'ok', pruned: { snapshots: 2 } });
    expect(await bench.ids()).toEqual(ids.slice(1));
    expect((await bench.run({}, { pruning: true }))[0]).toMatchObject({ snapshots: 0, pruned: { snapshots: 0 } });
    bench.copyKeep = '90d';
    await bench.run({}, { pruning: true });
    // The copy left out the third and never had it, so it may be copied now.
    expect(await bench.ids()).toEqual(ids);
    expect((await (await bench.main()).snapshots()).snapshots).toHaveLength(5);
    bench.now += DAY;
    expect((await bench.run({}, { pruning: true }))[0]?.pruned).toMatchObject({ objects: 6 });
  });

  test('may be longer than that of the destination', async () => {
    bench.keep = 'last 2';
    bench.copyKeep = '90d';
    const ids = await bench.nights(3);
    await bench.run({}, { pruning: true });
    await bench.pruneMain();
    ids.push(...(await bench.nights(1)));
    await bench.run({}, { pruning: true });
    expect(await bench.ids('main')).toHaveLength(3);
    expect(await bench.ids()).toEqual(ids);
  });

  test('leaves a chain without a gap if the destination has removed snapshots before', async () => {
    bench.keep = 'last 2';
    const ids = await bench.nights(4);
    await bench.pruneMain();
    await bench.run();
    expect(await bench.ids()).toEqual(ids.slice(2));
  });

  test('keeps the snapshot of an unreadable pin', async () => {
    bench.copyKeep = 'last 1';
    const [first] = (await bench.nights(1)) as [string];
    await pin(first);
    await bench.nights(3);
    const fault: typeof bench.mainFault = (call, key) => {
      if (call === 'get' && key === pinKey('shop', first)) throw new LifeboatError('OBJECT_DAMAGED', 'bad sector');
    };
    const main = async () => {
      const repository = await bench.main();
      bench.mainFault = fault;
      return repository;
    };
    await bench.run({ main }, { pruning: true });
    bench.mainFault = undefined;
    expect(await bench.ids()).toContain(first);
    expect([...(await readPins(await bench.copy())).keys()]).toEqual([first]);
  });

  test('keeps a snapshot while it is pinned', async () => {
    bench.copyKeep = 'last 1';
    const [first] = (await bench.nights(1)) as [string];
    await pin(first);
    await bench.nights(3);
    await bench.run({}, { pruning: true });
    expect(await bench.ids()).toContain(first);
    expect(await bench.ids()).toHaveLength(2);
    await deletePin(await bench.main(), first);
    await bench.run({}, { pruning: true });
    expect(await bench.ids()).toHaveLength(1);
  });
});

describe('a copy that has snapshots which the destination lost', () => {
  const lose = async ({ manifest }: Snapshot) => {
    const { destination } = await bench.main();
    await destination.delete(manifestKey('shop', manifest.id));
  };

  const unsigned = () => openRepository(bench.destination('main'), { project: 'shop', create: false, keys: {} });

  test('is not pruned until somebody accepts the loss; the problem has a hint on how to restore', async () => {
    const all = [await bench.night(), await bench.night(), await bench.night()] as const;
    await bench.run();
    await lose(all[1]);
    bench.copyKeep = 'last 1';
    const [report] = await bench.run({}, { pruning: true });
    expect(report).toMatchObject({ status: 'ok', problems: [{ severity: 'error', code: 'CHAIN_BROKEN' }] });
    expect(report).not.toHaveProperty('pruned');
    expect(report?.problems?.[0]).toMatchObject({
      message: expect.stringContaining(all[1].manifest.id),
      hint: expect.stringContaining('lifeboat copy --from copy'),
    });
    expect(isCopyOk(report as CopyReport)).toBe(false);
    await bench.state.saveAbandoned('shop', 2);
    const [after] = await bench.run({}, { pruning: true });
    expect(after).toMatchObject({ status: 'ok', pruned: { snapshots: 2 } });
    expect(after).not.toHaveProperty('problems');
  });

  test('has its own branch: the problem names the newest snapshot and counts the others', async () => {
    const [, , third] = [await bench.night(), await bench.night(), await bench.night()];
    await bench.run();
    for (const { manifest } of (await (await bench.copy()).snapshots()).snapshots.slice(0, 2)) {
      await lose({ manifest } as Snapshot);
    }
    const [report] = await bench.run();
    expect(report?.problems?.[0]?.message).toContain(`it has ${third?.manifest.id} and 1 other snapshot`);
    const asked = {
      copies: [bench.place()],
      main: await bench.main(),
      end: 1,
      state: bench.state,
      signal: bench.signal,
    };
    expect(await highestCopied(asked)).toEqual({ taken: 3, unknown: [] });
  });

  test.each(['', 'another hash', 'unsigned'])(
    'is reported, keeps its pin and comes back in spite of a tombstone: %j',
    async (what) => {
      const all = [await bench.night(), await bench.night()] as const;
      await pin(all[1].manifest.id);
      await bench.run();
      const { id } = all[1].manifest;
      const main = await bench.main();
      await deletePin(main, id);
      if (what === '') await lose(all[1]);
      else
        await removeSnapshot(what === 'unsigned' ? await unsigned() : main, all[1], {
          removed: '2026-11-12T03:00:00Z',
          why: '',
        });
      const key = tombstoneKey('shop', id);
      if (what === '') await main.destination.put(key, streamOf(''));
      if (what === 'another hash') {
        await main.destination.delete(key);
        await putTombstone(main, { ...all[1], hash: all[0].hash }, { removed: '2026-11-12T03:00:00Z', why: '' });
      }
      const [report] = await bench.run({}, { pruning: true });
      expect(report).toMatchObject({ status: 'ok', problems: [{ severity: 'error', code: 'CHAIN_BROKEN' }] });
      expect([...(await readPins(await bench.copy())).keys()]).toEqual([id]);
      const back = { copies: [bench.place('main')], main: () => bench.copy() };
      expect(await bench.run(back)).toMatchObject([{ status: 'ok', snapshots: 1 }]);
      expect(await bench.ids('main')).toEqual([all[0].manifest.id, id]);
      expect(await tombstoneIds(main)).toEqual([]);
    },
  );

  test('a snapshot that retention removed, or that is unreadable now, is not lost', async () => {
    const ids = await bench.nights(3);
    await bench.run();
    bench.keep = 'last 1';
    await bench.pruneMain();
    bench.copyKeep = '30d';
    bench.write('main', manifestKey('shop', ids[2] ?? ''), 'no');
    expect((await bench.run())[0]).not.toHaveProperty('problems');
  });
});

test('the numbers of a copy that does not respond are not used again: those that it had, or far too many', async () => {
  await bench.nights(2);
  const awayFrom = (name: string) => ({ name, open: unreachable as () => never });
  const hangs = { name: 'hangs', open: () => new Promise<never>(() => undefined) };
  const asking = async (copies: Parameters<typeof highestCopied>[0]['copies'], signal = bench.signal) =>
    highestCopied({ copies, main: await bench.main(), end: 2, state: bench.state, signal });
  const unknown = await asking([awayFrom('copy'), hangs, bench.place('other')], AbortSignal.timeout(3000));
  expect(unknown).toEqual({ taken: 1_000_002, unknown: ['copy', 'hangs'] });
  // An empty place has no snapshots.
  expect(await asking([bench.place('other')])).toEqual({ taken: 0, unknown: [] });
  await bench.run();
  expect(await asking([bench.place()])).toEqual({ taken: 2, unknown: [] });
  expect(await asking([awayFrom('copy')])).toEqual({ taken: 2, unknown: [] });
  // A copy that fails later keeps its number.
  await bench.run({ copies: [{ ...bench.place(), open: unreachable }] });
  expect(await asking([awayFrom('copy')])).toEqual({ taken: 2, unknown: [] });
});
