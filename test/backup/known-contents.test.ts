import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RunContext } from '../../src/backup/context.ts';
import { prepareKnown } from '../../src/backup/known-contents.ts';
import { previousTree } from '../../src/backup/previous-tree.ts';
import { type ErrorCode, LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { lastStoredOf } from '../../src/run/history.ts';
import { openState } from '../../src/run/state.ts';
import { renewalRule } from '../../src/store/content/repack.ts';
import { StoredSizes } from '../../src/store/objects/key-set.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'known-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const MEDIA = 'web.media';
const index = { key: 'shop/index', size: 10, sha256: 'a'.repeat(64) };
const manifest = {
  ...{ id: '20261120T030000Z-4f1c9a', end: '2026-11-20T03:00:00.000Z' },
  sources: { [MEDIA]: { kind: 'volume', status: 'ok', index } },
} as unknown as Manifest;

/** Prepares a run whose requests for the last index fail like this, one after the other, and finds its last tree. */
async function prepare(failures: ErrorCode[]) {
  const left = [...failures];
  const repository = {
    ...{ info: { id: 'one' }, project: 'shop', keys: {} },
    fetchIndex: async (_: unknown, file: string) => {
      const code = left.shift();
      if (code) throw new LifeboatError(code, 'no index');
      await writeFile(file, '');
    },
  };
  const context = {
    ...{ repository, snapshots: [{ manifest }], stored: new StoredSizes(), log: silentLog },
    ...{ signal: AbortSignal.timeout(100_000), run: { trigger: 'manual', sources: [MEDIA] } },
  } as unknown as RunContext;
  const memory = { state: openState(path.join(directory, 'state')), context, renewal: renewalRule(0.05) };
  const known = await prepareKnown({ ...memory, directory: path.join(directory, 'known') });
  if (known) context.known = known;
  const last = lastStoredOf([manifest], MEDIA);
  return { left, ...(await previousTree(memory, MEDIA, last, directory)) };
}

test.each<ErrorCode>(['DEST_UNREACHABLE', 'SPOOL_FULL'])(
  'a brief %s does not make a source be stored again',
  async (code) => {
    const { tree, warnings, left } = await prepare([code]);
    expect(left).toEqual([]);
    expect(warnings).toEqual([]);
    expect(tree).toBeDefined();
  },
);

test.each<ErrorCode>(['OBJECT_MISSING', 'OBJECT_DAMAGED', 'KEY_MISSING', 'KEY_WRONG'])(
  'after %s, the last index is not asked for again: a service may be stopped by then',
  async (code) => {
    const { tree, warnings, left } = await prepare([code, code]);
    expect(left).toEqual([code]);
    expect(warnings).toEqual([expect.stringContaining(code)]);
    expect(tree).toBeUndefined();
  },
);
