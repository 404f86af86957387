import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { endJournals } from '../../src/restore/end-journal.ts';
import { Journal, readJournal } from '../../src/run/journal.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-end-journal-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const journalOf = (id: string) => new Journal(directory, { type: 'start', verb: 'restore', id });
const container = { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' };
const stop = { type: 'stop' as const, container, startedAt: '2026-11-20T03:00:00Z', at: '2026-11-20T03:00:00Z' };

test('one recovery ends all journals with open work, also those that it removes itself', async () => {
  const [done, open, group] = ['a', 'b', 'c'].map(journalOf) as [Journal, Journal, Journal];
  for (const journal of [open, group]) journal.record({ ...stop, timeout: 10, until: '2026-11-20T03:01:00Z' });
  const seen: string[][] = [];
  const recover = async () => {
    for (const { file } of [open, group]) {
      seen.push((await readJournal(file)).map(({ type }) => type));
      rmSync(file);
    }
  };
  await endJournals({ recover }, [done, open, group], { aborted: true });
  expect(seen).toEqual([
    ['start', 'stop', 'reported'],
    ['start', 'stop', 'reported'],
  ]);
  expect(existsSync(done.file)).toBe(false);
});

test('a source with open work counts as reported before the journal of its group is removed', async () => {
  const [open, group] = ['a', 'b'].map(journalOf) as [Journal, Journal];
  open.record({ ...stop, timeout: 10, until: '2026-11-20T03:01:00Z' });
  const close = group.close.bind(group);
  group.close = async () => {
    expect((await readJournal(open.file)).at(-1)?.type).toBe('reported');
    await close();
  };
  await endJournals({ recover: async () => undefined }, [open, group], { aborted: false });
  expect(existsSync(group.file)).toBe(false);
});

test('without open work, nothing is recovered', async () => {
  const journal = journalOf('a');
  await endJournals({ recover: () => expect.fail('there is nothing to recover') }, [journal], { aborted: false });
  expect(existsSync(journal.file)).toBe(false);
});

test('after an interrupt, nobody waits for what the next recovery computes again', async () => {
  const dependents = { type: 'dependents' as const, source: 'db.postgres', target: 'app', oid: '7' };
  const [interrupted, failed] = ['a', 'b'].map(journalOf) as [Journal, Journal];
  for (const journal of [interrupted, failed]) journal.record(dependents);
  await endJournals({ recover: () => expect.fail('this may take half an hour') }, [interrupted], { aborted: true });
  expect((await readJournal(interrupted.file)).map(({ type }) => type)).toEqual(['start', 'dependents', 'reported']);
  let recovered = false;
  const recover = async () => {
    recovered = true;
  };
  await endJournals({ recover }, [failed], { aborted: false });
  expect(recovered).toBe(true);
});
