import type { App } from '../app/app.ts';
import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { highestCopied } from '../copy/highest-copied.ts';
import { endRetries } from '../daemon/retries.ts';
import type { Accepted, Loss } from '../plan/accepted.ts';
import type { Plan } from '../plan/model.ts';
import { createDispatcher } from '../report/dispatch.ts';
import { plural } from '../report/format.ts';
import { withoutAccepted } from '../report/tries.ts';
import { lastGoodOf } from '../run/history.ts';
import { listSourceStatuses } from '../run/source-status.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { listEmptied } from '../store/repository/emptied.ts';
import { type Acceptance, shortId } from '../store/repository/repository-info.ts';
import { highestSequence, placeOf, rememberList } from '../store/repository/seen-chain.ts';
import { type Call, print } from './call.ts';

/** `lifeboat accept`: confirms that a source, a copy or the destination changed on purpose. */
export async function accept(call: Call): Promise<number> {
  const { app, operands } = call;
  const source = operands[0] as string;
  if (source === 'destination') return acceptDestination(call);
  if (app.settings.copies.some(({ name }) => name === source)) return acceptCopy(call, source);
  const { snapshots } = await (await app.repository({ create: false })).snapshots(call.io.signal);
  const losses = await findLosses(call, source, snapshots);
  const at = new Date().toISOString();
  const sequence = snapshots[0]?.manifest.sequence ?? 0;
  // A run in progress, or another command, may write the same state.
  const held = await app.lock();
  try {
    const accepted = { ...(await app.state.accepted()), [source]: { at, sequence, losses } };
    await app.state.saveAccepted(accepted);
    await endFailure(app, accepted);
  } finally {
    await held.release();
  }
  const words = losses.map((loss) => LOSS_WORDS[loss]).join(' and ');
  const isStored = lastGoodOf(
    snapshots.map(({ manifest }) => manifest),
    source,
  );
  const kept = isStored ? 'Lifeboat keeps its newest good snapshot.' : 'No snapshot holds it.';
  print(call, 'accept', { accepted: source, losses }, () => `Accepted: ${source} ${words}. ${kept}`);
  return EXIT.done;
}

/**
 * Ends the pending retries that only the accepted failure needed. Reports a run that waited for them, because nobody
 * was notified of it yet, and a monitor waits for the result.
 */
async function endFailure(app: App, accepted: Accepted): Promise<void> {
  const { state, log, now, notifiers, settings } = app;
  const copies = settings.copies.map(({ name }) => name);
  const last = await endRetries({ state, log, now, zone: settings.timeZone, copies }, await app.plan(), accepted);
  if (!last) return;
  const { retry: _, ...report } = withoutAccepted(last, accepted);
  // The results of the sources stay those of their runs.
  await state.saveLastRun(report, { ...report, sources: [], results: [] });
  const dispatcher = createDispatcher(notifiers, { log });
  dispatcher.emit({ type: 'run-finished', report });
  await dispatcher.flush();
}

const LOSS_WORDS: Record<Loss, string> = {
  gone: 'may be gone',
  empty: 'may be empty',
  fall: 'may be smaller than before',
};

/**
 * Returns the losses of a source that can be accepted now. An acceptance in advance would hide the next loss.
 *
 * @throws SOURCE_UNKNOWN, NOTHING_TO_ACCEPT
 */
async function findLosses(
  { app }: Call,
  source: string,
  snapshots: readonly { manifest: Manifest }[],
): Promise<Loss[]> {
  const [plan, results] = await Promise.all([app.plan(), app.state.results()]);
  const manifests = snapshots.map(({ manifest }) => manifest);
  const input = { plan, manifests, results, accepted: {}, zone: app.settings.timeZone, now: app.now() };
  const status = listSourceStatuses(input).find(({ name }) => name === source);
  if (!status) {
    throw new LifeboatError('SOURCE_UNKNOWN', `neither a snapshot nor the plan has a source ${source}`, {
      hint: '`lifeboat plan` and `lifeboat snapshots` list the sources.',
    });
  }
  if (status.stopped !== undefined) {
    throw new LifeboatError(
      'NOTHING_TO_ACCEPT',
      `${status.stopped.container}, the container of ${source}, is only stopped`,
      {
        hint: `Start it with \`${status.stopped.start}\`. If the database is gone for good, remove the container or its label, then run \`lifeboat accept\` again.`,
      },
    );
  }
  const isGone = status.attention === 'vanished';
  const losses: Loss[] = [
    ...(isGone ? (['gone'] as const) : []),
    ...(!isGone && (await isEmpty(app, plan, source)) ? (['empty'] as const) : []),
    ...(status.fell === undefined ? [] : (['fall'] as const)),
  ];
  if (losses.length > 0) return losses;
  throw new LifeboatError('NOTHING_TO_ACCEPT', `${source} is neither gone nor empty nor smaller than before`, {
    hint: 'Run `lifeboat accept` after the change. The next run, `lifeboat plan` and `lifeboat status` say what there is to accept.',
  });
}

