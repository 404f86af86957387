import { redact } from '../base/redact.ts';
import { alarmText } from '../report/alarm.ts';
import { drillText } from '../report/drill-text.ts';
import type { RunReport, SourceReport } from '../report/events.ts';
import { plural } from '../report/format.ts';
import { headline, renderReport } from '../report/text.ts';
import { openDrillMemory } from './drill-memory.ts';
import { isAboutWal } from './healthchecks.ts';
import { createPost, type Post } from './http.ts';
import type { Notifier } from './notifier.ts';
import { createPinger, cutText, type Pinger, type PingTarget } from './ping.ts';

/** Options of {@link createSourceChecks}. `targetOf`: the check of a source, if it has one. */
interface SourceCheckOptions {
  project: string;
  targetOf(source: string): PingTarget | undefined;
  /** the sources that a test pings; the others are known only when a run covers them */
  named: readonly string[];
  zone?: string | undefined;
  post?: Post;
  now?: () => number;
}

/**
 * Pings one check for each source, at the end of each run that covers the source. A source that failed as a part of a
 * run that failed as a whole has failed too. A failure that will be tried again is a log entry.
 */
export function createSourceChecks(options: SourceCheckOptions): Notifier {
  const { project, targetOf, named, zone, post = createPost(), now = Date.now } = options;
  const pingers = new Map<string, Pinger>();
  const pingerOf = (source: string) => {
    const target = targetOf(source);
    if (target && !pingers.has(source)) pingers.set(source, createPinger({ target, post, now: options.now }));
    return pingers.get(source);
  };
  const pingOne = async (report: RunReport, source: string, signal: AbortSignal) => {
    const result = report.results.find(({ name }) => name === source);
    const text = `${headline(report)}\n${renderReport(onlyOf(report, result), { now: new Date(now()), zone, again: true })}`;
    const isGood = result?.status === 'ok';
    const kind = isGood ? 'success' : report.retry?.quiet ? 'log' : 'fail';
    await pingerOf(source)?.ping(kind, (limit) => cutText(redact(text), limit), { signal, rid: report.rid });
  };
  return {
    name: 'healthchecks-sources',
    async handle(event, signal) {
      if (event.type !== 'run-finished') return;
      const { report } = event;
      const missed = report.error ? report.sources : [];
      const names = [...new Set([...report.results.map(({ name }) => name), ...missed])];
      await everyOne(names.map((source) => pingOne(report, source, signal)));
    },
    async test(signal) {
      const text = `${project}: test message from Lifeboat, no backup was made`;
      await everyOne(named.map(async (source) => pingerOf(source)?.ping('log', () => text, { signal })));
      if (named.length === 0) return 'the checks of sources are pinged by their next runs';
      return `${plural(named.length, 'check')} accepted a log entry, which changes no status`;
    },
  };
}

/** Waits for all, so that one check that cannot be pinged keeps no other from its ping. @throws the first error */
async function everyOne(all: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(all)).find((one) => one.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Returns a report about one source only. */
function onlyOf(report: RunReport, result: SourceReport | undefined): RunReport {
  const { others: _, copies: __, pruned: ___, ...rest } = report;
  return { ...rest, results: result ? [result] : [], problems: [] };
}

/** Options of {@link createWalCheck} and {@link createDrillCheck}. */
interface OwnCheckOptions {
  target: PingTarget;
  project: string;
  /** of the state: there it remembers which sources failed in drills; default: only in memory */
  directory?: string | undefined;
  post?: Post;
  now?: () => number;
}

/**
 * Pings a check that is up while all WAL is received: a success every few minutes, a failure with each alarm. The check
 * therefore also notices that the agent is gone.
 */
export function createWalCheck({ target, project, post = createPost(), now }: OwnCheckOptions): Notifier {
  const pinger = createPinger({ target, post, now });
  return {
    name: 'healthchecks-wal',
    async handle(event, signal) {
      if (event.type === 'wal-seen') {
        const { sources, failing } = event;
        const bad = failing.length > 0;
        const text = bad ? `not received: ${failing.join(', ')}` : `received: ${sources.join(', ')}`;
        const body = (limit: number) => cutText(redact(`${project}: WAL ${text}`), limit);
        await pinger.ping(bad ? 'fail' : 'success', body, { signal });
      } else if (event.type === 'alarms') {
        const begun = event.alarms.filter(({ topic, over }) => isAboutWal(topic) && !over);
        if (begun.length === 0) return;
        await pinger.ping('fail', (limit) => cutText(begun.map(alarmText).join('\n'), limit), { signal });
      }
    },
    async test(signal) {
      await pinger.ping('log', () => `${project}: test message from Lifeboat`, { signal });
      return 'the check of the write-ahead log accepted a log entry, which changes no status';
    },
  };
}

/**
 * Pings a check that is up while drills succeed: a failure for a bad drill, and a success for a good one, unless
 * another source still fails. Then, and after a drill that was interrupted or proved only a part, the ping is a log
 * entry, unless it ends a failure. The check therefore also notices that drills do not run any more.
 */
export function createDrillCheck({ target, project, directory, post = createPost(), now }: OwnCheckOptions): Notifier {
  const pinger = createPinger({ target, post, now });
  const memory = openDrillMemory('healthchecks-drill', directory);
  return {
    name: 'healthchecks-drill',
    async handle(event, signal) {
      if (event.type !== 'drill-finished') return;
      const { status } = event.report;
      const { before, failing } = await memory.note(event.report);
      const isOver = failing.length === 0 && (status === 'ok' || before.length > 0);
      const kind = status === 'failed' ? 'fail' : isOver ? 'success' : 'log';
      await pinger.ping(kind, (limit) => cutText(redact(drillText(event.report)), limit), { signal });
    },
    async test(signal) {
      await pinger.ping('log', () => `${project}: test message from Lifeboat`, { signal });
      return 'the check of drills accepted a log entry, which changes no status';
    },
  };
}
