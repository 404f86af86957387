import { linkSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { encodeManifest, type Manifest } from '../../../src/store/objects/manifest.ts';
import { at, createBench } from '../helpers.ts';

const page = readFileSync(new URL('../../../docs/format.md', import.meta.url), 'utf8');

test('docs/format.md names every field of an index line and a manifest', async () => {
  const bench = createBench();
  try {
    writeFileSync(join(bench.tree, 'a'), 'content');
    linkSync(join(bench.tree, 'a'), join(bench.tree, 'b'));
    symlinkSync('\u00ff', at(bench.tree, '\xff'));
    const { packs } = await bench.store();
    const ref = { key: 'k', size: 1, sha256: 'a'.repeat(64) };
    const manifest: Manifest = {
      format: 1,
      id: '20261120T030000Z-4f1c9a',
      project: 'shop',
      sequence: 1,
      previous: null,
      trigger: 'manual',
      agentVersion: '0',
      status: 'ok',
      start: '2026-11-20T03:00:00.000Z',
      end: '2026-11-20T03:00:01.000Z',
      sources: {
        media: {
          kind: 'volume',
          status: 'failed',
          error: { code: 'INTERNAL', message: 'm' },
          image: 'i',
          index: ref,
          facts: ref,
          packs: { ...ref, count: 1, keyId: 'k' },
          files: 1,
          bytes: 1,
          newBytes: 1,
          newFiles: 1,
          summary: '',
          warnings: [],
          skipped: {},
        },
      },
    };
    const written = JSON.parse(encodeManifest(manifest).toString()) as Manifest;
    const lines = readFileSync(bench.index, 'utf8').trim().split('\n');
    const objects = [written, written.sources.media, packs[0], ref, ...lines.map((line) => JSON.parse(line))];
    for (const field of new Set(objects.flatMap((object) => Object.keys(object ?? {})))) {
      expect(page, field).toContain(`\`${field}\``);
    }
  } finally {
    bench.remove();
  }
});
