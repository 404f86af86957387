import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckResult } from '../../src/check/check.ts';
import { holder, Stack } from '../harness/stack.ts';

/** Damages a repository of the real agent by hand. */
describe('check', () => {
  let stack: Stack;
  const check = async (...args: string[]) => {
    const { code, stdout } = await stack.lifeboat('check', '--json', ...args);
    return { code, result: JSON.parse(stdout) as CheckResult };
  };
  const object = async (part: string) => {
    const found = (await stack.objects()).find((name) => name.includes(part));
    if (!found) throw new Error(`no object with ${part}`);
    return path.join(stack.directory, 'backups', found);
  };

  beforeAll(async () => {
    stack = await Stack.start({
      services: { web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }) },
      volumes: { media: {} },
      receiver: false,
    });
    await stack.exec('web', ['sh', '-c', 'for i in $(seq 30); do head -c 20000 /dev/urandom > /media/$i.bin; done']);
    expect((await stack.backup()).code).toBe(0);
  });
  afterAll(() => stack?.destroy());

  it('finds nothing in an intact repository', async () => {
    const { code, result } = await check('--read-data');
    expect({ code, damaged: result.damaged, manifests: result.manifests }).toEqual({
      code: 0,
      damaged: [],
      manifests: [],
    });
    expect(result.bytesRead).toBe(result.bytes);
  });

  it('reads every object with repeated shares', async () => {
    let read = 0;
    for (let i = 0; i < 6; i++) read += (await check('--read-data', '25%')).result.bytesRead;
    const { result } = await check();
    expect(read).toBeGreaterThanOrEqual(result.bytes);
  });

  it('finds a flipped bit and explains it, and the next backup stores the content again', async () => {
    const pack = await object('/packs/');
    const bytes = await readFile(pack);
    const flipped = Buffer.from(bytes);
    flipped[flipped.length >> 1]! ^= 1;
    await writeFile(pack, flipped);
    expect((await check()).code).toBe(0);
    const { code, result } = await check('--read-data');
    expect(result.damaged.map(({ error }) => error.code)).toEqual(['OBJECT_DAMAGED']);
    expect(result.affected).toMatchObject([{ source: 'web.media', extent: 'part', files: 30 }]);
    expect(code).toBe(1);

    const { report } = await stack.backup();
    expect(report.results[0]).toMatchObject({ status: 'ok', newFiles: 30 });
    const after = await check('--read-data');
    expect(after.code).toBe(3);
    expect(after.result.restorable).toEqual({ 'web.media': report.snapshot });
    await writeFile(pack, bytes);
    expect((await check('--read-data')).code).toBe(0);
  });

  it('finds truncated and missing objects without reading them', async () => {
    const index = await object('.index.ndjson.zst');
    const bytes = await readFile(index);
    await truncate(index, 10);
    const cut = await check();
    expect(cut.result.damaged).toMatchObject([{ error: { code: 'OBJECT_DAMAGED' } }]);
    expect(cut.result.affected[0]?.extent).toBe('whole');
    await rm(index);
    expect((await check()).result.damaged).toMatchObject([{ error: { code: 'OBJECT_MISSING' } }]);
    await writeFile(index, bytes);
    expect((await check()).code).toBe(0);
  });

  it('finds a manifest that was removed from the chain, and one that cannot be read', async () => {
    await stack.backup();
    const manifests = (await stack.objects()).filter((name) => name.endsWith('manifest.json'));
    const middle = path.join(stack.directory, 'backups', manifests[1] as string);
    const bytes = await readFile(middle);
    await rm(middle);
    // The snapshot that the agent has seen, and the one that names it.
    expect((await check()).result.manifests).toMatchObject([
      { error: { code: 'CHAIN_BROKEN', message: expect.stringContaining('has lost snapshot') } },
      { error: { code: 'CHAIN_BROKEN', message: expect.stringContaining('does not follow') } },
    ]);
    await writeFile(middle, bytes.subarray(0, 100));
    expect((await check()).result.manifests).toHaveLength(2);
    await writeFile(middle, bytes);
    expect((await check()).result.manifests).toEqual([]);
  });
});
