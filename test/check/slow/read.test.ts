import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { check } from '../../../src/check/check.ts';
import { CopyBench, type Fault, MEDIA } from '../../run/copy-bench.ts';

/** Tests how `check` judges objects that it cannot read. */

let bench: CopyBench;
let packs: string[];
beforeEach(async () => {
  bench = new CopyBench();
  await bench.nights(8);
  packs = Object.keys(bench.files('main'))
    .filter((key) => key.includes('/packs/'))
    .sort();
  expect(packs.length).toBeGreaterThan(5);
});
afterEach(() => bench.remove());

const system = (code: string, errno: number) => Object.assign(new Error(`${code}: read`), { code, errno });
const badSector = (key: string) => {
  throw new LifeboatError('OBJECT_DAMAGED', `${key} cannot be read`, { cause: system('EIO', -5) });
};

async function checkWith(fault: Fault) {
  const repository = await bench.main();
  bench.mainFault = fault;
  const signal = new AbortController().signal;
  const result = await check(repository, { readData: 1, spool: bench.root, signal });
  return { ...result, damaged: result.damaged.map(({ key }) => key), unread: result.unread.map(({ key }) => key) };
}

/** Returns a fault that fails reads from the third pack on, and all later reads. */
function fromThird(fail: (key: string) => void): Fault {
  let gone = false;
  return (call, key) => {
    if (call === 'get' && key === packs[2]) gone = true;
    if (gone && call === 'get') fail(key);
  };
}

test.each<[string, (key: string) => void]>([
  [
    'does not respond any more',
    () => {
      throw new LifeboatError('DEST_UNREACHABLE', 'it does not answer');
    },
  ],
  [
    'is unmounted and empty',
    (key) => {
      throw new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`);
    },
  ],
  ['is unplugged: every read is a disk error', badSector],
  [
    'is unplugged, and lifeboat.json is still cached',
    (key) => {
      if (key !== 'lifeboat.json') badSector(key);
    },
  ],
  [
    'denies all reads',
    (key) => {
      if (key !== 'lifeboat.json') {
        throw new LifeboatError('DEST_UNREACHABLE', `${key} cannot be read`, { cause: system('EACCES', -13) });
      }
    },
  ],
])('a destination that %s ends the check, and nothing counts as damaged', async (_, fail) => {
  const { damaged, stopped, bytesRead, bytes } = await checkWith(fromThird(fail));
  expect(stopped).toMatchObject({ code: 'DEST_UNREACHABLE', message: expect.any(String) });
  expect(damaged).toEqual([]);
  expect(bytesRead).toBeLessThan(bytes);
});

test('damage found before the destination became unreachable is still reported', async () => {
  const [first] = packs as [string];
  bench.write('main', first, 'x'.repeat((bench.files('main')[first] ?? '').length));
  const { damaged, stopped } = await checkWith(
    fromThird(() => {
      throw new LifeboatError('DEST_UNREACHABLE', 'it does not answer');
    }),
  );
  expect(stopped?.code).toBe('DEST_UNREACHABLE');
  expect(damaged).toEqual([first]);
});

test.each<[string, boolean]>([
  ['reads', false],
  ['looks which files are affected', true],
])('damage found before the check was interrupted while it %s is still reported', async (_, isLate) => {
  const [bad] = packs as [string];
  bench.write('main', bad, 'x'.repeat((bench.files('main')[bad] ?? '').length));
  const repository = await bench.main();
  const stop = new AbortController();
  let isRead = false;
  bench.mainFault = (call, key) => {
    if (call !== 'get' || !(isLate ? isRead : key === packs[2])) return;
    stop.abort(new LifeboatError('INTERRUPTED', 'asked to stop'));
  };
  const progress = (done: number, total: number) => {
    isRead = done >= total;
  };
  const result = await check(repository, { readData: 1, spool: bench.root, signal: stop.signal, progress });
  expect(result.stopped?.code).toBe('INTERRUPTED');
  expect(result.damaged.map(({ key }) => key)).toEqual([bad]);
  expect(result.bytesRead === result.bytes).toBe(isLate);
});

test('an interrupted check of a share goes on after the last object that it has read', async () => {
  const repository = await bench.main();
  const stop = new AbortController();
  bench.mainFault = (call, key) => {
    if (call === 'get' && key === packs[2]) stop.abort(new LifeboatError('INTERRUPTED', 'asked to stop'));
  };
  const { next } = await check(repository, { readData: 0.99, spool: bench.root, signal: stop.signal });
  expect(next).toBe(packs[1]);
});

test('a disk error right before the check was interrupted is left to the next check', async () => {
  const repository = await bench.main();
  const stop = new AbortController();
  bench.mainFault = (call, key) => {
    if (call === 'get' && key === packs[3]) stop.abort(new LifeboatError('INTERRUPTED', 'asked to stop'));
    if (call === 'get' && key === packs[2]) badSector(key);
  };
  const { damaged, stopped, next } = await check(repository, {
    readData: 0.99,
    spool: bench.root,
    signal: stop.signal,
  });
  expect({ damaged, next, stopped }).toMatchObject({ damaged: [], next: packs[1], stopped: { code: 'INTERRUPTED' } });
});

test('one object on bad sectors and one missing object are damaged; all others are read', async () => {
  const [, bad, , gone] = packs as [string, string, string, string];
  const { damaged, unread, stopped } = await checkWith((call, key) => {
    if (call === 'get' && key === bad) badSector(key);
    if (call === 'get' && key === gone) throw new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`);
  });
  expect({ damaged: damaged.sort(), unread, stopped }).toEqual({
    damaged: [bad, gone],
    unread: [],
    stopped: undefined,
  });
});

