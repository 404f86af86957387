import path from 'node:path';
import { errorOf } from '../backup/others.ts';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Plan } from '../plan/model.ts';
import { missedRun } from '../plan/values/schedule.ts';
import { copyBehind, copyStateLines } from '../report/copy-text.ts';
import type { RunEvent } from '../report/events.ts';
import { fallText } from '../report/fall.ts';
import { plural } from '../report/format.ts';
import type { Letter, LetterSource } from '../report/letter.ts';
import { lastGoodOf } from '../run/history.ts';
import { listSourceStatuses, type SourceStatus } from '../run/source-status.ts';
import type { State } from '../run/state.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import { isRegular, type Manifest } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { tombstoneIds } from '../store/repository/tombstones.ts';
import { readTargets } from '../targets/collect.ts';
import { targetText } from '../targets/judge.ts';
import { lastMeasured } from '../targets/measured.ts';

/** Dependencies of {@link createLetters}. */
interface LetterDeps {
  project: string;
  /** when to send a letter, a valid schedule */
  schedule: string;
  zone: string;
  state: Pick<State, 'directory' | 'results' | 'accepted' | 'copies' | 'damaged'>;
  /** names of the copies in the settings */
  copies: readonly string[];
  /** Opens the repository; undefined if there is none yet. @throws DEST_* */
  look(): Promise<Repository | undefined>;
  nextRun(plan: Plan): Date;
  emit(event: RunEvent): void;
  log: Log;
  now(): Date;
}

/** The last letter. */
interface Sent {
  /** ISO time */
  at: string;
  /** the number of snapshots that had been removed */
  removed: number;
}

/** Sends the letters. `check` is called each minute, and never rejects. */
export interface Letters {
  check(plan: Plan): Promise<void>;
}

/**
 * Creates the letters of the daemon. The time of the last one is in a file, so a letter that was due while the agent
 * was down is sent at its next start. If the destination cannot be read, the letter waits for it.
 */
export function createLetters(deps: LetterDeps): Letters {
  const { state, schedule, zone, emit, log, now } = deps;
  const file = path.join(state.directory, 'letter.json');
  let checking: Promise<void> | undefined;

  async function send(plan: Plan): Promise<void> {
    const last = await readJson<Sent>(file);
    const at = now();
    if (last && missedRun(schedule, zone, new Date(last.at), at) === undefined) return;
    const repository = await deps.look();
    const removed = repository ? (await tombstoneIds(repository)).length : 0;
    // A new installation has nothing to write about.
    if (last) {
      const list = await repository?.snapshots();
      const manifests = (list?.snapshots ?? []).map(({ manifest }) => manifest);
      const letter = await writeLetter(deps, { plan, manifests, unreadable: list?.damaged.length ?? 0, last, removed });
      emit({ type: 'letter', letter });
    }
    await writeJson(file, { at: at.toISOString(), removed } satisfies Sent);
  }

  return {
    check(plan) {
      checking ??= send(plan)
        .catch((error: unknown) => log.warn('the letter cannot be written yet', { ...errorInfo(error) }))
        .finally(() => {
          checking = undefined;
        });
      return checking;
    },
  };
}

interface Found {
  plan: Plan;
  /** newest first */
  manifests: readonly Manifest[];
  /** snapshots that cannot be used */
  unreadable: number;
  last: Sent;
  removed: number;
}

async function writeLetter(deps: LetterDeps, found: Found): Promise<Letter> {
  const { project, zone, state, now } = deps;
  const { plan, manifests, unreadable, last, removed } = found;
  const at = now();
  const [results, accepted, damaged] = await Promise.all([state.results(), state.accepted(), state.damaged()]);
  const statuses = listSourceStatuses({ plan, manifests, results, accepted, damaged, zone, now: at });
  const targets = await readTargets({ plan, directory: state.directory, manifests }, at);
  const measured = await lastMeasured(state.directory);
  const known = await state.copies();
  const copies = deps.copies.map((name) => ({ name, ...known[name] }));
  return {
    project,
    from: last.at,
    to: at.toISOString(),
    sources: statuses.map(({ name }) => {
      const restored = measured[name];
      return { ...historyOf(name, manifests, last.at), ...(restored ? { restored } : {}) };
    }),
    pruned: Math.max(0, removed - last.removed),
    snapshots: manifests.length,
    copies: copyStateLines(
      copies.filter(({ behindSince }) => behindSince === undefined),
      at,
    ).map((line) => line.trim()),
    needs: [
      ...statuses.flatMap((status) => needOf(status, at)),
      ...targets.flatMap((one) =>
        one.targets.flatMap((target) => (target.met === false ? [`${one.name}: ${targetText(target, at)}`] : [])),
      ),
      ...copies.flatMap((copy) => (copy.behindSince === undefined ? [] : [copyBehind(copy, at)])),
      ...(unreadable > 0 ? [`${plural(unreadable, 'snapshot')} cannot be used`] : []),
    ],
    nextRun: deps.nextRun(plan).toISOString(),
  };
}

/** Returns what the snapshots say about a source since the last letter. */
function historyOf(name: string, manifests: readonly Manifest[], from: string): LetterSource {
  const own = manifests.filter((one) => isRegular(one) && one.sources[name] !== undefined);
  const fresh = own.filter(({ end }) => end > from);
  const good = fresh.filter((one) => one.sources[name]?.status === 'ok').length;
  const [now, before] = [lastGoodOf(own, name), lastGoodOf(own.slice(fresh.length), name)];
  return {
    name,
    good,
    bad: fresh.length - good,
    newBytes: fresh.reduce((sum, one) => sum + (one.sources[name]?.newBytes ?? 0), 0),
    ...(now ? { bytes: now.entry.bytes, lastGood: now.at } : {}),
    ...(before ? { bytesBefore: before.entry.bytes } : {}),
  };
}

/** Returns what a person has to do about a source, in one line. */
function needOf(status: SourceStatus, now: Date): string[] {
  const { name, attention, fell } = status;
  const error = errorOf(status);
  const why = error === undefined ? '' : `: ${error.message} (${error.code})`;
  const words = {
    failed: `failed${why}`,
    partial: `partly failed${why}`,
    late: 'was not backed up at its last two scheduled times',
    vanished: `no longer exists${why}`,
    fell: `lost data: ${fell ? fallText(fell, now) : ''}`,
    ahead: 'its newest snapshot is dated in the future',
    damaged: 'its last good snapshot is damaged',
    never: undefined,
  };
  const what = attention === null ? undefined : words[attention];
  return what === undefined ? [] : [`${name}: ${what}`];
}
