import { describe, expect, test } from 'vitest';
import { type ErrorCode, errorInfo, LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { type DrillPlace, Places } from '../../src/drill/places.ts';
import { encodeRepositoryInfo, FORMAT } from '../../src/store/objects/manifest.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { inMemory } from '../store/memory-destination.ts';

const error = (code: ErrorCode) => new LifeboatError(code, 'it does not answer');

/** A place that opens, or fails with that code. */
function place(name: string, fails?: () => ErrorCode | undefined): DrillPlace {
  return {
    name,
    treeStore: {} as DrillPlace['treeStore'],
    repository: async () => {
      const code = fails?.();
      if (code) throw error(code);
      const at = { destination: { name }, project: 'shop' } as unknown as Repository;
      return { ...at, through: () => at };
    },
  };
}
const { signal } = new AbortController();
const open = async (...all: DrillPlace[]) => {
  const places = new Places(all, silentLog);
  await places.open(signal);
  return places;
};

describe('the places that a drill reads', () => {
  test('are only the repository while that can be read', async () => {
    const places = await open(place('main'), place('copy'));
    expect(places.repository.destination.name).toBe('main');
    expect(places.notes).toEqual([]);
  });

  test.each<ErrorCode>(['DEST_UNREACHABLE', 'DEST_NOT_MOUNTED', 'DEST_FOREIGN', 'DEST_UNWRITABLE'])(
    'go on to a copy after %s',
    async (code) => {
      const places = await open(
        place('main', () => code),
        place('first', () => code),
        place('second'),
      );
      expect(places.repository.destination.name).toBe('second');
      expect(places.notes.map((note) => note.split(' ')[0])).toEqual(['main', 'first']);
    },
  );

  test('fail with the error of the repository if no place can be read', async () => {
    const all = [place('main', () => 'DEST_UNREACHABLE'), place('copy', () => 'DEST_FOREIGN')];
    await expect(open(...all)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  });

  test.each<ErrorCode>(['SIGNATURE_WRONG', 'CHAIN_BROKEN', 'OBJECT_DAMAGED'])('end at damage: %s', async (code) => {
    await expect(
      open(
        place('main', () => code),
        place('copy'),
      ),
    ).rejects.toMatchObject({ code });
    const places = await open(place('main'), place('copy'));
    expect(await places.leave(errorInfo(error(code)), signal)).toBe(false);
    expect(places.repository.destination.name).toBe('main');
  });

  test('are left when they go away in the middle, and not for a copy that is away too', async () => {
    let isAway = true;
    const places = await open(
      place('main'),
      place('copy', () => (isAway ? 'DEST_UNREACHABLE' : undefined)),
    );
    expect(await places.leave(errorInfo(error('DEST_UNREACHABLE')), signal)).toBe(false);
    expect(places.notes).toEqual([]);
    expect(places.repository.destination.name).toBe('main');
    isAway = false;
    expect(await places.leave(errorInfo(error('DEST_UNREACHABLE')), signal)).toBe(true);
    expect(places.repository.destination.name).toBe('copy');
    expect(await places.leave(errorInfo(error('DEST_UNREACHABLE')), signal)).toBe(false);
  });

  test('are no longer opened after an interruption, which is the reason', async () => {
    const over = new AbortController();
    const copy = place('copy', () => {
      over.abort(new LifeboatError('INTERRUPTED', 'the next backup is due'));
      return 'DEST_UNREACHABLE';
    });
    const places = new Places([place('main', () => 'DEST_UNREACHABLE'), copy], silentLog);
    await expect(places.open(over.signal)).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  const INFO = {
    format: FORMAT,
    id: '3f0a1c9e-6d5b-4c7a-8e2f-1b0d9c8a7e6f',
    created: '2026-11-20T03:00:00.000Z',
  } as const;

  test('are away, and not damaged, if an object is gone together with the repository', async () => {
    const objects = new Map([['lifeboat.json', String(encodeRepositoryInfo(INFO))]]);
    const main = {
      name: 'main',
      treeStore: {} as DrillPlace['treeStore'],
      repository: async () => {
        const at = { destination: inMemory('main', objects), project: 'shop', info: INFO };
        return { ...at, through: () => at } as unknown as Repository;
      },
    };
    const places = await open(main, place('copy'));
    const missing = error('OBJECT_MISSING');
    expect(await places.judge(missing)).toBe(missing);
    objects.clear();
    const judged = errorInfo(await places.judge(missing));
    expect(judged.code).toBe('DEST_UNREACHABLE');
    expect(await places.leave(judged, signal)).toBe(true);
  });
});