async function isEmpty(app: App, plan: Plan, source: string): Promise<boolean> {
  const sources = plan.sources.filter(({ name, kind }) => name === source && kind !== 'postgres');
  const { empty } = await app.probe({ ...plan, sources });
  return empty.includes(source);
}

/**
 * Forgets that the copy was complete, so the next run may fill it again.
 *
 * @throws NOTHING_TO_ACCEPT if the copy is not empty: the acceptance would hide that its disk is missing later
 */
async function acceptCopy(call: Call, name: string): Promise<number> {
  const { state, lock } = call.app;
  const place = call.app.copies.find((one) => one.name === name);
  if (place && !(await place.isEmpty(call.io.signal))) {
    throw new LifeboatError('NOTHING_TO_ACCEPT', `the copy ${name} is not empty`, {
      hint: 'Empty it first, or mount the empty disk and run `docker compose restart lifeboat`.',
    });
  }
  // A run in progress writes the same state.
  const held = await lock();
  try {
    const copies = await state.copies();
    const { complete: _, made: __, ...rest } = copies[name] ?? {};
    await state.saveCopies({ ...copies, [name]: rest });
  } finally {
    await held.release();
  }
  print(
    call,
    'accept',
    { accepted: name },
    () => `Accepted: the copy ${name} may be empty. The next run fills it again.`,
  );
  return EXIT.done;
}

/** Makes the present content of the destination, or an empty place, the repository from now on. */
async function acceptDestination(call: Call): Promise<number> {
  const { copies, lock, own, repository, settings, state, project } = call.app;
  // A run in progress works with the repository that is known.
  const held = await lock();
  try {
    const { info, how } = await own.accept();
    const opened = await repository({ create: false });
    const list = await opened.snapshots(call.io.signal);
    // Before the chain, so that a crash in between repeats this.
    const end = highestSequence(list.snapshots.map(placeOf));
    const copied = await highestCopied({ copies, main: opened, end, state, signal: call.io.signal });
    await state.saveAbandoned(project, copied.taken);
    await state.saveChain(project, rememberList(list, []));
    const emptied = await listEmptied(opened, list.snapshots);
    // The next backup stores again what they held.
    if (emptied.length > 0) await state.saveDamaged([...new Set([...(await state.damaged()), ...emptied])]);
    const { snapshots, damaged } = list;
    const count = snapshots.length + damaged.length;
    const words: Record<Acceptance, string> = {
      found: `holds repository ${shortId(info)} with ${plural(count, 'snapshot')} of this project`,
      created: `was empty and holds the new repository ${shortId(info)}`,
      mended: `has its lifeboat.json again, with ${plural(count, 'snapshot')} of this project`,
    };
    const more = [
      ...(how === 'created' && settings.copies.length > 0 ? [NEW_HAS_COPIES] : []),
      ...(copied.unknown.length > 0 ? [skips(copied.unknown)] : []),
    ];
    print(call, 'accept', { accepted: 'destination', repository: info.id, how, snapshots: count }, () =>
      [`Accepted: ${own.destination.name} ${words[how]}. Backups go there.`, ...more].join('\n'),
    );
    return EXIT.done;
  } finally {
    await held.release();
  }
}

function skips(unknown: readonly string[]): string {
  return `These copies did not answer: ${unknown.join(', ')}. New snapshots skip the numbers that snapshots there may have.`;
}

const NEW_HAS_COPIES =
  'The copies belong to the former repository and refuse this one. Give them empty places. Or empty the destination, and fill it from a copy with `lifeboat copy --from`.';
