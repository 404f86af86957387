import path from 'node:path';
import { EXIT } from '../base/exit.ts';
import { type CheckResult, check } from '../check/check.ts';
import type { NeededKey } from '../check/keys.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import { formatBytes, formatCount, plural } from '../report/format.ts';
import { shellWord } from '../report/restore-command.ts';
import { createMeterLine } from '../report/terminal/progress.ts';
import { SPOOL } from '../run/mounts.ts';
import { describeKey, knownRecipients } from '../run/remembered.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import { rememberedIn } from '../wal/receiver-state.ts';
import { bucketProblems } from './bucket.ts';
import { type Call, print } from './call.ts';

/**
 * `lifeboat check`. Exit status: 0 undamaged, 3 a part can still be restored, 1 nothing can be restored. An interrupted
 * check remembers and prints what it has found.
 */
export async function checkRepository(call: Call): Promise<number> {
  const { app, io, options, json } = call;
  const wanted = options.readData;
  const readData = wanted === true ? 1 : typeof wanted === 'number' ? wanted : 0;
  const repository = await app.repository({ create: false });
  // The remembered position belongs to the destination.
  const after = readData < 1 && !app.otherRepository ? await app.state.checkedTo() : undefined;
  const line = createMeterLine(json ? undefined : io.terminal, 'reading');
  const result = await check(repository, {
    readData,
    spool: path.join(SPOOL, 'runs'),
    signal: io.signal,
    progress: (done, total) => line.show(done, total),
    ...(after === undefined ? {} : { after }),
    ...(app.otherRepository ? {} : { remembered: rememberedIn(app.state.directory) }),
  });
  line.clear();
  if (readData > 0 && readData < 1 && !app.otherRepository) await app.state.saveCheckedTo(result.next);
  if (!app.otherRepository) await rememberDamaged(call, result, readData);
  const recipients = await knownRecipients(app.state.directory).catch(() => ({}));
  const keys = result.keys.map((key) => ({ ...key, ...what(key.id, app.settings.keys, recipients) }));
  const rules = app.otherRepository || io.signal.aborted ? [] : await bucketProblems(app.settings, io.env);
  print(call, 'check', { ...result, keys, rules }, () =>
    [
      renderCheck({ ...result, keys }, app.otherRepository, app.settings.copies),
      ...rules.flatMap((one) => [`! ${one.message} (${one.code})`, `  ${one.hint}`]),
    ].join('\n'),
  );
  return exitStatusOf(result, rules.length);
}

function what(id: string | undefined, ...known: [SealKeys, Record<string, string[]>]): { standsFor?: string } {
  const standsFor = id === undefined ? undefined : describeKey(id, ...known);
  return standsFor === undefined ? {} : { standsFor };
}

/** Says which keys the snapshots need, and what each id stands for. */
export function keyLines(keys: readonly (NeededKey & { standsFor?: string })[]): string[] {
  return keys.flatMap(({ encryption, id, snapshots, standsFor }) => {
    const key = `${encryption} key${id === undefined ? '' : ` ${id}`}`;
    const needed = `  ${key}: needed by ${plural(snapshots.length, 'snapshot')}, the newest ${snapshots[0]}`;
    if (standsFor !== undefined) return [needed, `    ${standsFor}`];
    return encryption === 'age' && id !== undefined ? [needed, `    ${COMPUTE_ID}`] : [needed];
  });
}

const COMPUTE_ID =
  'its public key is not known here; to get the id of a public key: `printf %s age1… | sha256sum | cut -c1-8`';

/**
 * Returns the exit status of a check.
 *
 * @param rules number of lifecycle rules of buckets that would remove backups
 */
export function exitStatusOf(result: CheckResult, rules: number): number {
  if (result.snapshots === 0 && result.manifests.length === 0) return EXIT.nothing;
  if (result.stopped) return result.stopped.code === 'INTERRUPTED' ? EXIT.interrupted : EXIT.failed;
  if (rules > 0 && result.usable) return EXIT.partial;
  const whole = [result.damaged, result.unread, result.manifests, result.records].every(({ length }) => length === 0);
  if (whole) return EXIT.done;
  return result.usable ? EXIT.partial : EXIT.failed;
}

