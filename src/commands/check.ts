import path from 'node:path';
import { EXIT } from '../base/exit.ts';
import { type CheckResult, check } from '../check/check.ts';
import { formatBytes, formatCount, plural } from '../report/format.ts';
import { createMeterLine } from '../report/meter-line.ts';
import { SPOOL } from '../run/mounts.ts';
import { bucketProblems } from './bucket.ts';
import { type Call, print } from './call.ts';

/** `lifeboat check`: 0 whole, 3 when part of it can still be restored, 1 when nothing can. */
export async function checkRepository(call: Call): Promise<number> {
  const { app, io, options, json } = call;
  const wanted = options.readData;
  const readData = wanted === true ? 1 : typeof wanted === 'number' ? wanted : 0;
  const repository = await app.repository({ create: false });
  // What is remembered is about the destination.
  const after = readData < 1 && !app.otherRepository ? await app.state.checkedTo() : undefined;
  const line = createMeterLine(json ? undefined : io.terminal, 'reading');
  const result = await check(repository, {
    readData,
    spool: path.join(SPOOL, 'runs'),
    signal: io.signal,
    progress: (done, total) => line.show(done, total),
    ...(after === undefined ? {} : { after }),
  });
  line.clear();
  if (readData > 0 && readData < 1 && !app.otherRepository) await app.state.saveCheckedTo(result.next);
  if (!app.otherRepository) await rememberDamaged(call, result, readData);
  const rules = app.otherRepository ? [] : await bucketProblems(app.settings, io.env);
  print(call, { ...result, rules }, () =>
    [
      renderCheck(result, app.otherRepository, app.settings.copies),
      ...rules.flatMap((one) => [`! ${one.message} (${one.code})`, `  ${one.hint}`]),
    ].join('\n'),
  );
  return statusOf(result, rules.length);
}

/** The exit status of a check. `rules`: how many rules of buckets would take backups away. */
export function statusOf(result: CheckResult, rules: number): number {
  if (result.snapshots === 0 && result.manifests.length === 0) return EXIT.nothing;
  if (result.stopped) return EXIT.failed;
  if (rules > 0 && result.usable) return EXIT.partial;
  const whole = [result.damaged, result.unread, result.manifests, result.records].every(({ length }) => length === 0);
  if (whole) return EXIT.done;
  return result.usable ? EXIT.partial : EXIT.failed;
}

/** A flipped bit leaves the size as it was: without this list the next backup would go on referring to the object. */
async function rememberDamaged({ app }: Call, result: CheckResult, readData: number): Promise<void> {
  const { damaged, unread, stopped } = result;
  const known = await app.state.damaged();
  // A whole reading knows better than any before it.
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
  const lines = [`${formatCount(signed)} of ${plural(snapshots, 'snapshot')} signed, and as they were signed`];
  if (unsigned.length > 0) {
    const some = unsigned.slice(0, 3).join(', ') + (unsigned.length > 3 ? ', …' : '');
    lines.push(`Not signed, from before the key was set: ${some}. A restore of these needs --unsigned.`);
  }
  return lines;
}

/** What is left of each source when something is damaged. Only a snapshot that holds the whole source is called whole. */
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
  const read = bytesRead > 0 ? `${formatBytes(bytesRead)} read and hashed` : 'content not read (--read-data does)';
  const lines = [`${plural(snapshots, 'snapshot')}, ${plural(objects, 'object')}, ${formatBytes(bytes)} · ${read}`];
  lines.push(...signatureLines(result));
  for (const { encryption, id, snapshots } of result.keys) {
    const key = `${encryption} key${id === undefined ? '' : ` ${id}`}`;
    lines.push(`  ${key}: needed by ${plural(snapshots.length, 'snapshot')}, the newest ${snapshots[0]}`);
  }
  if (result.ahead.length > 0) {
    const ids = result.ahead.join(', ');
    lines.push(`Dated in the future, since a clock was wrong: ${ids}. The order of snapshots is not affected.`);
  }
  for (const { error } of result.records) lines.push(`! ${error.message} (${error.code})`, `  ${error.hint}`);
  for (const { error } of manifests) {
    lines.push(`! ${error.message} (${error.code})`, ...(error.hint ? [`  ${error.hint}`] : []));
  }
  for (const { error } of [...damaged, ...unread]) lines.push(`! ${error.message} (${error.code})`);
  for (const { snapshot, source, extent, files, unknown, examples } of affected) {
    const what =
      extent === 'whole'
        ? 'cannot be restored'
        : unknown
          ? `some of ${plural(files, 'file')} cannot be restored; which, its index would say: that takes a key`
          : `${plural(files, 'file')} cannot be restored: ${examples.join(', ')}${files > examples.length ? ', …' : ''}`;
    lines.push(`  ${snapshot} ${source}: ${what}`);
  }
  if (unread.length > 0) {
    const hint = unread[0]?.error.hint;
    lines.push(
      `  ${plural(unread.length, 'object')} could not be read now, which does not make it damaged.${hint ? ` ${hint}` : ''}`,
    );
  }
  if (stopped) {
    lines.push(`! the rest could not be looked at: ${stopped.message} (${stopped.code})`);
    if (stopped.hint) lines.push(`  ${stopped.hint}`);
  }
  if (damaged.length === 0 && manifests.length === 0) {
    const isWell = !stopped && unread.length === 0 && result.records.length === 0;
    return (isWell ? [...lines, 'No problem found.'] : lines).join('\n');
  }
  lines.push(...restorableLines(result));
  if (otherRepository) {
    // Without its own check, the destination may have lost what is damaged here.
    const mend =
      'If `lifeboat check` finds no problem at the destination: delete what is damaged here, and `lifeboat copy` brings it again.';
    return [...lines, ...(damaged.length > 0 ? [mend] : [])].join('\n');
  }
  const elsewhere = copies.map(({ name }) => `\`--from ${name}\``).join(' or ');
  if (elsewhere !== '') lines.push(`A copy may have it: restore with ${elsewhere}.`);
  return [
    ...lines,
    'Back up again now: what is damaged is stored anew. Keep the damaged snapshots until it is done.',
  ].join('\n');
}
