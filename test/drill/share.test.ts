import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isInShare, nextShare, writeShare } from '../../src/drill/share.ts';
import type { DrillReport, DrillResult } from '../../src/report/drill-report.ts';
import { encodeIndexEntry, type IndexEntry } from '../../src/store/filesystem/index-file.ts';
import { encodePart } from '../../src/store/filesystem/index-part.ts';
import { readIndexFileLines } from '../../src/store/filesystem/read-index.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-share-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const ID = '0'.repeat(32);
const SHA = 'a'.repeat(64);
const entry = (name: string, fields: Partial<IndexEntry> = {}): IndexEntry => ({
  ...{ path: name, type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: 0n },
  ...(fields.type === undefined ? { size: 1, sha256: SHA, pack: ID, entry: name } : {}),
  ...fields,
});

const drilled = (source: string, fields: Partial<DrillResult> = {}) =>
  ({ results: [{ source, status: 'ok', ...fields }] }) as DrillReport;

async function all<T>(lines: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const line of lines) found.push(line);
  return found;
}

describe('the share of the files that one drill restores', () => {
  test.each([0.1, 0.3, 0.5, 1])('has every file in its turn: %s', (size) => {
    const names = Array.from({ length: 2000 }, (_, i) => `file ${i}`);
    const turns = Array.from({ length: Math.ceil(1 / size) }, (_, turn) =>
      names.filter((one) => isInShare(one, { size, from: (turn * size) % 1 })),
    );
    expect(new Set(turns.flat()).size).toBe(names.length);
    for (const chosen of turns) expect(Math.abs(chosen.length / names.length - size)).toBeLessThan(0.06);
  });

  test.each([0.1, 0.3, 0.5])('has every file in its turn, however many other drills there are: %s', (size) => {
    const names = Array.from({ length: 500 }, (_, i) => `file ${i}`);
    const restored = new Set<string>();
    const drills: DrillReport[] = [];
    for (let turn = 0; turn < Math.ceil(1 / size); turn++) {
      const from = nextShare(drills, 'web.media', 0.7);
      for (const name of names) if (isInShare(name, { size, from })) restored.add(name);
      drills.push(drilled('web.media', { share: size, shareFrom: from }), drilled('db.postgres'));
      drills.push(drilled('web.media', { share: size, shareFrom: 0, status: 'interrupted' }), drilled('web.other'));
    }
    expect(restored.size).toBe(names.length);
  });

  test('begins at random if no drill has restored a share of the source', () => {
    const others = [drilled('web.other', { share: 0.5, shareFrom: 0.1 }), drilled('web.media')];
    expect(nextShare(others, 'web.media', 0.42)).toBe(0.42);
  });

  test('is an index that can be restored: with directories, the parts of chosen files and their other names', async () => {
    const from = path.join(directory, 'index');
    const files = Array.from({ length: 40 }, (_, i) => `f${String(i).padStart(2, '0')}`);
    const lines = [
      encodeIndexEntry(entry('', { type: 'directory' })),
      ...files.flatMap((name) => [
        encodeIndexEntry(entry(name, { type: 'file', size: 2, sha256: SHA, parts: 2 })),
        ...[0, 1].map((offset) => encodePart({ offset, size: 1, sha256: SHA, pack: ID, entry: `${name}${offset}` })),
      ]),
    ];
    writeFileSync(from, lines.join(''));
    const to = path.join(directory, 'share');
    const content = await writeShare(from, to, { size: 0.5, from: 0 });
    const chosen = files.filter((name) => isInShare(name, { size: 0.5, from: 0 }));
    const read = await all(readIndexFileLines(to));
    expect(read.filter(({ type }) => type === 'file').map((line) => line.path)).toEqual(chosen);
    expect(read.filter(({ type }) => type === 'part')).toHaveLength(2 * chosen.length);
    expect(content).toEqual({
      ...{ files: chosen.length, symlinks: 0, directories: 1, bytes: 2 * chosen.length, stored: 2 * chosen.length },
      whole: { files: files.length, bytes: 2 * files.length },
    });
    expect(chosen.length).toBeGreaterThan(0);
    expect(chosen.length).toBeLessThan(files.length);
  });

  test('has a hard link if it has the file', async () => {
    const from = path.join(directory, 'index');
    const files = Array.from({ length: 20 }, (_, i) => `a${String(i).padStart(2, '0')}`);
    const links = files.map((target) =>
      entry(`b${target}`, { type: 'hardlink', target, size: 1, sha256: SHA, pack: ID, entry: target }),
    );
    const root = entry('', { type: 'directory' });
    writeFileSync(from, [root, ...files.map((name) => entry(name)), ...links].map(encodeIndexEntry).join(''));
    const to = path.join(directory, 'share');
    const content = await writeShare(from, to, { size: 0.5, from: 0.5 });
    const read = (await all(readIndexFileLines(to))).filter(({ type }) => type !== 'directory');
    const names = read.flatMap((line) => (line.type === 'file' ? [line.path] : []));
    expect(read.flatMap((line) => (line.type === 'hardlink' ? [line.target] : []))).toEqual(names);
    expect(content).toMatchObject({ files: 2 * names.length, symlinks: 0, bytes: names.length });
  });

  test('needs no room for the holes of sparse files', async () => {
    const from = path.join(directory, 'from.ndjson');
    const ranges = [0, 4096, 1_000_000, 8192];
    const image = entry('disk.img', { type: 'file', size: 500_000_000, sha256: SHA, parts: 2, sparse: true, ranges });
    const parts = [
      { offset: 0, size: 4096 },
      { offset: 1_000_000, size: 8192 },
    ].map((part) => encodePart({ ...part, sha256: SHA, pack: ID, entry: `part ${part.offset}` }));
    const root = encodeIndexEntry(entry('', { type: 'directory' }));
    writeFileSync(
      from,
      `${root}${encodeIndexEntry(image)}${parts.join('')}${encodeIndexEntry(entry('plain', { size: 10 }))}`,
    );
    const content = await writeShare(from, path.join(directory, 'to.ndjson'), { size: 1, from: 0 });
    expect(content).toMatchObject({ bytes: 500_000_010, stored: 4096 + 8192 + 10 });
  });
});