/**
 * Remembers damaged objects. A flipped bit does not change the size, so the next backup would refer to the object
 * again.
 */
async function rememberDamaged({ app }: Call, result: CheckResult, readData: number): Promise<void> {
  const { damaged, unread, stopped } = result;
  const known = await app.state.damaged();
  // A check that reads everything replaces all earlier results.
  const before = readData >= 1 && !stopped && unread.length === 0 ? [] : known;
  const keys = [...new Set([...before, ...damaged.map(({ key }) => key)])];
  if (known.length > 0 || keys.length > 0) await app.state.saveDamaged(keys);
}

function signatureLines({ snapshots, signatures: { checked, signed, unsigned, keys } }: CheckResult): string[] {
  if (!checked) {
    if (signed === 0) return [];
    return [
      `${formatCount(signed)} signed with ${keys.map((key) => `key ${key}`).join(', ')}: not checked (LIFEBOAT_SIGNING_KEY is not set)`,
    ];
  }
  if (snapshots === 0) return [];
  const lines = [`${formatCount(signed)} of ${plural(snapshots, 'snapshot')} signed, with valid signatures`];
  if (unsigned.length > 0) {
    const some = unsigned.slice(0, 3).join(', ') + (unsigned.length > 3 ? ', …' : '');
    lines.push(`Not signed, because they are older than the key: ${some}. Restore them with --unsigned.`);
  }
  return lines;
}

/** Says what can still be restored of each source. A whole snapshot is one that holds the whole source. */
export function restorableLines({ restorable, whole }: Pick<CheckResult, 'restorable' | 'whole'>): string[] {
  return Object.entries(restorable).map(([source, id]) => {
    const wholeId = whole[source] ?? null;
    const best = wholeId === null ? 'no whole snapshot is left' : `newest whole snapshot is ${wholeId}`;
    if (id === null || id === wholeId) return `  ${source}: ${best}`;
    return `  ${source}: ${best}; newest (partly failed) snapshot is ${id}`;
  });
}

function renderCheck(result: CheckResult, otherRepository: boolean, copies: readonly { name: string }[]): string {
  const { snapshots, objects, bytes, bytesRead, damaged, unread, stopped, manifests, affected } = result;
  const read = bytesRead > 0 ? `${formatBytes(bytesRead)} read and hashed` : 'content not read (use --read-data)';
  const lines = [`${plural(snapshots, 'snapshot')}, ${plural(objects, 'object')}, ${formatBytes(bytes)} · ${read}`];
  lines.push(...signatureLines(result));
  lines.push(...keyLines(result.keys));
  if (result.ahead.length > 0) {
    const ids = result.ahead.join(', ');
    lines.push(`Dated in the future, because a clock was wrong: ${ids}. The order of the snapshots is not affected.`);
  }
  for (const { error } of result.records) lines.push(`! ${error.message} (${error.code})`, `  ${error.hint}`);
  for (const { error } of groupDamaged(manifests.map(({ snapshot: id, error }) => ({ id, error })))) {
    lines.push(`! ${error.message} (${error.code})`, ...(error.hint ? [`  ${error.hint}`] : []));
  }
  for (const { error } of [...damaged, ...unread]) lines.push(`! ${error.message} (${error.code})`);
  for (const { snapshot, source, extent, files, unknown, examples } of affected) {
    const what =
      extent === 'whole'
        ? 'cannot be restored'
        : unknown
          ? `some of ${plural(files, 'file')} cannot be restored (set a key to see which)`
          : `${plural(files, 'file')} cannot be restored: ${examples.join(', ')}${files > examples.length ? ', …' : ''}`;
    lines.push(`  ${snapshot} ${source}: ${what}`);
  }
  if (unread.length > 0) {
    const hint = unread[0]?.error.hint;
    lines.push(
      `  ${plural(unread.length, 'object')} could not be read now. That does not mean damage.${hint ? ` ${hint}` : ''}`,
    );
  }
  if (stopped) {
    lines.push(`! the rest could not be checked: ${stopped.message} (${stopped.code})`);
    if (stopped.hint) lines.push(`  ${stopped.hint}`);
  }
  if (damaged.length === 0 && manifests.length === 0) {
    const isClean = !stopped && unread.length === 0 && result.records.length === 0;
    return (isClean ? [...lines, 'No problem found.'] : lines).join('\n');
  }
  // A check that ended early does not know which snapshots the damage affects.
  if (!stopped) lines.push(...restorableLines(result));
  if (otherRepository) {
    // The destination may have lost the same objects: only its own check can tell.
    const repair =
      'If `lifeboat check` finds no problem at the destination, delete the damaged objects here. `lifeboat copy` then stores them again.';
    return [...lines, ...(damaged.length > 0 ? [repair] : [])].join('\n');
  }
  // Nothing is damaged: the key is missing here and there.
  const unknown = gapsOfMissingKey(manifests);
  if (damaged.length === 0 && manifests.every((one) => isAboutKey(one) || unknown.includes(one)))
    return [...lines, ...repairLines(result, copies)].join('\n');
  const elsewhere = copies.map(({ name }) => `\`--from ${shellWord(name)}\``).join(' or ');
  if (elsewhere !== '') lines.push(`A copy may have the data: restore with ${elsewhere}.`);
  lines.push(...repairLines(result, copies));
  return lines.join('\n');
}

