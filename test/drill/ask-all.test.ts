import { expect, test } from 'vitest';
import type { Engine } from '../../src/docker/engine.ts';
import { refusal } from '../../src/docker/engine-errors.ts';
import { askAll } from '../../src/drill/ask-all.ts';
import type { DrillDeps, Part } from '../../src/drill/context.ts';
import type { DrillResult } from '../../src/report/drill-report.ts';
import { asksOf, type RecordedAsks } from '../../src/sources/postgres/facts/facts.ts';
import { chooseImage } from '../../src/sources/postgres/throwaway/choose-image.ts';

const asked: string[] = [];
const tools = {
  session: async (database: string) => {
    asked.push(database);
    throw new Error('this test has no server');
  },
} as never;

async function ask(asks: RecordedAsks | undefined, present: string[], planned?: object): Promise<DrillResult> {
  asked.length = 0;
  const result = { checks: [], notes: [], steps: [] } as unknown as DrillResult;
  const signal = new AbortController().signal;
  const part = { result, planned, signal, say: () => undefined } as unknown as Part;
  await askAll({ settings: { assertTimeoutMs: 1000 } } as DrillDeps, part, asks, { tools, present });
  return result;
}

const asks = { asserts: [{ name: '', sql: 'true' }], database: 'app' };

test('conditions are about their database, and about no other one', async () => {
  await ask(asks, ['app', 'other'], {});
  expect(asked).toEqual(['app']);
  const { checks } = await ask(asks, ['other'], {});
  expect(asked).toEqual([]);
  expect(checks).toMatchObject([{ name: 'assert', of: 'app', result: 'failed' }]);
});

test('a drill of a source that is not in the plan says which conditions it asked', async () => {
  expect((await ask(asks, ['app'])).notes).toEqual([expect.stringContaining('recorded with the snapshot')]);
  expect(asked).toEqual(['app']);
  expect((await ask(undefined, ['app'])).notes).toEqual([expect.stringContaining('none was asked')]);
  expect((await ask(undefined, ['app'], {})).notes).toEqual([]);
});

test('the conditions of labels are about the named database, or that of the container', () => {
  const { asserts } = asks;
  expect(asksOf({ database: 'app', drill: { asserts } })).toEqual(asks);
  expect(asksOf({ database: 'app', drill: { asserts, database: 'shop' } })?.database).toBe('shop');
  expect(asksOf({ database: 'app', drill: { asserts: [], database: 'shop' } })).toBeUndefined();
});

test('another engine knows an image by its name in a registry', async () => {
  const id = `sha256:${'b'.repeat(64)}`;
  const images: Record<string, object> = { 'postgres@sha256:cc': { id, digests: ['mirror/postgres@sha256:cc'] } };
  const engine = {
    inspectImage: async (name: string) => {
      if (images[name]) return images[name];
      throw refusal(404, 'No such image', { method: 'GET', path: '/images/x/json' });
    },
  } as unknown as Engine;
  const recorded = { image: `sha256:${'a'.repeat(64)}`, imageDigest: 'postgres@sha256:cc' };
  expect(await chooseImage(engine, recorded, undefined)).toEqual({ id, digest: 'postgres@sha256:cc', recorded: true });
  await expect(
    chooseImage(engine, { ...recorded, imageDigest: 'postgres@sha256:dd' }, undefined),
  ).rejects.toMatchObject({
    code: 'HELPER_FAILED',
    hint: expect.stringContaining('docker pull postgres@sha256:dd'),
  });
});
