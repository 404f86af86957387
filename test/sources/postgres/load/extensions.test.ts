import { describe, expect, it } from 'vitest';
import { countDifferences } from '../../../../src/sources/postgres/facts/object-counts.ts';
import { careFor, listWithout } from '../../../../src/sources/postgres/load/extensions.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

function recorder(): { session: Session; ran: string[] } {
  const ran: string[] = [];
  const session = { run: async (sql: string) => void ran.push(sql) } as unknown as Session;
  return { session, ran };
}

describe('the requirements of extensions', () => {
  it('is nothing without such extensions', async () => {
    const { session, ran } = recorder();
    const care = careFor({ name: 'app', extensions: [{ name: 'hstore', version: '1.8', schema: 'public' }] }, 4);
    await care.before(session);
    await care.after(session);
    expect({ ran, jobs: care.jobs, leftOut: care.leftOut, warnings: care.warnings }).toEqual({
      ran: [],
      jobs: 4,
      leftOut: [],
      warnings: [],
    });
  });

  it('are calls of TimescaleDB before and after, in its version and schema, with one worker', async () => {
    const { session, ran } = recorder();
    const care = careFor(
      { name: 'app', extensions: [{ name: 'timescaledb', version: '2.17.2', schema: 'My "ts"' }] },
      4,
    );
    await care.before(session);
    expect(ran).toEqual([
      'CREATE SCHEMA IF NOT EXISTS "My ""ts"""',
      `CREATE EXTENSION timescaledb WITH SCHEMA "My ""ts""" VERSION '2.17.2'`,
      'SELECT "My ""ts""".timescaledb_pre_restore()',
    ]);
    await care.after(session);
    expect(ran.slice(3)).toEqual(['SELECT "My ""ts""".timescaledb_post_restore()']);
    expect(care.jobs).toBe(1);
  });

  it('leave pg_cron and its schema out of the list, and nothing else', () => {
    const kept = [
      ';     TOC Entries: 12',
      '5; 2615 16400 SCHEMA - cronological app',
      '220; 1259 16401 TABLE public cron app',
      '3400; 0 16401 TABLE DATA public cron app',
      '3501; 0 0 ACL - SCHEMA public app',
      '3; 3079 16384 EXTENSION - pg_cron_extra ',
      '',
    ];
    const left = [
      '2; 3079 16385 EXTENSION - pg_cron ',
      '3500; 0 0 COMMENT - EXTENSION pg_cron ',
      '3502; 0 0 ACL - SCHEMA cron app',
      '3401; 0 16390 TABLE DATA cron job app',
      '3402; 0 0 SEQUENCE SET cron jobid_seq app',
      '3300; 3256 16399 POLICY cron job cron_job_policy app',
    ];
    const { leftOut, warnings } = careFor(
      { name: 'app', extensions: [{ name: 'pg_cron', version: '1', schema: 'x' }] },
      2,
    );
    expect(listWithout([...left, ...kept].join('\n'), leftOut)).toBe(kept.join('\n'));
    expect(warnings).toEqual([expect.stringContaining('CREATE EXTENSION pg_cron')]);
  });
});

describe('the comparison of object counts', () => {
  const counts = { constraints: 3, indexes: 2, views: 1, sequences: 0, functions: 5, triggers: 0, policies: 0 };
  it('names counts that are too low or too high', () => {
    const recorded = { objects: counts, extensions: [] };
    expect(countDifferences(recorded, counts)).toEqual([]);
    expect(countDifferences(recorded, { ...counts, constraints: 2, policies: 1 })).toEqual([
      'it has 2 constraints, the snapshot has 3',
      'it has 1 policies, the snapshot has 0',
    ]);
  });
  it('accepts as many missing objects as were left out, and no more', () => {
    const recorded = { objects: { ...counts, indexes: 5 }, extensions: [] };
    const fewer = new Map([['indexes', 1]] as const);
    expect(countDifferences(recorded, { ...counts, indexes: 4 }, fewer)).toEqual([]);
    expect(countDifferences(recorded, { ...counts, indexes: 3 }, fewer)).toEqual([
      'it has 3 indexes, the snapshot has 5',
    ]);
    expect(countDifferences(recorded, { ...counts, indexes: 6 }, fewer)).toEqual([
      'it has 6 indexes, the snapshot has 5',
    ]);
  });
  it('skips snapshots without counts, and TimescaleDB, which has objects of its own', () => {
    expect(countDifferences({ extensions: [] }, counts)).toEqual([]);
    const extensions = [{ name: 'timescaledb' }];
    expect(countDifferences({ objects: counts, extensions }, { ...counts, indexes: 9 })).toEqual([]);
  });
});