/** Returns true for a sound snapshot whose signature cannot be verified without another key. */
function isAboutKey({ error }: CheckResult['manifests'][number]): boolean {
  return error.code === 'SIGNATURE_KEY';
}

const ADD_KEY =
  'The missing manifests may be those that the missing key signed. Add that key, then run `lifeboat check` again.';

/** Returns the gaps in the chain that may not be gaps: without a key, what it signed cannot be verified. */
function gapsOfMissingKey(manifests: CheckResult['manifests']): CheckResult['manifests'] {
  return manifests.some(isAboutKey) ? manifests.filter(({ error }) => error.code === 'CHAIN_BROKEN') : [];
}

/**
 * Says how to repair the destination. A copy may have what is lost or damaged. A backup stores damaged content again,
 * but does not bring back a lost snapshot, and does not repair older ones.
 */
export function repairLines(
  { damaged, manifests, affected, whole }: Pick<CheckResult, 'damaged' | 'manifests' | 'affected' | 'whole'>,
  copies: readonly { name: string }[],
): string[] {
  const unknown = gapsOfMissingKey(manifests);
  const lost = manifests.filter((one) => one.error.code === 'CHAIN_BROKEN' && !unknown.includes(one));
  const from = copies.map(({ name }) => `\`lifeboat copy --from ${shellWord(name)}\``).join(' or ');
  const what = [...(lost.length > 0 ? ['lost snapshots'] : []), ...(damaged.length > 0 ? ['damaged objects'] : [])];
  const again = 'Back up now: the next backup stores the damaged content again. Keep the damaged snapshots until then.';
  const stored =
    'The newest snapshots hold the damaged content again. Older ones stay damaged until retention removes them.';
  const others = manifests.some((one) => one.error.code !== 'CHAIN_BROKEN' && !isAboutKey(one));
  const isStored = affected.length > 0 && affected.every(({ source, snapshot }) => (whole[source] ?? '') > snapshot);
  return [
    ...(unknown.length > 0 ? [ADD_KEY] : []),
    ...(what.length > 0 && from !== '' ? [`To bring back ${what.join(' and ')} that a copy has: ${from}.`] : []),
    ...(damaged.length > 0 || others ? [isStored && !others ? stored : again] : []),
  ];
}
