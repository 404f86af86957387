import { expect, test } from 'vitest';
import {
  archiveProblem,
  type ReplicationFacts,
  replicationProblem,
} from '../../../../src/sources/postgres/wal/replication.ts';

const STOCK: ReplicationFacts = {
  systemId: '7713464397883531290',
  segmentSize: 16 * 1024 * 1024,
  walLevel: 'replica',
  maxSenders: 10,
  freeSenders: 10,
  freeSlots: 10,
  mayReplicate: true,
  mayWatch: true,
  role: 'postgres',
  inRecovery: false,
  isArchivingStuck: false,
  tablespaces: [],
};

test('a stock server can be recovered to a point in time', () => {
  expect(replicationProblem(STOCK, false)).toBeUndefined();
  expect(replicationProblem({ ...STOCK, walLevel: 'logical' }, false)).toBeUndefined();
});

test.each<[string, Partial<ReplicationFacts>, RegExp]>([
  ['wal_level is minimal', { walLevel: 'minimal' }, /ALTER SYSTEM SET wal_level = 'replica'/],
  ['max_wal_senders is 0', { maxSenders: 0, freeSenders: 0 }, /ALTER SYSTEM SET max_wal_senders = 10/],
  ['all WAL senders are taken', { freeSenders: 1 }, /ALTER SYSTEM SET max_wal_senders = 12/],
  ['no slot is free', { freeSlots: 0 }, /max_replication_slots/],
  ['the role may not replicate', { mayReplicate: false, role: 'a"b' }, /ALTER ROLE "a""b" REPLICATION;/],
  ['the role sees too little', { mayWatch: false, role: 'a"b' }, /GRANT pg_monitor TO "a""b";/],
  ['the server is a standby', { inRecovery: true }, /primary/],
  ['there are tablespaces', { tablespaces: ['fast'] }, /pg_default/],
])('%s: the hint repairs it', (_, facts, hint) => {
  const problem = replicationProblem({ ...STOCK, ...facts }, false);
  expect(problem?.code).toBe('PG_REPLICATION');
  expect(problem?.hint).toMatch(hint);
});

test("Lifeboat's own receiver and slot count as free", () => {
  expect(replicationProblem({ ...STOCK, freeSenders: 1, freeSlots: 0 }, true)).toBeUndefined();
});

test('an archive_command that fails keeps base backups from ending, not WAL from being received', () => {
  const stuck = { ...STOCK, isArchivingStuck: true };
  expect(replicationProblem(stuck, false)).toBeUndefined();
  expect(archiveProblem(STOCK)).toBeUndefined();
  expect(archiveProblem(stuck)).toMatchObject({
    code: 'PG_REPLICATION',
    hint: expect.stringContaining('archive_command'),
  });
});