/** Returns neighbouring packs, from the second on. */
const together = (count: number) => packs.slice(1, 1 + count);

test.each([3, 4, 6])(
  '%i objects in a row on bad sectors are damaged, and the objects after them are read',
  async (count) => {
    const bad = together(count);
    const { damaged, stopped, bytesRead, bytes } = await checkWith((call, key) => {
      if (call === 'get' && bad.includes(key)) badSector(key);
    });
    expect({ damaged: damaged.sort(), stopped, bytesRead }).toEqual({
      damaged: bad,
      stopped: undefined,
      bytesRead: bytes,
    });
  },
);

test('objects in a row that the agent may not read do not end a check', async () => {
  const bad = packs.slice(-3);
  const { damaged, unread, stopped } = await checkWith((call, key) => {
    if (call === 'get' && bad.includes(key)) {
      throw new LifeboatError('DEST_UNREACHABLE', `${key} cannot be read`, { cause: system('EACCES', -13) });
    }
  });
  expect({ damaged, unread: unread.sort(), stopped }).toEqual({ damaged: [], unread: bad, stopped: undefined });
});

/** Returns the object of each snapshot that is read first, oldest snapshot first. */
async function inTime() {
  const { snapshots } = await (await bench.main()).snapshots();
  return snapshots.toReversed().map(({ manifest }) => ({ index: manifest.sources[MEDIA]?.index?.key as string }));
}

test('a copy continues after objects in a row on bad sectors, which are stored again', async () => {
  const bad = (await inTime()).slice(1, 5).map(({ index }) => index);
  const [report] = await bench.run({
    main: async () => {
      const repository = await bench.main();
      bench.mainFault = (call, key) => {
        if (call === 'get' && bad.includes(key)) badSector(key);
      };
      return repository;
    },
  });
  expect(report).toMatchObject({ status: 'partial', error: { code: 'OBJECT_DAMAGED' } });
  expect((await bench.state.damaged()).sort()).toEqual(bad.sort());
  const there = Object.keys(bench.files()).filter((key) => key.endsWith('/manifest.json'));
  expect(there).toHaveLength(4);
});

test('a copy continues after objects that the agent may not read and reports them; they are not damaged', async () => {
  const bad = (await inTime()).slice(1, 5).map(({ index }) => index);
  const [report] = await bench.run({
    main: async () => {
      const repository = await bench.main();
      bench.mainFault = (call, key) => {
        if (call !== 'get' || !bad.includes(key)) return;
        throw new LifeboatError('DEST_UNREACHABLE', `${key} cannot be read`, { cause: system('EACCES', -13) });
      };
      return repository;
    },
  });
  expect(report).toMatchObject({ status: 'partial', snapshots: 4, error: { code: 'DEST_UNREACHABLE' } });
  expect(report?.error?.message).toContain('is not copied');
  expect(await bench.state.damaged()).toEqual([]);
  bench.mainFault = undefined;
  expect((await bench.run())[0]).toMatchObject({ status: 'ok', snapshots: 4 });
});

test('damage that a copy found before the destination became unreachable is remembered', async () => {
  const first = (await inTime())[0]?.index as string;
  bench.write('main', first, 'x'.repeat((bench.files('main')[first] ?? '').length));
  const order: string[] = [];
  const [report] = await bench.run({
    main: async () => {
      const repository = await bench.main();
      bench.mainFault = (call, key) => {
        if (call === 'get') order.push(key);
        const isOther = key !== 'lifeboat.json' && key !== first;
        if (call === 'get' && order.includes(first) && isOther)
          throw new LifeboatError('DEST_UNREACHABLE', 'it does not answer');
      };
      return repository;
    },
  });
  expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_UNREACHABLE' } });
  expect(await bench.state.damaged()).toEqual([first]);
});

