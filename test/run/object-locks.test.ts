import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { LockingDestination } from '../../src/destinations/destination.ts';
import { prolongLocks } from '../../src/run/object-locks.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { fakeLists } from '../store/pack-lists.ts';

const { list, readPackList } = fakeLists();
const packs = list('shop/old', 'shop/new');
const now = new Date('2026-11-20T03:00:00Z');
const manifest = {
  sources: {
    a: {
      index: { key: 'shop/a.index' },
      facts: { key: 'shop/a.facts' },
      packs,
    },
    b: {},
  },
} as unknown as Manifest;

const at = (prolong?: LockingDestination['prolongLocks']) => ({
  readPackList,
  destination: { name: 's3://acme', ...(prolong ? { prolongLocks: prolong } : {}) } as unknown as LockingDestination,
});

test('every object that a snapshot needs is locked as long as the snapshot, and so is the description of the repository', async () => {
  const asked: unknown[] = [];
  const { signal } = new AbortController();
  const prolong = async (...args: unknown[]) => asked.push(...args);
  expect(await prolongLocks(at(prolong), manifest, now, signal)).toEqual([]);
  const keys = ['lifeboat.json', 'shop/a.index', 'shop/a.facts', packs?.key, 'shop/old', 'shop/new'];
  expect(asked).toEqual([keys, now, signal]);
  expect(await prolongLocks(at(), manifest, now, signal)).toEqual([]);
});

test('a key without the right to lock causes a warning; an interrupt does not', async () => {
  const refuse = async () => {
    throw new LifeboatError('DEST_UNWRITABLE', 'it does not let this key prolong locks', { hint: 'Allow it.' });
  };
  expect(await prolongLocks(at(refuse), manifest, now, new AbortController().signal)).toMatchObject([
    { severity: 'warning', code: 'DEST_UNWRITABLE', subject: 's3://acme', hint: 'Allow it.' },
  ]);
  const stop = AbortSignal.abort(new LifeboatError('INTERRUPTED', 'stop'));
  await expect(prolongLocks(at(refuse), manifest, now, stop)).rejects.toMatchObject({ code: 'INTERRUPTED' });
});
