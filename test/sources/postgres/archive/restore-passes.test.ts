import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ArchiveEntry, readArchive } from '../../../../src/sources/postgres/archive/archive.ts';
import { inStages, listedIds, passesFor } from '../../../../src/sources/postgres/archive/restore-passes.ts';

const entry = (dumpId: number, kind: string, ...dependencies: number[]): ArchiveEntry => ({
  dumpId,
  kind,
  section: 'post-data',
  schema: 'public',
  tag: `${kind} ${dumpId}`,
  definition: '',
  dependencies,
  file: '',
});

describe('the calls of pg_restore', () => {
  const plain = [entry(1, 'TABLE'), entry(2, 'TABLE DATA', 1)];
  const partitioned = [...plain, entry(3, 'TABLE'), entry(4, 'TABLE ATTACH', 1, 3)];

  it.each([
    ['nothing', []],
    ['a trigger on a table with rows', [...plain, entry(9, 'TRIGGER', 1)]],
    ['a trigger on a view', [...plain, entry(3, 'VIEW', 1), entry(9, 'TRIGGER', 3)]],
    ['a partitioned table', [...partitioned, entry(9, 'TRIGGER', 1)]],
  ])('are one for %s', (_, entries) => {
    expect(passesFor(entries)).toEqual([undefined]);
    expect(passesFor(entries, [1, 2])).toEqual([[1, 2]]);
  });

  it.each(['TRIGGER', 'FK CONSTRAINT'])('are two for a %s of a partitioned table', (kind) => {
    const entries = [
      ...partitioned,
      entry(5, 'ACL', 1),
      entry(6, 'INDEX', 1),
      entry(7, 'EVENT TRIGGER'),
      entry(8, 'TRIGGER', 1),
      entry(9, kind, 3, 12),
      entry(10, 'COMMENT', 9),
    ];
    expect(passesFor(entries)).toEqual([
      [1, 2, 3, 4, 6, 8],
      [5, 7, 9, 10],
    ]);
    expect(passesFor(entries, [1, 2, 3, 9])).toEqual([[1, 2, 3], [9]]);
    expect(passesFor(entries, [1, 2])).toEqual([[1, 2]]);
  });

  it.each([13, 17])('are two for a dump of Postgres %i whose partitioned table has a trigger', (version) => {
    const entries = readArchive(readFileSync(path.join(import.meta.dirname, `../dumps/${version}.toc.dat`)));
    const filled = entries.filter(({ kind }) => kind === 'TABLE DATA').flatMap(({ dependencies }) => dependencies);
    const parent = entries.find(({ kind, dumpId }) => kind === 'TABLE' && !filled.includes(dumpId));
    expect(parent?.definition).toContain('PARTITION BY');
    const [rows, rest] = passesFor([...entries, entry(99_999, 'TRIGGER', parent?.dumpId as number)]);
    expect(rest).toContain(99_999);
    expect([...(rows ?? []), ...(rest ?? [])].toSorted((a, b) => a - b)).toEqual(
      [...entries.map(({ dumpId }) => dumpId), 99_999].toSorted((a, b) => a - b),
    );
  });

  it('attach foreign partitions after all rows, and create event triggers after everything else', () => {
    const entries = [
      ...partitioned,
      entry(5, 'FOREIGN TABLE'),
      entry(6, 'TABLE ATTACH', 5, 3),
      entry(7, 'MATERIALIZED VIEW DATA', 3),
      entry(8, 'EVENT TRIGGER', 1),
      entry(9, 'COMMENT', 8),
      entry(10, 'ACL', 1),
    ];
    expect(inStages(entries, passesFor(entries))).toEqual([
      { ids: [1, 2, 3, 4, 5, 10], stage: 'load' },
      { ids: [6], stage: 'attach' },
      { ids: [7], stage: 'refresh' },
      { ids: [8, 9], stage: 'events' },
    ]);
    expect(inStages(entries, passesFor(entries, [1, 2, 9, 8]))).toEqual([
      { ids: [1, 2], stage: 'load' },
      { ids: [9, 8], stage: 'events' },
    ]);
    // As pg_dump 13 writes it.
    const definition = 'CREATE FOREIGN TABLE f (); ALTER TABLE ONLY o ATTACH PARTITION f FOR VALUES IN (1);';
    const old = [...partitioned, { ...entry(5, 'FOREIGN TABLE', 3), definition }, entry(6, 'ACL', 5)];
    expect(inStages(old, passesFor(old))).toEqual([
      { ids: [1, 2, 3, 4], stage: 'load' },
      { ids: [5, 6], stage: 'attach' },
    ]);
  });

  it('take ids from the list of pg_restore', () => {
    const list =
      ';\n; Archive created\n;     dbname: app\n3367; 0 16385 TABLE DATA public orders app\n7; 1259 1 TABLE public x app\n';
    expect(listedIds(list)).toEqual([3367, 7]);
  });

  it('change triggers of a foreign partition after it is attached, which creates them', () => {
    const entries = [entry(1, 'TABLE'), entry(2, 'FOREIGN TABLE'), entry(3, 'TRIGGER', 1), entry(4, 'TRIGGER', 2)];
    expect(inStages(entries, [undefined])).toEqual([
      { ids: [1, 2, 3], stage: 'load' },
      { ids: [4], stage: 'attach' },
    ]);
  });
});