test('one object that the agent may not read is reported, but not as damaged; all others are read', async () => {
  const [, bad] = packs as [string, string];
  const { damaged, unread, stopped, restorable } = await checkWith((call, key) => {
    if (call === 'get' && key === bad) {
      throw new LifeboatError('DEST_UNREACHABLE', `${key} cannot be read`, { cause: system('EACCES', -13) });
    }
  });
  expect({ damaged, unread, stopped }).toEqual({ damaged: [], unread: [bad], stopped: undefined });
  expect(Object.values(restorable)).not.toContain(null);
});

test('damaged leases and lists of unreferenced objects are reported apart from snapshots', async () => {
  bench.write('main', 'shop/leases/0000009999.json', '{');
  bench.write('main', 'shop/unreferenced/20261120T030000Z-00000a.json', '{');
  const { records, damaged, usable } = await checkWith(() => undefined);
  expect(records.map(({ key, error }) => [key, error.code])).toEqual([
    ['shop/leases/0000009999.json', 'OBJECT_DAMAGED'],
    ['shop/unreferenced/20261120T030000Z-00000a.json', 'OBJECT_DAMAGED'],
  ]);
  expect({ damaged, usable }).toEqual({ damaged: [], usable: true });
});

test('a copy does not report objects of an unreachable destination as damaged', async () => {
  const [report] = await bench.run({
    main: async () => {
      const repository = await bench.main();
      bench.mainFault = fromThird((key) => {
        throw new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`);
      });
      return repository;
    },
  });
  expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_UNREACHABLE' } });
  expect(await bench.state.damaged()).toEqual([]);
});

/** Returns a fault: the disk does not even return the directory entry of an object. */
const unlookedAt = (keys: readonly string[]): Fault => {
  return (call, key) => {
    if (call === 'stat' && keys.includes(key))
      throw new LifeboatError('DEST_UNREACHABLE', `${key} cannot be read`, { cause: system('EIO', -5) });
  };
};

test('objects in a row whose size cannot be read are not damaged, and the rest is read', async () => {
  const bad = packs.slice(1, 5);
  const { damaged, unread, stopped, bytesRead, bytes, affected } = await checkWith(unlookedAt(bad));
  expect({ damaged, unread: unread.sort(), stopped, affected }).toEqual({
    damaged: [],
    unread: bad,
    stopped: undefined,
    affected: [],
  });
  expect(bytesRead).toBeGreaterThan(bytes / 4);
});

test('a repository in which no size can be read is unreachable, not damaged', async () => {
  const { damaged, stopped } = await checkWith((call, key) => {
    if (call === 'stat') unlookedAt([key])(call, key);
    if (call === 'get' && key.includes('/packs/')) badSector(key);
    if (call === 'get' && /facts|index/.test(key)) badSector(key);
  });
  expect(damaged).toEqual([]);
  expect(stopped?.code).toBe('DEST_UNREACHABLE');
});

test('an object of a copy whose size cannot be read is neither removed there nor sent again', async () => {
  await bench.run();
  const before = bench.files();
  const [index] = (await inTime()).map(({ index }) => index);
  const manifest = Object.keys(before).find((key) => key.endsWith('/manifest.json')) as string;
  await bench.destination('copy').delete(manifest);
  bench.fault = unlookedAt([index as string]);
  const [report] = await bench.run();
  expect(report).toMatchObject({ status: 'partial', error: { code: 'DEST_UNREACHABLE' } });
  expect(Object.keys(bench.files()).sort()).toEqual(
    Object.keys(before)
      .filter((key) => key !== manifest)
      .sort(),
  );
});

test('a snapshot with part of a source can be restored, but is not whole', async () => {
  const repository = await bench.main();
  const { snapshots, ...rest } = await repository.snapshots();
  const [newest, second] = snapshots;
  const partly = snapshots.map((snapshot) => {
    if (snapshot !== newest) return snapshot;
    const { manifest } = snapshot;
    const sources = Object.entries(manifest.sources).map(([name, one]) => [
      name,
      { ...one, status: 'partial' as const },
    ]);
    return { ...snapshot, manifest: { ...manifest, sources: Object.fromEntries(sources) } };
  });
  repository.snapshots = async () => ({ ...rest, snapshots: partly });
  const signal = new AbortController().signal;
  const { restorable, whole } = await check(repository, { readData: 0, spool: bench.root, signal });
  expect(restorable[MEDIA]).toBe(newest?.manifest.id);
  expect(whole[MEDIA]).toBe(second?.manifest.id);
});
