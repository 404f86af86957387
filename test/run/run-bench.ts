import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { backup } from '../../src/backup/backup.ts';
import type { BackupDeps, BackupRequest } from '../../src/backup/context.ts';
import type { Captured } from '../../src/backup/outcome.ts';
import { silentLog } from '../../src/base/log.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import type { Plan } from '../../src/plan/model.ts';
import { createDispatcher } from '../../src/report/dispatch.ts';
import type { RunEvent, RunReport } from '../../src/report/events.ts';
import { openState } from '../../src/run/state.ts';
import { takeLease } from '../../src/store/repository/lease.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { makeResult } from '../report/fixtures.ts';
import { noSightings, scratchBase } from '../store/helpers.ts';

/** Options of a run that differ from the defaults. */
export interface Over extends Partial<BackupDeps> {
  keys?: string[];
  during?: () => Promise<void>;
  /** stores an object, and announces its key */
  stores?: (record: (key: string) => void) => Promise<void>;
  /** the source fails */
  fails?: Captured['report'];
  /** default: `schedule` */
  trigger?: BackupRequest['trigger'];
  /** see {@link BackupRequest} */
  request?: Partial<Omit<BackupRequest, 'begun' | 'trigger'>>;
  /** keeps the index of the source; called after the commit */
  keepIndex?: () => Promise<void>;
}

/** A repository on disk, and runs of several agents on it. Only the sources and the clock are simulated. */
export class RunBench {
  readonly root = mkdtempSync(join(scratchBase, 'lifeboat-runs-'));
  /** the events, in order */
  readonly done: string[] = [];
  readonly plan = {
    project: 'shop',
    problems: [],
    sources: [{ name: 'config', kind: 'files', schedule: '0 3 * * *', root: '/config', keep: { last: 1 } }],
  } as unknown as Plan;
  /** time of the clock of all agents */
  now = new Date('2026-11-20T03:00:00Z');

  /** the reports of the runs, in order */
  readonly reports: RunReport[] = [];

  private heard(event: RunEvent): void {
    this.done.push(event.type);
    if (event.type === 'run-finished') this.reports.push(event.report);
  }

  later(ms: number): Date {
    this.now = new Date(this.now.getTime() + ms);
    return this.now;
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  destination() {
    return createLocalDestination({ root: this.root });
  }

  open(signingKeys: string[] = []) {
    return openRepository(this.destination(), { project: 'shop', create: true, keys: {}, signingKeys });
  }

  leaseOf(home: string) {
    const at = { destination: this.destination(), project: 'shop', home, holder: home, log: silentLog };
    return takeLease({ ...at, sightings: noSightings, now: () => this.now });
  }

  state(agent: string) {
    return openState(join(this.root, `.${agent}`, 'state'));
  }

  /** Returns the ids of the snapshots, newest first. */
  async ids(): Promise<string[]> {
    return (await (await this.open()).snapshots()).snapshots.map(({ manifest }) => manifest.id);
  }

  run(agent: string, over: Over = {}) {
    const { keys: signingKeys, during, stores, fails, trigger = 'schedule', keepIndex, request, ...rest } = over;
    const directory = join(this.root, `.${agent}`);
    const deps: BackupDeps = {
      ...{ project: 'shop', agentVersion: '0', destination: '/backups', agentId: '', zone: 'UTC', log: silentLog },
      lock: async () => ({ release: async () => void this.done.push('unlocked') }),
      journals: join(directory, 'journals'),
      spool: join(directory, 'runs'),
      state: this.state(agent),
      dispatcher: createDispatcher([{ name: 'test', handle: async (event) => this.heard(event) }], {
        log: silentLog,
      }),
      now: () => this.now,
      recover: async () => undefined,
      clear: async () => undefined,
      sweepTemporary: async () => undefined,
      plan: async () => this.plan,
      repository: () => this.open(signingKeys),
      lease: () => this.leaseOf(agent),
      look: () => this.open(signingKeys),
      holdDeps: () => expect.fail('nothing is held'),
      capturer: ({ journal }) => ({
        async capture() {
          await during?.();
          await stores?.((key) => journal.record({ type: 'object', key }));
          const report: Captured['report'] =
            fails ?? makeResult({ name: 'config', kind: 'files', bytes: 1, newBytes: 1 });
          const { fell: _, ...entry } = report;
          return { report, entry: { ...entry, skipped: {} }, ...(keepIndex ? { keepIndex } : {}) };
        },
        failed: () => expect.fail('not asked for'),
      }),
      nextRun: () => undefined,
      highestCopied: async () => ({ taken: 0, unknown: [] }),
      copy: async () => [],
      prune: async () => ({ snapshots: 0, objects: 0, bytes: 0 }),
      ...rest,
    };
    return backup(deps, {
      signal: new AbortController().signal,
      ...request,
      trigger,
      begun: () => void this.done.push('begun'),
    });
  }
}
